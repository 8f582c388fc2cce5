"""No condition at all: the arm that shows what a signal is worth."""

from __future__ import annotations

from torch import Tensor

from hvg.protocols import Conditioner, ConditionerConfig
from hvg.types import ClipBatch, Conditioning, ConditioningSpec, Ports


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
