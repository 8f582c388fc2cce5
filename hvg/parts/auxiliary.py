"""Base of the conditioners that are trained by losses of their own besides, whose weight changes in the course of a training."""

import math
from typing import ClassVar, Literal

from pydantic import Field
from typing_extensions import TypeVar

from hvg.core.bounds import Count, Weight
from hvg.parts.model import Conditioner, ConditionerConfig


class AuxiliaryConfig(ConditionerConfig):
    """Settings of every conditioner with losses of its own."""

    loss_weight: Weight = Field(0.1, description="Weight of its own losses at the first training step.")
    loss_weight_end: Weight = Field(0.0, description="Weight of the same from `loss_steps` on.")
    loss_steps: Count = Field(12_000, description="Training steps from the one weight to the other.")
    loss_schedule: Literal["constant", "linear", "cosine", "step"] = Field(
        "linear",
        description="constant: always the first weight. linear, cosine: from the first to the last. step: the first, and from "
        "`loss_steps` on the last.",
    )

    def weight_at(self, step: int) -> float:
        """Weight of its own losses at a training step, counted from 0."""
        passed = min(1.0, step / self.loss_steps)
        share = {
            "constant": 0.0,
            "linear": passed,
            "cosine": (1 - math.cos(math.pi * passed)) / 2,
            "step": float(passed >= 1),
        }[self.loss_schedule]
        return self.loss_weight + share * (self.loss_weight_end - self.loss_weight)


AuxiliaryT = TypeVar("AuxiliaryT", bound=AuxiliaryConfig, default=AuxiliaryConfig)


class AuxiliaryConditioner(Conditioner[AuxiliaryT]):
    """A conditioner with losses of its own, ``Conditioning.losses``: of every clip, before its weight."""

    encoder_settings: ClassVar[frozenset[str]] = frozenset(AuxiliaryConfig.model_fields)

    def loss_weight(self, step: int) -> float:
        return self.config.weight_at(step)
