"""EDM preconditioning around a network that predicts v, as in Stable Video Diffusion.

Source: EDM (arXiv 2206.00364), equation 7; scalings of SVD (arXiv 2311.15127, appendix D): sigma_data is 1,
which makes the raw output v = (noise - sigma x0) / sqrt(sigma^2 + 1).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from pydantic import Field, model_validator
from torch import Tensor

from hvg.core.bounds import Sigma
from hvg.parts.model import Prediction
from hvg.parts.noise_levels import karras_sigmas, lognormal_sigmas, require_falling
from hvg.parts.part import PartConfig


class VConfig(PartConfig):
    """Noise levels; the schedule is that of the SVD pipeline."""

    p_mean: float = Field(
        0.7,
        ge=-10,
        le=10,
        description="Mean of ln sigma in training. 0.7 from SVD_Xtend; MimicMotion's trainer has 1.6, EDM -1.2.",
    )
    p_std: float = Field(
        1.6,
        gt=0,
        le=5,
        description="Spread of ln sigma in training. 1.6 from SVD_Xtend; MimicMotion's trainer has 0.7, EDM 1.2.",
    )
    sigma_max: Sigma = Field(700.0, description="First sampling level.")
    sigma_min: Sigma = Field(0.002, description="Last sampling level before 0.")
    rho: float = Field(7.0, ge=1, le=100, description="Curvature of the schedule (EDM, equation 5).")

    @model_validator(mode="after")
    def _falls(self) -> VConfig:
        require_falling(self.sigma_max, self.sigma_min)
        return self


class VPrediction(Prediction):
    """c_skip = 1/(s^2+1), c_out = -s/sqrt(s^2+1), c_in = 1/sqrt(s^2+1), c_noise = ln(s)/4."""

    Config = VConfig

    def __init__(self, config: VConfig, context: object = None) -> None:
        self.config = config

    def input_scale(self, sigma: Tensor) -> Tensor:
        return (sigma**2 + 1).rsqrt()

    def level(self, sigma: Tensor) -> Tensor:
        return 0.25 * sigma.log()

    def denoised(self, output: Tensor, noisy: Tensor, sigma: Tensor) -> Tensor:
        return noisy / (sigma**2 + 1) - output * sigma * (sigma**2 + 1).rsqrt()

    def weight(self, sigma: Tensor) -> Tensor:
        """1 / c_out^2: every level weighs alike in the error of v."""
        return 1 + sigma**-2

    def sample_sigma(self, shape: Sequence[int], generator: torch.Generator) -> Tensor:
        return lognormal_sigmas(shape, self.config.p_mean, self.config.p_std, generator)

    def sigma_schedule(self, num_steps: int) -> Tensor:
        return karras_sigmas(num_steps, self.config.sigma_max, self.config.sigma_min, self.config.rho)
