"""Points in space from their places in several pictures."""

import torch
from torch import Tensor

from hvg.values.cameras import Cameras


def triangulate(pixels: Tensor, weights: Tensor, cameras: Cameras) -> Tensor:
    """World points (..., K, 3), metres, from pixels (V, ..., K, 2) with weights (V, ..., K) >= 0, cameras (V, ...).

    Direct linear transform: every view gives two rows of A X = 0 for the homogeneous point X, here in units of focal lengths
    (so that no row depends on the picture's size) and times the view's weight; X is the right singular vector of the least
    singular value. NaN where ``spread`` finds no two rays that meet at an angle. Computed in float64.
    Source: Hartley and Zisserman, Multiple View Geometry, 2nd edition, section 12.2; weights as of Iskakov et al. 2019
    (Learnable Triangulation of Human Pose, arXiv 1905.05754), equation 3.
    """
    flat = _normalised(pixels, cameras)
    extrinsics = cameras.world_to_camera.double()[..., None, :3, :]
    rows = flat[..., None] * extrinsics[..., 2:, :] - extrinsics[..., :2, :]
    system = (rows * weights.double()[..., None, None]).movedim(0, -3).flatten(-3, -2)
    homogeneous = torch.linalg.svd(system).Vh[..., -1, :]
    points = homogeneous[..., :3] / homogeneous[..., 3:]
    return points.where(determined(pixels, weights, cameras)[..., None], torch.nan)


def determined(pixels: Tensor, weights: Tensor, cameras: Cameras, least_degrees: float = 20.0) -> Tensor:
    """(..., K) bool: whether among the views with a weight are two whose rays cross at an angle, as lines.

    Rays from opposite sides are one line, and say nothing of the depth. Arguments as of ``triangulate``.
    """
    flat = _normalised(pixels, cameras)
    rays = torch.cat([flat, torch.ones_like(flat[..., :1])], dim=-1)
    rays = torch.nn.functional.normalize(rays @ cameras.world_to_camera.double()[..., :3, :3], dim=-1)
    seen = (weights[:, None] > 0) & (weights[None] > 0)
    cosine = (rays[:, None] * rays[None]).sum(-1).abs()
    limit = torch.cos(torch.deg2rad(torch.tensor(least_degrees, dtype=torch.float64)))
    return (seen & (cosine < limit)).flatten(0, 1).any(dim=0)


def _normalised(pixels: Tensor, cameras: Cameras) -> Tensor:
    """Camera-space x / z and y / z (V, ..., K, 2), float64, of pixels."""
    homogeneous = torch.cat([pixels, torch.ones_like(pixels[..., :1])], dim=-1).double()
    return (homogeneous @ torch.linalg.inv(cameras.intrinsics.double()).mT)[..., :2]
