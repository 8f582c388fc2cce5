"""Metrics that are the number of another metric, of a part of what there is to be seen."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar

from pydantic import Field, field_validator

from hvg.parts.context import Context
from hvg.parts.metric import Measurement, Metric, Score
from hvg.parts.part import PartConfig, PartName


class InnerMetricConfig(PartConfig):
    """The metric. outer: registered name of the part that these are settings of, which is none to put inside; why: not."""

    outer: ClassVar[str]
    why: ClassVar[str]

    metric: Annotated[str, PartName("metric", settings="metric_settings")] = Field(
        "psnr_foreground", description="Registered name of the metric (hvg list metric)."
    )
    metric_settings: Mapping[str, Any] = Field({}, description="That metric's own settings.")

    @field_validator("metric")
    @classmethod
    def _another(cls, name: str) -> str:
        if name == cls.outer:
            raise ValueError(f"{cls.why}; name the metric itself")
        return name


class InnerMetric(Metric):
    """The other metric, whose definition and measurement are told apart by a word before them."""

    Config: ClassVar[type[InnerMetricConfig]] = InnerMetricConfig

    def __init__(self, config: InnerMetricConfig, context: Context | None, word: str) -> None:
        """Raises: UnknownPartError for the metric, and what that one raises."""
        cls, settings = config.inner_part("metric")
        self.metric: Metric = cls(settings, context)
        self.higher_is_better, self.unit = self.metric.higher_is_better, self.metric.unit
        self.networks, self.definition = self.metric.networks, f"{word}/{self.metric.definition}"
        shared = self.metric.measurement
        self.measurement = shared and f"{word}/{shared}"

    @classmethod
    def judges(cls, config: InnerMetricConfig) -> bool:
        metric, settings = config.inner_part("metric")
        return metric.judges(settings)

    @classmethod
    def programs(cls, config: InnerMetricConfig) -> tuple[Path, ...]:
        metric, settings = config.inner_part("metric")
        return metric.programs(settings)

    def reduce(self, kept: Mapping[str, Measurement]) -> Score:
        return self.metric.reduce(kept)
