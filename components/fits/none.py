"""Bodies as they are."""

from hvg.parts.part import PartConfig
from hvg.parts.scene import Fit
from hvg.values.clip import ClipBatch


class NoFit(Fit[PartConfig]):
    """Signals see the true body."""

    @classmethod
    def changes(cls, config: PartConfig) -> bool:
        return False

    @classmethod
    def needs(cls, config: PartConfig) -> frozenset[str]:
        return frozenset()

    def observe(self, clip: ClipBatch) -> ClipBatch:
        return clip
