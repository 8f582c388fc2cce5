"""Sinusoidal embedding of scalars."""

import math

import torch
from torch import Tensor


def sinusoidal_embedding(values: Tensor, width: int, min_period: float, max_period: float) -> Tensor:
    """Sines, then cosines, of scalars (...) at width / 2 geometrically spaced periods: (..., width), at least float32.

    min_period, max_period: in the unit of ``values``. Two values are told apart over half the longest period.
    width: even. Source: arXiv 1706.03762, section 3.5, whose periods run from 2 pi to 2 pi 10^4 for integer positions.
    """
    dtype = torch.promote_types(values.dtype, torch.float32)
    steps = torch.linspace(0, 1, width // 2, device=values.device, dtype=dtype)
    periods = max_period * (min_period / max_period) ** steps
    angles = values.to(dtype)[..., None] * (2 * math.pi / periods)
    return torch.cat([angles.sin(), angles.cos()], dim=-1)
