"""The slow and the coarse of a video from the first model, the rest from the second.

Source: ReImagine (arXiv 2604.19720), latent blending; the share of steps and the cut-offs are second-hand, the form of the filter
is ours: in the first ``share`` of the steps, with z the latents that are given and x0 the estimate of those that are made,

    x0 + L(z - x0)

takes the place of x0. L keeps the frequencies of the latents' 3D Fourier transform, of each view and channel, whose |f_t| is at
most ``time`` and whose (f_y^2 + f_x^2)^(1/2) is at most ``space``, all as shares of the highest that there is.
"""

import torch
from pydantic import Field
from torch import Tensor

from hvg.parts.refiner import RefinedStep, Refiner, RefinerConfig


class LowFrequencyConfig(RefinerConfig):
    """The filter, and how long it is used."""

    share: float = Field(
        0.35,
        ge=0,
        le=1,
        description="Share of the steps, the first ones, in which low frequencies are those of the given frames; 0 is sdedit.",
    )
    time: float = Field(
        0.06,
        ge=0,
        le=1,
        description="Highest frequency in time that is kept, as a share of the highest that there is; 0: the mean of the video.",
    )
    space: float = Field(
        0.12,
        ge=0,
        le=2,
        description="Highest frequency in the picture that is kept, as a share of the highest along an axis; 0 is the mean of a "
        "picture.",
    )


class LowFrequency(Refiner[LowFrequencyConfig]):
    """SDEdit whose estimates have the low frequencies of the given frames."""

    def estimate(self, x0: Tensor, at: RefinedStep) -> Tensor:
        if at.done < self.config.share:
            x0 = x0 + low_pass(at.given.to(x0) - x0, self.config.time, self.config.space)
        return super().estimate(x0, at)


def low_pass(x: Tensor, time: float, space: float) -> Tensor:
    """The low frequencies of latents (B, V, t, C, h, w), of each view and channel. time, space: cut-offs, as of the settings."""
    frames, height, width = x.shape[2], *x.shape[4:]
    along_t, along_y = (2 * torch.fft.fftfreq(n, device=x.device).abs() for n in (frames, height))
    along_x = 2 * torch.fft.rfftfreq(width, device=x.device)
    inside = (along_y[:, None] ** 2 + along_x**2).sqrt() <= space
    kept = (along_t <= time)[:, None, None, None] & inside
    spectrum = torch.fft.rfftn(x.float(), dim=(2, 4, 5)) * kept
    return torch.fft.irfftn(spectrum, s=(frames, height, width), dim=(2, 4, 5)).to(x)
