"""Cameras and their algebra.

Conventions: OpenCV camera axes (x right, y down, z forward); ``world_to_camera`` maps world points in metres to camera
points; the world is y up; ``intrinsics`` are in pixels and the centre of the top left pixel lies at (0.5, 0.5).
"""

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from hvg.core.on_device import constants
from hvg.values.tensors import map_tensors


@dataclass(frozen=True, kw_only=True)
class Cameras:
    """A grid of pinhole cameras that share one image size.

    world_to_camera: (..., 4, 4), metres. intrinsics: (..., 3, 3), pixels. image_size: (height, width), pixels.
    """

    world_to_camera: Tensor
    intrinsics: Tensor
    image_size: tuple[int, int]

    @property
    def shape(self) -> torch.Size:
        """The leading axes, B V T in a ClipBatch."""
        return self.world_to_camera.shape[:-2]

    @property
    def centers(self) -> Tensor:
        """Camera centres in the world, (..., 3), metres."""
        rotation, translation = self.world_to_camera[..., :3, :3], self.world_to_camera[..., :3, 3]
        return -(rotation.mT @ translation[..., None])[..., 0]

    def to(self, *args, **kwargs) -> "Cameras":
        """The same cameras on another device or in another floating type."""
        return map_tensors(self, lambda x: x.to(*args, **kwargs))

    def __getitem__(self, index) -> "Cameras":
        """Selects along the leading axes."""
        return map_tensors(self, lambda x: x[index])

    def expand(self, *shape: int) -> "Cameras":
        """Broadcasts the leading axes to ``shape``."""
        return map_tensors(self, lambda x: x.expand(*shape, *x.shape[-2:]))

    def resized(self, image_size: tuple[int, int]) -> "Cameras":
        """The same views sampled at another image size (height, width)."""
        scale_y, scale_x = image_size[0] / self.image_size[0], image_size[1] / self.image_size[1]
        scale = constants((scale_x, scale_y, 1.0), self.intrinsics)
        return replace(self, intrinsics=scale[:, None] * self.intrinsics, image_size=image_size)

    def cropped(self, top: float, left: float, image_size: tuple[int, int]) -> "Cameras":
        """The views seen through a crop whose top left corner lies at pixel coordinates (left, top)."""
        shift = torch.zeros_like(self.intrinsics)
        shift[..., 0, 2], shift[..., 1, 2] = left, top
        return replace(self, intrinsics=self.intrinsics - shift, image_size=image_size)


def project(points: Tensor, cameras: Cameras) -> tuple[Tensor, Tensor]:
    """Pixel coordinates (..., N, 2) and camera-space z (..., N, metres) of world points (..., N, 3).

    The leading axes of points and cameras broadcast. Points with z <= 0 lie behind the camera; their pixels mean nothing.
    """
    rotation, translation = cameras.world_to_camera[..., :3, :3], cameras.world_to_camera[..., :3, 3]
    in_camera = points @ rotation.mT + translation[..., None, :]
    z = in_camera[..., 2]
    pixels = in_camera @ cameras.intrinsics.mT
    return pixels[..., :2] / pixels[..., 2:].clamp_min(1e-8), z


def pixel_rays(cameras: Cameras) -> Tensor:
    """Camera-space ray directions through pixel centres, (..., H, W, 3), scaled so that z = 1."""
    height, width = cameras.image_size
    like = cameras.intrinsics
    y, x = torch.meshgrid(
        torch.arange(height, device=like.device, dtype=like.dtype) + 0.5,
        torch.arange(width, device=like.device, dtype=like.dtype) + 0.5,
        indexing="ij",
    )
    pixels = torch.stack([x, y, torch.ones_like(x)], dim=-1)
    return torch.einsum("...ij,hwj->...hwi", torch.linalg.inv(like), pixels)


