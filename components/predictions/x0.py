"""A network that predicts the clean latents themselves, for models that are trained from nothing.

A small trunk cannot reproduce the noise of its input in order to cancel it, which v-prediction asks for;
predicting x0 it does not have to. Notation of EDM (arXiv 2206.00364), table 1.
"""

from pydantic import Field
from torch import Tensor

from hvg.core.bounds import Scale, Sigma
from hvg.parts.noise_levels import EdmConfig, EdmPrediction, MeanLogSigma, SpreadOfLogSigma


class X0Config(EdmConfig):
    """Noise levels and loss weight; the defaults were measured for space-to-depth latents of 64 px images."""

    sigma_data: Sigma = Field(0.5, description="Standard deviation of the latents.")
    p_mean: MeanLogSigma = Field(1.2, description="Mean of ln sigma in training.")
    p_std: SpreadOfLogSigma = Field(1.6, description="Spread of ln sigma in training.")
    max_weight: Scale = Field(5.0, description="Cap of the loss weight, which grows as 1/sigma^2 towards no noise.")
    sigma_max: Sigma = Field(20.0, description="First sampling level.")
    sigma_min: Sigma = Field(0.03, description="Last sampling level before 0.")


class X0Prediction(EdmPrediction[X0Config]):
    """c_skip = 0, c_out = 1, c_in = 1/sqrt(s^2 + sigma_data^2), c_noise = ln(s)/4."""

    def input_scale(self, sigma: Tensor) -> Tensor:
        return (sigma**2 + self.config.sigma_data**2).rsqrt()

    def denoised(self, output: Tensor, noisy: Tensor, sigma: Tensor) -> Tensor:
        return output

    def weight(self, sigma: Tensor) -> Tensor:
        """EDM's 1 / c_out^2 = (s^2 + sigma_data^2) / (s sigma_data)^2, capped."""
        return (sigma**-2 + self.config.sigma_data**-2).clamp(max=self.config.max_weight)
