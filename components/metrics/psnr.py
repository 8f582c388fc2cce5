"""Peak signal-to-noise ratio over the whole frame."""

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from hvg.parts.context import Context
from hvg.parts.frame_metric import CellMetricConfig, FrameMetric

# Two identical frames have an infinite ratio, which would swallow the mean.
MOST_DECIBELS = 100.0


class PSNR(FrameMetric):
    """PSNR in dB of every frame over its RGB values (peak 255), at most 100 dB, which a frame without any error has.

    Until April 2024 the DisCo script of human-video papers subtracted and squared uint8 images, both modulo 256, so that
    it never fell below 24.07 dB. ``arithmetic=uint8_wraparound`` gives those numbers; they say little about quality.
    That script, before and since, bounds identical frames alone (``bound=identical``): with one channel of one pixel off by
    one a frame of 256 x 256 has 101 dB there, more than one that is perfect.
    """

    unit = "dB"

    class Config(CellMetricConfig):
        """Settings of the ratio."""

        arithmetic: Literal["float", "uint8_wraparound"] = Field(
            "float", description="float: as defined. uint8_wraparound: the DisCo script's fault before April 2024."
        )
        bound: Literal["every", "identical"] = Field(
            "every",
            description="Which frames have at most 100 dB: every frame, or as in the DisCo script those without any error.",
        )

    def __init__(self, config: Config, context: Context | None = None) -> None:
        super().__init__(config, context)
        rule = "v2" if config.bound == "identical" else "at-most-100/v3"
        self.definition = f"psnr/{config.arithmetic}/mean-over-{config.average}/{rule}"

    def score(self, prediction: Tensor, truth: Tensor, alpha: Tensor) -> Tensor:
        """(N,) dB."""
        if self.config.arithmetic == "uint8_wraparound":
            difference = prediction - truth
            squared_error = difference * difference
        else:
            # Squares up to 255^2 are exact in float32; their sum is taken in float64.
            squared_error = (prediction.float() - truth.float()).square()
        mean = squared_error.flatten(1).sum(dim=1, dtype=torch.float64) / squared_error[0].numel()
        decibels = (10 * (255**2 / mean).log10()).where(mean > 0, MOST_DECIBELS)
        return decibels.clamp(max=MOST_DECIBELS) if self.config.bound == "every" else decibels
