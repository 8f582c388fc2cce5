"""Another metric, of a part of the person alone."""

from typing import ClassVar

from pydantic import Field

from hvg.parts.context import Context
from hvg.parts.metric import Measurement
from hvg.values.scored_clip import Region, ScoredClip

from ..nn.inner_metric import InnerMetric, InnerMetricConfig


class Within(InnerMetric):
    """The number of another metric if all but one region of the person were predicted rightly (``ScoredClip.within``).

    So an error elsewhere changes nothing, and the regions of one metric say which of them its error comes from. Metrics of the
    person's pixels (``psnr_foreground``, ``dtssd_foreground``) are then means over the region's own, and can be compared between
    regions; means over whole pictures (``ssim``, ``lpips``, ``temporal_warp``) are as much less bad as the region is small, and
    are compared between arms.

    Where data do not know regions it is not available. A picture that shows nothing of the region has no score, where the
    metric is one of the person's pixels.
    """

    class Config(InnerMetricConfig):
        """Settings of the region, and the metric."""

        outer: ClassVar[str] = "within"
        why: ClassVar[str] = "a region within a region is none"

        region: Region = Field(
            description="head (with neck and hair), hands, feet, torso, limbs (arms and legs without hands and feet), or loose "
            "(what hangs free of the body: a skirt, the lower half of a coat)."
        )

    requires = frozenset({"surface"})

    def __init__(self, config: Config, context: Context | None = None) -> None:
        super().__init__(config, context, f"within-{config.region}")
        self.region: Region = config.region

    def measure(self, clip: ScoredClip) -> Measurement:
        """Measurement of the region. Raises: NotAvailable where the data do not know it, or lack what the metric needs."""
        clip = clip.within(self.region)
        clip.require(self.metric.requires)
        return self.metric.measure(clip)
