"""Crops around people in pictures of filmed cameras."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import normalize

from hvg.media.crops import Crop
from hvg.values.body import BodyMotion
from hvg.values.cameras import Cameras, project

# A body's joints lie inside its skin and clothes: metres around them that a crop shows.
_MARGIN = 0.16


def whole_crop(cameras: Cameras, size: tuple[int, int]) -> Crop:
    """The whole picture of cameras, and beside or above it what its shape lacks to that of ``size``."""
    height, width = cameras.image_size
    scale = max(height / size[0], width / size[1])
    tall, wide = scale * size[0], scale * size[1]
    return Crop((width - wide) / 2, (height - tall) / 2, wide, tall, (height, width))


def person_crop(
    cameras: Cameras, joints: Tensor, size: tuple[int, int], distance: float, fov_degrees: float
) -> Crop | None:
    """The crop of ``size``'s shape around a person for all frames; None where no joint is in any picture.

    Its shorter side shows what a camera of ``fov_degrees`` sees ``distance`` metres away, and more where the person moves out
    of that. cameras: (T,) or (1,). joints: (T, J, 3) world, metres.
    """
    pixels, depth = project(joints, cameras)
    height, width = cameras.image_size
    inside = (depth > 0) & (pixels >= 0).all(-1) & (pixels[..., 0] <= width) & (pixels[..., 1] <= height)
    if not bool(inside.any()):
        return None
    ahead = depth > 0
    places, focal = pixels[ahead].double(), float(cameras.intrinsics[..., 1, 1].mean())
    per_metre = focal / float(depth[ahead].double().median())
    low, high = places.amin(0), places.amax(0)
    centre, extent = (low + high) / 2, high - low + 2 * _MARGIN * per_metre
    short = 2 * distance * math.tan(math.radians(fov_degrees) / 2) * per_metre
    scale = max(short / min(size), float(extent[1]) / size[0], float(extent[0]) / size[1])
    # A person in front of the lens makes the crop no larger than what was filmed.
    scale = min(scale, max(height / size[0], width / size[1]))
    tall, wide = scale * size[0], scale * size[1]
    return Crop(float(centre[0]) - wide / 2, float(centre[1]) - tall / 2, wide, tall, (height, width))


def seen_through(cameras: Cameras, crop: Crop, size: tuple[int, int]) -> Cameras:
    """The cameras of a crop's pictures at ``size``."""
    inner = cameras.cropped(crop.top, crop.left, cameras.image_size)
    scale = torch.tensor([size[1] / crop.width, size[0] / crop.height, 1.0])[:, None]
    return Cameras(world_to_camera=inner.world_to_camera, intrinsics=scale * inner.intrinsics, image_size=size)


def facing_view(cameras: Sequence[Cameras], body: BodyMotion) -> int:
    """Number of the camera (1,) that sees a person (T = 1) most from the front, by where hips and spine say they face."""
    left, right, up = (body.place(name)[0, 0] for name in ("left_hip", "right_hip", "neck"))
    front = torch.linalg.cross(left - right, up - (left + right) / 2)
    front = normalize(front * torch.tensor([1.0, 0.0, 1.0]), dim=0)
    seen = [normalize(camera.centers[0] - body.place("pelvis")[0, 0], dim=0) @ front for camera in cameras]
    return int(torch.stack(seen).argmax())
