"""Normals of a surface of which only the depth is known."""

import torch
from torch import Tensor
from torch.nn.functional import normalize, pad

from hvg.values.cameras import Cameras

# Change of 1 / depth over a pixel below which two sides of a pixel count alike, 1 / metres: 0.1 mm at one metre.
_EVEN = 1e-4


def normals_of_depth(depth: Tensor, cameras: Cameras) -> Tensor:
    """Unit normals (..., H, W, 3) of what cameras (...) see at depths (..., H, W), z in metres, 0 where there is nothing.

    In camera axes (x right, y down, z forward), towards the camera; 0 where there is nothing. Over a plane 1 / z is linear in
    the picture, so its gradient gives the normal, exactly on planes. Across an edge depth jumps: of a pixel's two neighbours
    along an axis each counts by the inverse square of its change, and none counts that shows nothing. A surface that is one
    pixel wide is taken not to change across it.
    """
    seen = depth > 0
    inverse = torch.where(seen, 1 / depth.clamp_min(torch.finfo(depth.dtype).tiny), 0)
    gradient = [_slope(inverse, seen, dim) for dim in (-1, -2)]
    x, y = _pixel_centres(depth)
    # 1 / z = g . (u, v, 1) with g = K^-T n / (n . p), and the normal that faces the camera has n . p < 0.
    plane = torch.stack([*gradient, inverse - gradient[0] * x - gradient[1] * y], dim=-1)
    normal = -normalize(plane @ cameras.intrinsics[..., None, :, :], dim=-1)
    return torch.where(seen[..., None], normal, 0)


def _slope(values: Tensor, seen: Tensor, dim: int) -> Tensor:
    """Change of values (..., H, W) to the next pixel along ``dim``, 0 where no neighbour is seen."""
    step = values.diff(dim=dim)
    both = seen & seen.roll(1, dims=dim)
    weight = torch.where(both.narrow(dim, 1, step.shape[dim]), 1 / (step.square() + _EVEN**2), 0)
    # Of each pixel, the side before it and the side behind it.
    before, behind = ((1, 0), (0, 1)) if dim == -1 else ((0, 0, 1, 0), (0, 0, 0, 1))
    total = pad(weight, before) + pad(weight, behind)
    summed = pad(weight * step, before) + pad(weight * step, behind)
    return torch.where(total > 0, summed / total.clamp_min(torch.finfo(values.dtype).tiny), 0)


def _pixel_centres(depth: Tensor) -> tuple[Tensor, Tensor]:
    """x (W) and y (H, 1) of the pixels' centres."""
    height, width = depth.shape[-2:]
    x, y = (torch.arange(n, device=depth.device, dtype=depth.dtype) + 0.5 for n in (width, height))
    return x, y[:, None]
