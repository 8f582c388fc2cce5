"""Noise levels: how training draws them and how sampling walks down them. Notation of EDM (arXiv 2206.00364)."""

import math
from collections.abc import Sequence
from typing import Annotated, Any

import torch
from pydantic import Field, model_validator
from torch import Tensor
from typing_extensions import TypeVar

from hvg.core.bounds import Sigma
from hvg.parts.model import Prediction
from hvg.parts.part import PartConfig
from hvg.parts.plan import Level

# A level at which latents are noise and nothing else: in float32, 1 + it is it. A power of two, by which nothing is rounded.
PURE_NOISE = 2.0**30

# Settings of the levels that training draws, which each prediction describes with its own default.
MeanLogSigma = Annotated[float, Field(ge=-10, le=10)]
SpreadOfLogSigma = Annotated[float, Field(gt=0, le=5)]


def log(level: Level) -> Level:
    """Natural logarithm of a number or of numbers."""
    return level.log() if isinstance(level, Tensor) else math.log(level)


def sqrt(level: Level) -> Level:
    """Square root of a number or of numbers."""
    return level.sqrt() if isinstance(level, Tensor) else math.sqrt(level)


def lognormal_sigmas(shape: Sequence[int], p_mean: float, p_std: float, generator: torch.Generator) -> Tensor:
    """Training noise levels, ln sigma ~ N(p_mean, p_std^2). Source: EDM, table 1."""
    return (p_mean + p_std * torch.randn(*shape, generator=generator)).exp()


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


class EdmConfig(PartConfig):
    """Noise levels of EDM: lognormal ones in training, Karras' schedule in sampling."""

    sigma_max: Sigma = Field(description="First sampling level.")
    sigma_min: Sigma = Field(description="Last sampling level before 0.")
    rho: float = Field(7.0, ge=1, le=100, description="Curvature of the schedule (EDM, equation 5).")
    p_mean: MeanLogSigma
    p_std: SpreadOfLogSigma

    @model_validator(mode="after")
    def _falls(self) -> "EdmConfig":
        if self.sigma_min >= self.sigma_max:
            raise ValueError(f"sigma_min={self.sigma_min:g} has to be smaller than sigma_max={self.sigma_max:g}")
        return self


EdmT = TypeVar("EdmT", bound=EdmConfig, default=Any)


class EdmPrediction(Prediction[EdmT]):
    """A parameterisation at the noise levels of ``EdmConfig``, told to the network as c_noise = ln(s)/4 (EDM, table 1)."""

    def level(self, sigma: Tensor) -> Tensor:
        """What is clean is told as the last level of sampling: ln 0 is no number."""
        return 0.25 * sigma.where(sigma > 0, self.config.sigma_min).log()

    def sample_sigma(self, shape: Sequence[int], generator: torch.Generator, *, pixels: int) -> Tensor:
        return lognormal_sigmas(shape, self.config.p_mean, self.config.p_std, generator)

    def sigma_schedule(self, num_steps: int, *, pixels: int) -> Tensor:
        return karras_sigmas(num_steps, self.config.sigma_max, self.config.sigma_min, self.config.rho)
