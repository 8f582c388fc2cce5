"""Noise levels: how training draws them and how sampling walks down them. Notation of EDM (arXiv 2206.00364)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def lognormal_sigmas(shape: Sequence[int], p_mean: float, p_std: float, generator: torch.Generator) -> Tensor:
    """Training noise levels, ln sigma ~ N(p_mean, p_std^2). Source: EDM, table 1."""
    return (p_mean + p_std * torch.randn(*shape, generator=generator)).exp()


def require_falling(sigma_max: float, sigma_min: float) -> None:
    """Raises: ValueError, which the configuration reports, when sampling would not go from more noise to less."""
    if sigma_min >= sigma_max:
        raise ValueError(f"sigma_min={sigma_min:g} has to be smaller than sigma_max={sigma_max:g}")


def karras_sigmas(num_steps: int, sigma_max: float, sigma_min: float, rho: float) -> Tensor:
    """Sampling levels from sigma_max to sigma_min and then 0, (num_steps + 1), float32. Source: EDM, equation 5.

    A single step goes from sigma_max to 0.
    Raises: ValueError when there is no step.
    """
    if num_steps < 1:
        raise ValueError(f"sampling needs at least one step, got {num_steps}")
    ramp = torch.linspace(0, 1, num_steps, dtype=torch.float64)
    high, low = sigma_max ** (1 / rho), sigma_min ** (1 / rho)
    sigmas = (high + ramp * (low - high)) ** rho
    return torch.cat([sigmas, sigmas.new_zeros(1)]).float()
