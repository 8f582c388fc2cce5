"""No condition at all: the arm that shows what a signal is worth."""

from torch import Tensor

from hvg.parts.model import Conditioner, ConditionerConfig
from hvg.values.clip import ClipBatch
from hvg.values.conditioning import Conditioning, ConditioningSpec, Ports


class NoCondition(Conditioner[ConditionerConfig]):
    """Fills no port."""

    @classmethod
    def spec(cls, config: ConditionerConfig, ports: Ports) -> ConditioningSpec:
        return ConditioningSpec()

    def forward(self, signal: Tensor | None, batch: ClipBatch) -> Conditioning:
        return Conditioning()
