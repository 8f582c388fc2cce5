"""A network that predicts the clean latents themselves, for models that are trained from nothing.

A small trunk cannot reproduce the noise of its input in order to cancel it, which v-prediction asks for;
predicting x0 it does not have to. Notation of EDM (arXiv 2206.00364), table 1.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from pydantic import Field, model_validator
from torch import Tensor

from hvg.core.bounds import Scale, Sigma
from hvg.parts.model import Prediction
from hvg.parts.noise_levels import karras_sigmas, lognormal_sigmas, require_falling
from hvg.parts.part import PartConfig


class X0Config(PartConfig):
    """Noise levels and loss weight; the defaults were measured for space-to-depth latents of 64 px images."""

    sigma_data: Sigma = Field(0.5, description="Standard deviation of the latents.")
    p_mean: float = Field(1.2, ge=-10, le=10, description="Mean of ln sigma in training.")
    p_std: float = Field(1.6, gt=0, le=5, description="Spread of ln sigma in training.")
    max_weight: Scale = Field(5.0, description="Cap of the loss weight, which grows as 1/sigma^2 towards no noise.")
    sigma_max: Sigma = Field(20.0, description="First sampling level.")
    sigma_min: Sigma = Field(0.03, description="Last sampling level before 0.")
    rho: float = Field(7.0, ge=1, le=100, description="Curvature of the schedule (EDM, equation 5).")

    @model_validator(mode="after")
    def _falls(self) -> X0Config:
        require_falling(self.sigma_max, self.sigma_min)
        return self


class X0Prediction(Prediction):
    """c_skip = 0, c_out = 1, c_in = 1/sqrt(s^2 + sigma_data^2), c_noise = ln(s)/4."""

    Config = X0Config

    def __init__(self, config: X0Config, context: object = None) -> None:
        self.config = config

    def input_scale(self, sigma: Tensor) -> Tensor:
        return (sigma**2 + self.config.sigma_data**2).rsqrt()

    def level(self, sigma: Tensor) -> Tensor:
        return 0.25 * sigma.log()

    def denoised(self, output: Tensor, noisy: Tensor, sigma: Tensor) -> Tensor:
        return output

    def weight(self, sigma: Tensor) -> Tensor:
        """EDM's 1 / c_out^2 = (s^2 + sigma_data^2) / (s sigma_data)^2, capped."""
        return (sigma**-2 + self.config.sigma_data**-2).clamp(max=self.config.max_weight)

    def sample_sigma(self, shape: Sequence[int], generator: torch.Generator) -> Tensor:
        return lognormal_sigmas(shape, self.config.p_mean, self.config.p_std, generator)

    def sigma_schedule(self, num_steps: int) -> Tensor:
        return karras_sigmas(num_steps, self.config.sigma_max, self.config.sigma_min, self.config.rho)
