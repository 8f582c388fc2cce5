"""Rectified flow: latents on the straight line between data and noise, x_s = (1 - s) x0 + s noise, s in (0, 1].

Source: rectified flow (arXiv 2209.03003), with levels and shift of SD3 (arXiv 2403.03206) and Wan 2.1 (arXiv 2503.20314).
In EDM's notation (arXiv 2206.00364, equation 7), x_s is x0 + sigma noise scaled by 1 - s, with sigma = s / (1 - s). So
c_in = 1 / (1 + sigma) = 1 - s, a network that gives v = noise - x0 has c_skip = 1 - s and c_out = -s, and the shift of SD3,
s' = k s / (1 + (k - 1) s), is sigma' = k sigma. s = 1 is ``PURE_NOISE``.
"""

from collections.abc import Sequence
from math import exp, log, sqrt
from typing import Annotated, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor

from hvg.core.bounds import Scale
from hvg.parts.model import Prediction
from hvg.parts.noise_levels import PURE_NOISE, MeanLogSigma, SpreadOfLogSigma, lognormal_sigmas
from hvg.parts.part import PartConfig

# Time steps of Wan and SD3, in which the network is told s.
TIME_STEPS = 1000
# Training levels are no lower: below, float32 latents do not show the noise.
LEAST_SIGMA = 1e-6
# Mean over s of the bell in the loss weight.
MEAN_OF_BELL = 0.24909
# Bounds of k, of what is set and of what follows from a picture's size.
LEAST_SHIFT, MOST_SHIFT = 0.01, 100.0


class FlowConfig(PartConfig):
    """Levels of a rectified flow. The defaults are those of SD3's best-rated training, without a shift."""

    target: Literal["velocity", "x0"] = Field(
        "velocity",
        description="What the network gives: v = noise - x0, as published weights do; or the clean latents, for a trunk that is "
        "too narrow for the noise of its input.",
    )
    shift: float = Field(
        1.0,
        ge=LEAST_SHIFT,
        le=MOST_SHIFT,
        description="k in s' = k s / (1 + (k - 1) s), applied once to the levels of training and sampling: above 1 more of them "
        "are noisy. Wan samples with 3 at 480 x 832 pixels, 5 at 720 x 1280.",
    )
    base_pixels: Annotated[int, Field(ge=4096, le=2**26)] | None = Field(
        None,
        description="Pixels of a picture for which `shift` holds; others have it times the square root of how many times more "
        "they are (SD3, equation 23). null: all sizes have the same.",
    )
    max_shift: float | None = Field(
        None,
        ge=LEAST_SHIFT,
        le=MOST_SHIFT,
        description="k of pictures of max_pixels; ln k then grows in a line from `shift` at base_pixels, as FLUX's does, and "
        "not by the root of their pixels; to 100 at most, where pictures are far larger.",
    )
    max_pixels: Annotated[int, Field(ge=4096, le=2**26)] | None = Field(
        None, description="With max_shift: the pixels of a picture for which that holds, more than base_pixels."
    )
    timesteps: Literal["uniform", "logit_normal", "mode"] = Field(
        "logit_normal",
        description="How training draws s before the shift: uniform; logit(s), which is ln sigma, from a normal distribution; or "
        "SD3's heavy-tailed distribution with a mode (its equation 20).",
    )
    p_mean: MeanLogSigma = Field(0.0, description="Of logit_normal: mean of ln sigma before the shift.")
    p_std: SpreadOfLogSigma = Field(1.0, description="Of logit_normal: spread of ln sigma.")
    mode_scale: float = Field(
        1.29, ge=-1, le=1.75, description="Of mode: 0 is uniform, above 0 levels in the middle come more often."
    )
    loss_weight: Literal["velocity", "bell"] = Field(
        "velocity",
        description="velocity: every level weighs alike in the error of v. bell: times exp(-2 (s - 1/2)^2) less its value at the "
        "ends, of mean 1 over s, as DiffSynth-Studio trains Wan.",
    )
    max_weight: Scale | None = Field(
        None, description="Cap of the weight of an error in x0, which grows as 1 / s^2 towards no noise; null: none."
    )
    last_level: float | None = Field(
        None,
        gt=0,
        lt=1,
        description="s of the last sampling step before the shift; levels fall to it evenly from 1. null: 1 / steps, as Wan's.",
    )

    @model_validator(mode="after")
    def _grows(self) -> "FlowConfig":
        if (self.max_shift is None) != (self.max_pixels is None):
            raise ValueError("max_shift and max_pixels go together")
        if self.max_pixels is not None and self.max_pixels <= (self.base_pixels or self.max_pixels):
            raise ValueError(f"max_pixels={self.max_pixels} have to be more than base_pixels={self.base_pixels}")
        return self


