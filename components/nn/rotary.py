"""Rotary positions: pairs of neighbouring channels are turned by where a token stands (RoPE, arXiv 2104.09864)."""

import torch
from torch import Tensor

# Of the longest wave, as in Wan and FLUX.
THETA = 1e4


def frequencies(size: int, device: torch.device) -> Tensor:
    """Angles a step of the ``size`` / 2 pairs of an axis, in double precision as in the library."""
    return 1.0 / THETA ** (torch.arange(0, size, 2, dtype=torch.float64, device=device) / max(size, 1))


def turn_pairs(x: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
    """Channels (..., d) turned by angles whose cosines and sines broadcast to (..., d / 2)."""
    first, second = x.unflatten(-1, (-1, 2)).unbind(-1)
    pairs = torch.stack([first * cosine - second * sine, first * sine + second * cosine], dim=-1)
    return pairs.flatten(-2).type_as(x)
