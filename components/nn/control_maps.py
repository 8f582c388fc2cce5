"""Helpers for drawing control maps: a box filter, and channels brought to the front."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional


def box_filter(maps: Tensor, factor: int) -> Tensor:
    """(..., K, factor H, factor W) -> (..., K, H, W): the mean of every factor x factor block."""
    if factor == 1:
        return maps
    small = functional.avg_pool2d(maps.flatten(0, -4), factor)
    return small.unflatten(0, maps.shape[:-3])


def channels_first(parts: Sequence[Tensor]) -> Tensor:
    """Concatenates maps (..., H, W, k) along k and returns (..., K, H, W)."""
    return torch.cat([part.movedim(-1, -3) for part in parts], dim=-3)
