"""The time steps of DDPM, as Stable Diffusion 1 and 2 have them, with a signal-to-noise ratio of zero at the last.

Source: DDPM (arXiv 2006.11239), equation 4; v of Progressive Distillation (arXiv 2202.00512), appendix D; zero terminal SNR and
trailing steps of "Common Diffusion Noise Schedules and Sample Steps are Flawed" (arXiv 2305.08891), algorithm 1 and section 3.3;
the loss weight of Min-SNR (arXiv 2303.09556). In EDM's notation (arXiv 2206.00364, equation 7) DDPM's x_t is x0 + sigma noise
divided by sqrt(1 + sigma^2), with sigma^2 = (1 - a) / a for the product a of all 1 - beta up to t, so SNR = sigma^-2. A product
of 0 is ``PURE_NOISE``. AnimateAnyone's code, Champ's and Human4DiT's train so.
"""

from collections.abc import Sequence
from functools import cached_property
from typing import Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor

from hvg.core.bounds import Scale
from hvg.parts.model import Prediction
from hvg.parts.noise_levels import PURE_NOISE
from hvg.parts.part import PartConfig

TIME_STEPS = 1000


class DDPMConfig(PartConfig):
    """Betas, what the network gives, and where sampling stops. The defaults are AnimateAnyone's, without its loss weight."""

    target: Literal["v", "epsilon", "x0"] = Field(
        "v",
        description="What the network gives: v = (noise - sigma x0) / sqrt(1 + sigma^2); the noise; or the clean latents, for a "
        "trunk that is too narrow for the noise of its input.",
    )
    betas: Literal["scaled_linear", "linear"] = Field(
        "scaled_linear",
        description="What grows evenly from step to step: the roots of the betas, as in Stable Diffusion; or they.",
    )
    beta_start: float = Field(0.00085, gt=0, lt=1, description="First beta.")
    beta_end: float = Field(0.012, gt=0, lt=1, description="Last beta.")
    terminal_snr: Literal["zero", "kept"] = Field(
        "zero",
        description="zero: levels are rescaled such that the last is noise and nothing else, from which samples start. kept: as "
        "the betas have it, where training always saw a rest of the picture (7 percent with the defaults).",
    )
    spacing: Literal["trailing", "leading"] = Field(
        "trailing",
        description="Which steps are sampled. trailing: from the last one on, evenly. leading: down to step 1, which leaves out "
        "the last ones, as Stable Diffusion's pipelines do.",
    )
    max_weight: Scale | None = Field(
        None,
        description="Min-SNR's gamma: cap of the weight of an error in x0, which is SNR + 1 for v and x0, and SNR for epsilon; "
        "5 in AnimateAnyone's code. null: none.",
    )

    @model_validator(mode="after")
    def _fits(self) -> "DDPMConfig":
        if self.beta_start > self.beta_end:
            raise ValueError(f"beta_start={self.beta_start:g} has to be at most beta_end={self.beta_end:g}")
        if self.target == "epsilon" and self.terminal_snr == "zero":
            raise ValueError(
                "target=epsilon says nothing of the picture at an SNR of zero; choose terminal_snr=kept, or target=v"
            )
        return self


class DDPMPrediction(Prediction[DDPMConfig]):
    """c_in = 1/sqrt(s^2+1), c_noise = t; c_skip = 1/(s^2+1) and c_out = -s/sqrt(s^2+1) for v, 1 and -s for the noise."""

    @cached_property
    def _sigmas(self) -> Tensor:
        """sigma of every time step, (1000,) float64, rising."""
        config = self.config
        power = 0.5 if config.betas == "scaled_linear" else 1.0
        first, last = config.beta_start**power, config.beta_end**power
        betas = torch.linspace(first, last, TIME_STEPS, dtype=torch.float64) ** (1 / power)
        root = torch.cumprod(1 - betas, dim=0).sqrt()
        if config.terminal_snr == "zero":
            root = (root - root[-1]) * root[0] / (root[0] - root[-1])
        return ((1 - root**2).sqrt() / root).clamp(max=PURE_NOISE)

    def input_scale(self, sigma: Tensor) -> Tensor:
        return (sigma**2 + 1).rsqrt()

    def level(self, sigma: Tensor) -> Tensor:
        """t, between two steps by ln sigma; 0 of what is clean."""
        steps = self._sigmas.log().to(sigma.device)
        place = sigma.double().clamp(min=1e-12).log()
        after = torch.bucketize(place, steps).clamp(1, TIME_STEPS - 1)
        low, high = steps[after - 1], steps[after]
        return (after - 1 + ((place - low) / (high - low)).clamp(0, 1)).to(sigma)

    def denoised(self, output: Tensor, noisy: Tensor, sigma: Tensor) -> Tensor:
        if self.config.target == "x0":
            return output
        if self.config.target == "epsilon":
            return noisy - sigma * output
        return noisy / (sigma**2 + 1) - output * sigma * (sigma**2 + 1).rsqrt()

    def weight(self, sigma: Tensor) -> Tensor:
        """Every level weighs alike in the error of v, or of the noise; capped."""
        snr = sigma**-2
        weight = snr if self.config.target == "epsilon" else 1 + snr
        return weight if self.config.max_weight is None else weight.clamp(max=self.config.max_weight)

    def sample_sigma(self, shape: Sequence[int], generator: torch.Generator, *, pixels: int) -> Tensor:
        return self._sigmas[torch.randint(TIME_STEPS, (*shape,), generator=generator)].float()

    def sigma_schedule(self, num_steps: int, *, pixels: int) -> Tensor:
        """Raises: ValueError when there is no step, or more than there are time steps."""
        if not 1 <= num_steps <= TIME_STEPS:
            raise ValueError(f"sampling needs at least one step and at most {TIME_STEPS}, got {num_steps}")
        if self.config.spacing == "trailing":
            steps = (
                TIME_STEPS - torch.arange(num_steps, dtype=torch.float64) * TIME_STEPS / num_steps
            ).round().long() - 1
        else:
            stride = TIME_STEPS // num_steps
            first = min(1, TIME_STEPS - 1 - (num_steps - 1) * stride)
            steps = first + stride * torch.arange(num_steps - 1, -1, -1)
        return torch.cat([self._sigmas[steps], torch.zeros(1, dtype=torch.float64)]).float()
