"""Peak signal-to-noise ratio over the pixels of the person."""

from torch import Tensor

from hvg.parts.frame_metric import FrameMetric

# As in the metric ``psnr``: identical frames would make the mean infinite.
CAP_DECIBELS = 100.0


class ForegroundPSNR(FrameMetric):
    """PSNR in dB of every frame over the pixels whose true alpha exceeds 0.5 (RGB in [0, 1], peak 1), at most 100 dB.

    A white background that every method gets right raises the plain PSNR and hides the person; this leaves it out.
    Frames without such a pixel have no score and are left out, for every arm alike.
    """

    definition = "psnr_foreground/mean-over-{config.average}/v2"
    unit = "dB"
    on_person = True
    requires = frozenset({"alpha"})

    def score(self, prediction: Tensor, truth: Tensor, alpha: Tensor) -> Tensor:
        """(N,) dB; NaN where no pixel is foreground."""
        foreground = (alpha > 0.5).double()
        squared_error = ((prediction.double() - truth.double()).square() * foreground).sum(dim=(1, 2, 3))
        mean = squared_error / (prediction.shape[1] * foreground.sum(dim=(1, 2, 3)))
        return (-10 * (mean / 255**2).log10()).clamp(max=CAP_DECIBELS)
