"""Structural similarity."""

from __future__ import annotations

from typing import cast

from torch import Tensor
from torchmetrics.functional.image import structural_similarity_index_measure

from hvg.frame_metric import FrameMetric


class SSIM(FrameMetric):
    """SSIM of every frame, Gaussian window of 11 pixels (sigma 1.5) on each of R, G, B in [0, 1]; then the frame mean.

    Source: Wang et al., "Image quality assessment: from error visibility to structural similarity", 2004, computed by
    torchmetrics. The scikit-image default of human-video papers (uniform 7 x 7 window on grey) gives other numbers.
    """

    protocol = "ssim/gaussian-11-rgb/v1"

    def score(self, prediction: Tensor, truth: Tensor, alpha: Tensor) -> Tensor:
        """(N,) in [-1, 1]."""
        value = structural_similarity_index_measure(prediction, truth, data_range=1.0, reduction="none")
        return cast(Tensor, value)  # a tuple only where the full image is asked for
