"""No condition at all: the arm that shows what a signal is worth."""

from __future__ import annotations

from torch import Tensor

from hvg.parts.model import Conditioner, ConditionerConfig
from hvg.values.clip import ClipBatch
from hvg.values.conditioning import Conditioning, ConditioningSpec, Ports


class NoneConfig(ConditionerConfig):
    """Settings of the empty condition."""


class NoCondition(Conditioner):
    """Fills no port."""

    Config = NoneConfig

    @classmethod
    def spec(cls, config: NoneConfig, ports: Ports) -> ConditioningSpec:
        return ConditioningSpec()

    def forward(self, signal: Tensor | None, batch: ClipBatch) -> Conditioning:
        return Conditioning()
