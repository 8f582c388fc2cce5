"""Mean absolute error."""

from __future__ import annotations

from torch import Tensor

from hvg.frame_metric import FrameMetric


class L1(FrameMetric):
    """Mean absolute error of every frame over its RGB values in [0, 1]; then the mean over frames.

    The DisCo script divides the error in grey levels by H W once more, so its numbers depend on the resolution.
    """

    protocol = "l1/unit-range/v1"
    higher_is_better = False

    def score(self, prediction: Tensor, truth: Tensor, alpha: Tensor) -> Tensor:
        """(N,) in [0, 1]."""
        return (prediction - truth).abs().mean(dim=(1, 2, 3))
