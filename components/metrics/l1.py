"""Mean absolute error."""

from typing import Literal

from pydantic import Field
from torch import Tensor

from hvg.parts.frame_metric import CellMetricConfig, FrameMetric


class L1(FrameMetric):
    """Mean absolute error of every frame over its RGB values.

    The DisCo script takes the error in grey levels, 0 to 255, and divides its mean by H W once more: those numbers
    (``scale=disco``) depend on the resolution, and only videos of one size can be compared.
    """

    definition = "l1/{config.scale}/mean-over-{config.average}/v2"
    higher_is_better = False

    class Config(CellMetricConfig):
        """Settings of the error."""

        scale: Literal["unit", "disco"] = Field(
            "unit", description="unit: values in [0, 1]. disco: values in 0..255, the mean divided by height x width."
        )

    def score(self, prediction: Tensor, truth: Tensor, alpha: Tensor) -> Tensor:
        """(N,), in [0, 1] or in grey levels per pixel."""
        total = (prediction.short() - truth.short()).abs().flatten(1).sum(dim=1).double()
        mean = total / prediction[0].numel()
        height, width = prediction.shape[-2:]
        return mean / (255 if self.config.scale == "unit" else height * width)
