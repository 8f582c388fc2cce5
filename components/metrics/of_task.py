"""Another metric, of the clips of one task alone."""

from typing import ClassVar, Literal

from pydantic import Field

from hvg.parts.context import Context
from hvg.parts.metric import Measurement
from hvg.values.scored_clip import ScoredClip
from hvg.values.task import TASKS

from ..nn.inner_metric import InnerMetric, InnerMetricConfig


class OfTask(InnerMetric):
    """The number of another metric over the clips that are novel views of the photo's pose, or over those that are novel poses.

    So one model can be scored on both, as in GAS's Tables 3 and 4. Where data do not say which a clip is, it is not available.
    """

    class Config(InnerMetricConfig):
        """Settings of the task, and the metric."""

        outer: ClassVar[str] = "of_task"
        why: ClassVar[str] = "a clip has one task"

        task: Literal["view", "pose"] = Field(
            description="view: clips in which the person stands as in the photo. pose: all others."
        )

    requires = frozenset({"task"})

    def __init__(self, config: Config, context: Context | None = None) -> None:
        super().__init__(config, context, f"of-{config.task}")
        self.task = TASKS.index(config.task)

    def measure(self, clip: ScoredClip) -> Measurement:
        """Measurement of the clip, of the other task nothing. Raises: NotAvailable where it lacks what the metric needs."""
        clip.require(self.requires)
        if clip.task != self.task:
            return {}
        clip.require(self.metric.requires)
        return self.metric.measure(clip)
