"""Peak signal-to-noise ratio over the whole frame."""

from __future__ import annotations

from torch import Tensor
from torchmetrics.functional.image import peak_signal_noise_ratio

from hvg.frame_metric import FrameMetric

# Two identical frames have an infinite ratio, which would swallow the mean. 100 dB is an error of 0.0026 grey levels.
CAP_DECIBELS = 100.0


class PSNR(FrameMetric):
    """PSNR in dB of every frame over its RGB values in [0, 1] (peak 1), at most 100 dB; then the mean over frames.

    The DisCo script of human-video papers subtracted uint8 images until April 2024, so that it never fell below
    24.07 dB; numbers from it are not comparable with these.
    """

    protocol = "psnr/frame-mean/v1"

    def score(self, prediction: Tensor, truth: Tensor, alpha: Tensor) -> Tensor:
        """(N,) dB."""
        per_frame = {"reduction": "none", "dim": (1, 2, 3)}
        return peak_signal_noise_ratio(prediction, truth, data_range=1.0, **per_frame).clamp(max=CAP_DECIBELS)
