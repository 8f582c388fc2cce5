"""Overlap of the generated person with the true one."""

from pydantic import Field
from torch import Tensor

from hvg.parts.frame_metric import CellMetricConfig, FrameMetric


class MaskIoU(FrameMetric):
    """Intersection over union of the person's silhouette, per frame; then the mean over frames.

    The generated silhouette is every pixel with a channel darker than a threshold: the background has to be white, no
    network takes part. The true silhouette is alpha > 0.5. Two empty silhouettes agree (1). The truth itself has less than 1
    where clothes are pale or limbs thinner than a pixel: compare with its own score.
    """

    definition = "mask_iou/white-background-{config.threshold:g}/mean-over-{config.average}/v2"
    requires = frozenset({"alpha"})

    class Config(CellMetricConfig):
        """Settings of the silhouette rule."""

        # The higher, the more pale clothes are found, and the more a faint haze counts as the person.
        threshold: float = Field(
            0.75, gt=0, lt=1, description="A pixel is the person where any channel, in [0, 1], is below this value."
        )

    def score(self, prediction: Tensor, truth: Tensor, alpha: Tensor) -> Tensor:
        """(N,) in [0, 1]."""
        generated = (prediction < 255 * self.config.threshold).any(dim=1)
        true = alpha[:, 0] > 0.5
        union = (generated | true).sum(dim=(1, 2))
        return ((generated & true).sum(dim=(1, 2)) / union.clamp_min(1)).where(union > 0, 1.0)
