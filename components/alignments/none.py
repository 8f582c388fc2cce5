"""Pictures as they come: the arm that shows what alignment is worth."""

from torch import Tensor

from hvg.parts.part import PartConfig
from hvg.parts.scene import Alignment
from hvg.values.clip import ClipBatch


class NoAlignment(Alignment[PartConfig]):
    """Nothing moves."""

    @classmethod
    def per_picture(cls, config: PartConfig) -> bool:
        return True

    def offsets(self, batch: ClipBatch) -> Tensor | None:
        return None

    def reference_offsets(self, batch: ClipBatch) -> Tensor | None:
        return None
