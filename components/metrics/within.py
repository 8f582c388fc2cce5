"""Another metric, of a part of the person alone."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, field_validator

from hvg.parts.context import Context
from hvg.parts.metric import Measurement, Metric, Score
from hvg.parts.part import PartConfig, PartName
from hvg.values.scored_clip import Region, ScoredClip


class Within(Metric):
    """The number of another metric if all but one region of the person were predicted rightly (``ScoredClip.within``).

    So an error elsewhere changes nothing, and the regions of one metric say which of them its error comes from. Metrics of the
    person's pixels (``psnr_foreground``, ``dtssd_foreground``) are then means over the region's own, and can be compared between
    regions; means over whole pictures (``ssim``, ``lpips``, ``temporal_warp``) are as much less bad as the region is small, and
    are compared between arms.

    Where data do not know regions it is not available. A picture that shows nothing of the region has no score, where the
    metric is one of the person's pixels.
    """

    class Config(PartConfig):
        """Settings of the region, and the metric."""

        region: Region = Field(
            description="head (with neck and hair), hands, feet, torso, limbs (arms and legs without hands and feet), or loose "
            "(what hangs free of the body: a skirt, the lower half of a coat)."
        )
        metric: Annotated[str, PartName("metric", settings="metric_settings")] = Field(
            "psnr_foreground", description="Registered name of the metric (hvg list metric)."
        )
        metric_settings: Mapping[str, Any] = Field({}, description="That metric's own settings.")

        @field_validator("metric")
        @classmethod
        def _another(cls, name: str) -> str:
            if name == "within":
                raise ValueError("a region within a region is none; name the metric itself")
            return name

    requires = frozenset({"surface"})

    def __init__(self, config: Config, context: Context | None = None) -> None:
        """Raises: UnknownPartError for the metric, and what that one raises."""
        cls, settings = config.inner_part("metric")
        self.region: Region = config.region
        self.metric: Metric = cls(settings, context)
        self.higher_is_better, self.unit = self.metric.higher_is_better, self.metric.unit
        self.networks, self.definition = self.metric.networks, f"within-{config.region}/{self.metric.definition}"
        shared = self.metric.measurement
        self.measurement = shared and f"within-{config.region}/{shared}"

    @classmethod
    def judges(cls, config: Config) -> bool:
        metric, settings = config.inner_part("metric")
        return metric.judges(settings)

    @classmethod
    def programs(cls, config: Config) -> tuple[Path, ...]:
        metric, settings = config.inner_part("metric")
        return metric.programs(settings)

    def measure(self, clip: ScoredClip) -> Measurement:
        """Measurement of the region. Raises: NotAvailable where the data do not know it, or lack what the metric needs."""
        clip = clip.within(self.region)
        clip.require(self.metric.requires)
        return self.metric.measure(clip)

    def reduce(self, kept: Mapping[str, Measurement]) -> Score:
        return self.metric.reduce(kept)