def look_at(center: Tensor, target: Tensor, up: tuple[float, float, float] = (0.0, 1.0, 0.0)) -> Tensor:
    """world_to_camera (..., 4, 4) of a camera at ``center`` (..., 3) that looks at ``target``; world y is up."""
    forward = torch.nn.functional.normalize(target - center, dim=-1)
    up_axis = torch.tensor(up, dtype=center.dtype, device=center.device).expand_as(forward)
    right = torch.nn.functional.normalize(torch.linalg.cross(forward, up_axis), dim=-1)
    down = torch.linalg.cross(forward, right)
    rotation = torch.stack([right, down, forward], dim=-2)
    matrix = torch.zeros(*center.shape[:-1], 4, 4, dtype=center.dtype, device=center.device)
    matrix[..., :3, :3] = rotation
    matrix[..., :3, 3] = -(rotation @ center[..., None])[..., 0]
    matrix[..., 3, 3] = 1.0
    return matrix


def orbit(
    azimuths_degrees: Tensor,
    *,
    elevation_degrees: Tensor | float,
    distance: float,
    target: Tensor,
    fov_degrees: float,
    image_size: tuple[int, int],
) -> Cameras:
    """Cameras (N) on a circle around ``target`` (3); azimuth 0 looks at a person who faces world +z from the front.

    Positive azimuth moves the camera towards world +x. ``fov_degrees`` spans the shorter image side.
    """
    azimuth = torch.deg2rad(azimuths_degrees)
    elevation = torch.deg2rad(torch.as_tensor(elevation_degrees, dtype=azimuth.dtype)).expand_as(azimuth)
    offset = torch.stack([azimuth.sin() * elevation.cos(), elevation.sin(), azimuth.cos() * elevation.cos()], dim=-1)
    center = target + distance * offset
    return Cameras(
        world_to_camera=look_at(center, target.expand_as(center)),
        intrinsics=intrinsics_from_fov(fov_degrees, image_size).to(azimuth.dtype).expand(len(azimuth), 3, 3),
        image_size=image_size,
    )


def azimuths_degrees(cameras: Cameras) -> Tensor:
    """Azimuths of cameras in degrees, (...), around the world's y axis: 0 from +z, positive to +x, as of ``orbit``."""
    forward = cameras.world_to_camera[..., 2, :3]
    return torch.rad2deg(torch.atan2(-forward[..., 0], -forward[..., 2]))


def close_a_circle(cameras: Cameras) -> Tensor:
    """Whether the views of every clip close a circle, so that the last is next to the first, (B) bool; cameras (B, V, T).

    They do where, from each view to the next and from the last back to the first, the cameras' directions in the first frame
    turn one way around the world's y axis, once in all, and the last turn is no wider than half as much again as the widest
    of the others. Fewer than three never do: two views are next to each other either way.
    """
    azimuths = azimuths_degrees(cameras[:, :, 0])
    if azimuths.shape[1] < 3:
        return torch.zeros(azimuths.shape[0], dtype=torch.bool, device=azimuths.device)
    turns = torch.remainder(azimuths.roll(-1, dims=1) - azimuths + 180, 360) - 180
    # Cameras above each other may be off by a little. All turns together are a multiple of 360 degrees, up to rounding.
    one_way = (turns > -1).all(dim=1) | (turns < 1).all(dim=1)
    total = turns.sum(dim=1).abs()
    closing = turns[:, -1].abs() <= 1.5 * turns[:, :-1].abs().amax(dim=1)
    return one_way & (total > 180) & (total < 540) & closing


def intrinsics_from_fov(fov_degrees: float, image_size: tuple[int, int]) -> Tensor:
    """Intrinsics (3, 3) in pixels with the principal point at the image centre; the angle spans the shorter side."""
    height, width = image_size
    focal = 0.5 * min(height, width) / math.tan(math.radians(fov_degrees) / 2)
    return torch.tensor([[focal, 0.0, width / 2], [0.0, focal, height / 2], [0.0, 0.0, 1.0]])


def relative_rotation(cameras: Cameras, origin: Cameras | None = None) -> Tensor:
    """Rotation (B, V, T, 3, 3) of every camera relative to ``origin`` (B, 1, T), the grid's own first view when None.

    Source: HVG (arXiv 2602.21188), section 3.2, Embeddings: the first view's rotation is the identity.
    """
    rotation = cameras.world_to_camera[..., :3, :3]
    first = rotation[:, :1] if origin is None else origin.world_to_camera[..., :3, :3]
    return rotation @ first.mT