class FlowPrediction(Prediction[FlowConfig]):
    """c_skip = 1 - s, c_out = -s, c_in = 1 - s, c_noise = 1000 s; with ``target=x0`` c_skip = 0, c_out = 1."""

    def input_scale(self, sigma: Tensor) -> Tensor:
        return 1 / (1 + sigma)

    def level(self, sigma: Tensor) -> Tensor:
        return TIME_STEPS * noise_share(sigma)

    def denoised(self, output: Tensor, noisy: Tensor, sigma: Tensor) -> Tensor:
        if self.config.target == "x0":
            return output
        return noisy / (1 + sigma) - noise_share(sigma) * output

    def weight(self, sigma: Tensor) -> Tensor:
        """The weight of an error in v, divided by s^2: an error in x0 is s times that in v. Capped."""
        s = noise_share(sigma)
        weight = s**-2
        if self.config.loss_weight == "bell":
            bell = (torch.exp(-2 * (s - 0.5) ** 2) - exp(-0.5)).clamp(min=0)
            weight = weight * bell / MEAN_OF_BELL
        return weight if self.config.max_weight is None else weight.clamp(max=self.config.max_weight)

    def sample_sigma(self, shape: Sequence[int], generator: torch.Generator, *, pixels: int) -> Tensor:
        return (self.shift(pixels) * self._unshifted(shape, generator)).clamp(LEAST_SIGMA, PURE_NOISE)

    def sigma_schedule(self, num_steps: int, *, pixels: int) -> Tensor:
        """From s = 1 evenly to ``last_level``, shifted, and then 0. Raises: ValueError when there is no step."""
        if num_steps < 1:
            raise ValueError(f"sampling needs at least one step, got {num_steps}")
        last = self.config.last_level or 1 / num_steps
        s = torch.linspace(1, last, num_steps, dtype=torch.float64)[1:]
        ends = s.new_tensor([PURE_NOISE, 0.0])
        return torch.cat([ends[:1], self.shift(pixels) * s / (1 - s), ends[1:]]).float()

    def shift(self, pixels: int) -> float:
        """k for pictures of so many pixels. Source: SD3, equation 23 and the choice below it; FLUX's pipeline of diffusers."""
        config, base = self.config, self.config.base_pixels
        if base is None:
            return config.shift
        if config.max_shift is None or config.max_pixels is None:
            return config.shift * sqrt(pixels / base)
        # Far beyond max_pixels a power of it is no number.
        grown = log(config.shift) + log(config.max_shift / config.shift) * (pixels - base) / (config.max_pixels - base)
        return exp(min(max(grown, log(LEAST_SHIFT)), log(MOST_SHIFT)))

    def _unshifted(self, shape: Sequence[int], generator: torch.Generator) -> Tensor:
        config = self.config
        if config.timesteps == "logit_normal":
            return lognormal_sigmas(shape, config.p_mean, config.p_std, generator)
        # In [0, 1): its opposite is never without noise.
        u = torch.rand(*shape, generator=generator)
        if config.timesteps == "mode":
            s = 1 - u - config.mode_scale * (torch.cos(torch.pi / 2 * u) ** 2 - 1 + u)
            u = (1 - s).clamp(0, 1)
        return (1 - u) / u


def noise_share(sigma: Tensor) -> Tensor:
    """s, the share of noise on the line, for a noise level."""
    return sigma / (1 + sigma)
