"""Some of the backbone's own weights train: those whose names match patterns."""

from collections.abc import Mapping

from pydantic import Field

from hvg.parts.adapter import Adapter, LearningRate, train_only
from hvg.parts.backbone import Backbone
from hvg.parts.model import Conditioner
from hvg.parts.part import PartConfig


class PatternsConfig(PartConfig):
    """Settings of ``Patterns``."""

    train: dict[str, LearningRate] = Field(
        {"new": None},
        min_length=1,
        max_length=256,
        description="What of the backbone trains: pattern -> peak learning rate (null: training.learning_rate; 0: it does not "
        "train). A pattern is a word that the backbone knows (new, temporal, attention, ...), or the name of a weight in the "
        "system or its end, with * for anything; of several the last one holds. Conditioners train as they do, and at another "
        "rate, or not at all, where one names them.",
    )


class Patterns(Adapter[PatternsConfig]):
    """Weights by pattern, each pattern with a learning rate of its own."""

    def adapt(self, backbone: Backbone, conditioners: Mapping[str, Conditioner]) -> dict[str, float]:
        return train_only("adapter.train", self.config.train, backbone, conditioners)
