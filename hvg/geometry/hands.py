"""Where a person's hands are, and what of a picture shows them."""

import torch
from torch import Tensor

from hvg.values.body import BodyMotion
from hvg.values.cameras import Cameras, project

# Side of the square around the middle of a hand that is seen, metres: a hand of .19 m, stretched out any way.
HAND_METRES = 0.30
# Pixels from a picture's corner beyond which nothing is looked for.
FARTHEST = 1e6


def hand_middles(body: BodyMotion) -> Tensor:
    """The middles of the left and the right hand (T, 2, 3) of a body (B = 1), world, metres: on from the wrist to the knuckles.

    Where a body has no knuckles, the wrists.
    """
    sides = []
    for side in ("left", "right"):
        wrist = body.place(f"{side}_wrist")[0]
        known = f"{side}_middle1" in body.joint_names
        sides.append(body.place(f"{side}_middle1")[0] if known else wrist)
    return torch.stack(sides, dim=1)


def hand_squares(body: BodyMotion, cameras: Cameras) -> tuple[Tensor, Tensor]:
    """Middles (T, 2, 2) and sides (T, 2), pixels, of the squares of ``HAND_METRES`` around the hands that cameras (T) or (1) see.

    The place of a hand behind the camera means nothing; it is finite.
    """
    pixels, depth = project(hand_middles(body), cameras)
    sides = cameras.intrinsics[:, 1, 1, None] * HAND_METRES / depth.abs().clamp_min(0.1)
    return pixels.clamp(-FARTHEST, FARTHEST), sides


def hand_cameras(body: BodyMotion, camera: Cameras, size: int) -> Cameras:
    """Cameras (T, 2) at the place of ``camera`` (T) or (1), turned as it is, whose pictures of ``size`` show a hand each.

    They are crops of the camera's picture, as fine as the size wants them, as of ``hand_squares``.
    """
    pixels, side = hand_squares(body, camera)
    zoom = size / side
    steps, hands = side.shape
    intrinsics = camera.intrinsics[:, None].expand(steps, hands, 3, 3).clone()
    corner = pixels - 0.5 * side[..., None]
    intrinsics[..., :2, 2] = (intrinsics[..., :2, 2] - corner) * zoom[..., None]
    intrinsics[..., 0, 0] *= zoom
    intrinsics[..., 1, 1] *= zoom
    return Cameras(
        world_to_camera=camera.world_to_camera[:, None].expand(steps, hands, 4, 4),
        intrinsics=intrinsics,
        image_size=(size, size),
    )
