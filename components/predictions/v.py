"""EDM preconditioning around a network that predicts v, as in Stable Video Diffusion.

Source: EDM (arXiv 2206.00364), equation 7; scalings of SVD (arXiv 2311.15127, appendix D): sigma_data is 1,
which makes the raw output v = (noise - sigma x0) / sqrt(sigma^2 + 1).
"""

from pydantic import Field
from torch import Tensor

from hvg.core.bounds import Scale, Sigma
from hvg.parts.noise_levels import EdmConfig, EdmPrediction, MeanLogSigma, SpreadOfLogSigma


class VConfig(EdmConfig):
    """Noise levels; the schedule is that of the SVD pipeline."""

    p_mean: MeanLogSigma = Field(
        0.7,
        description="Mean of ln sigma in training. 0.7 from SVD_Xtend; MimicMotion's trainer has 1.6, EDM -1.2.",
    )
    p_std: SpreadOfLogSigma = Field(
        1.6,
        description="Spread of ln sigma in training. 1.6 from SVD_Xtend; MimicMotion's trainer has 0.7, EDM 1.2.",
    )
    max_weight: Scale | None = Field(
        None,
        description="Min-SNR's gamma (arXiv 2303.09556): cap of the weight of an error in x0, which is SNR + 1; null: none.",
    )
    sigma_max: Sigma = Field(700.0, description="First sampling level.")
    sigma_min: Sigma = Field(0.002, description="Last sampling level before 0.")


class VPrediction(EdmPrediction[VConfig]):
    """c_skip = 1/(s^2+1), c_out = -s/sqrt(s^2+1), c_in = 1/sqrt(s^2+1), c_noise = ln(s)/4."""

    def input_scale(self, sigma: Tensor) -> Tensor:
        return (sigma**2 + 1).rsqrt()

    def denoised(self, output: Tensor, noisy: Tensor, sigma: Tensor) -> Tensor:
        return noisy / (sigma**2 + 1) - output * sigma * (sigma**2 + 1).rsqrt()

    def weight(self, sigma: Tensor) -> Tensor:
        """1 / c_out^2: every level weighs alike in the error of v; capped."""
        weight = 1 + sigma**-2
        return weight if self.config.max_weight is None else weight.clamp(max=self.config.max_weight)
