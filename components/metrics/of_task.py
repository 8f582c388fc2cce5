"""Another metric, of the clips of one task alone."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator

from hvg.parts.context import Context
from hvg.parts.metric import Measurement, Metric, Score
from hvg.parts.part import PartConfig, PartName
from hvg.values.scored_clip import ScoredClip
from hvg.values.task import TASKS


class OfTask(Metric):
    """The number of another metric over the clips that are novel views of the photo's pose, or over those that are novel poses.

    So one model can be scored on both, as in GAS's Tables 3 and 4. Where data do not say which a clip is, it is not available.
    """

    class Config(PartConfig):
        """Settings of the task, and the metric."""

        task: Literal["view", "pose"] = Field(
            description="view: clips in which the person stands as in the photo. pose: all others."
        )
        metric: Annotated[str, PartName("metric", settings="metric_settings")] = Field(
            "psnr_foreground", description="Registered name of the metric (hvg list metric)."
        )
        metric_settings: Mapping[str, Any] = Field({}, description="That metric's own settings.")

        @field_validator("metric")
        @classmethod
        def _another(cls, name: str) -> str:
            if name == "of_task":
                raise ValueError("a clip has one task; name the metric itself")
            return name

    requires = frozenset({"task"})

    def __init__(self, config: Config, context: Context | None = None) -> None:
        """Raises: UnknownPartError for the metric, and what that one raises."""
        cls, settings = config.inner_part("metric")
        self.task = TASKS.index(config.task)
        self.metric: Metric = cls(settings, context)
        self.higher_is_better, self.unit = self.metric.higher_is_better, self.metric.unit
        self.networks, self.definition = self.metric.networks, f"of-{config.task}/{self.metric.definition}"
        shared = self.metric.measurement
        self.measurement = shared and f"of-{config.task}/{shared}"

    @classmethod
    def judges(cls, config: Config) -> bool:
        metric, settings = config.inner_part("metric")
        return metric.judges(settings)

    @classmethod
    def programs(cls, config: Config) -> tuple[Path, ...]:
        metric, settings = config.inner_part("metric")
        return metric.programs(settings)

    def measure(self, clip: ScoredClip) -> Measurement:
        """Measurement of the clip, of the other task nothing. Raises: NotAvailable where it lacks what the metric needs."""
        clip.require(self.requires)
        if clip.task != self.task:
            return {}
        clip.require(self.metric.requires)
        return self.metric.measure(clip)

    def reduce(self, kept: Mapping[str, Measurement]) -> Score:
        return self.metric.reduce(kept)
