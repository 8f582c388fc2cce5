"""Where a person's hands and face are, and what of a picture shows them."""

import torch
from torch import Tensor

from hvg.values.body import BodyMotion
from hvg.values.cameras import Cameras, project

# Side of the square around its middle that is seen, metres: of a hand of .19 m, stretched out any way; of a head of .23 m.
METRES = 0.30
# Pixels from a picture's corner beyond which nothing is looked for.
FARTHEST = 1e6


def middles(body: BodyMotion, close_up: str) -> Tensor:
    """What a close-up (of ``hvg.values.clip.CLOSE_UPS``) of a body (B = 1) shows (T, N, 3), world, metres.

    Of hands the middles, left and right: on from the wrist to the knuckles, or the wrists of a body without knuckles. Of the
    face the middle of the head.
    """
    if close_up == "driving_face":
        return (0.5 * (body.place("head") + body.place("head_top")))[0, :, None]
    sides = []
    for side in ("left", "right"):
        wrist = body.place(f"{side}_wrist")[0]
        known = f"{side}_middle1" in body.joint_names
        sides.append(body.place(f"{side}_middle1")[0] if known else wrist)
    return torch.stack(sides, dim=1)


def close_up_squares(body: BodyMotion, cameras: Cameras, close_up: str) -> tuple[Tensor, Tensor]:
    """Middles (T, N, 2) and sides (T, N), pixels, of the squares of ``METRES`` around what is shown that cameras (T) or (1) see.

    The place of something behind the camera means nothing; it is finite.
    """
    pixels, depth = project(middles(body, close_up), cameras)
    sides = cameras.intrinsics[:, 1, 1, None] * METRES / depth.abs().clamp_min(0.1)
    return pixels.clamp(-FARTHEST, FARTHEST), sides


def close_up_cameras(body: BodyMotion, camera: Cameras, close_up: str, size: int) -> Cameras:
    """Cameras (T, N) at the place of ``camera`` (T) or (1), turned as it is, whose pictures of ``size`` show one of them each.

    They are crops of the camera's picture, as fine as the size wants them, as of ``close_up_squares``.
    """
    pixels, side = close_up_squares(body, camera, close_up)
    zoom = size / side
    steps, count = side.shape
    intrinsics = camera.intrinsics[:, None].expand(steps, count, 3, 3).clone()
    corner = pixels - 0.5 * side[..., None]
    intrinsics[..., :2, 2] = (intrinsics[..., :2, 2] - corner) * zoom[..., None]
    intrinsics[..., 0, 0] *= zoom
    intrinsics[..., 1, 1] *= zoom
    return Cameras(
        world_to_camera=camera.world_to_camera[:, None].expand(steps, count, 4, 4),
        intrinsics=intrinsics,
        image_size=(size, size),
    )
