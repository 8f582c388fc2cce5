"""No condition at all: the arm that shows what a signal is worth."""

from torch import Tensor

from hvg.parts.model import Conditioner, ConditionerConfig, OncePer
from hvg.values.clip import ClipBatch, Within
from hvg.values.conditioning import Conditioning, ConditioningSpec, Ports


class NoCondition(Conditioner[ConditionerConfig]):
    """Fills no port."""

    @classmethod
    def once_per(cls, config: ConditionerConfig, first_view: Within = "grid") -> OncePer:
        return "clip"

    @classmethod
    def spec(cls, config: ConditionerConfig, ports: Ports) -> ConditioningSpec:
        return ConditioningSpec()

    def forward(self, signal: Tensor | None, batch: ClipBatch) -> Conditioning:
        return Conditioning()
