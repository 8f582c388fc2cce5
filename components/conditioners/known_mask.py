"""Which pictures of a clip are given, told beside the noise.

Source: Diffuman4D (arXiv 2507.13344), whose network's input has one such channel.
"""

from typing import ClassVar

from torch import Tensor

from hvg.parts.context import ConditionerContext
from hvg.parts.model import Conditioner, ConditionerConfig
from hvg.values.clip import ClipBatch
from hvg.values.conditioning import Conditioning, ConditioningSpec, Ports


class KnownMask(Conditioner[ConditionerConfig]):
    """Fills ``channels`` with one channel: 1 in the latents of what is known, 0 elsewhere. Nothing is learned.

    A latent frame is known where all of its frames are (``ClipBatch.known``, which the system says). It comes beside the noise
    level, by which a backbone is told that a cell is clean.
    """

    requires: ClassVar[frozenset[str]] = frozenset({"cameras"})

    def __init__(self, config: ConditionerConfig, context: ConditionerContext) -> None:
        super().__init__(config, context)
        self.stride = context.ports.latent_stride

    @classmethod
    def spec(cls, config: ConditionerConfig, ports: Ports) -> ConditioningSpec:
        return ConditioningSpec(channels=1)

    def forward(self, signal: Tensor | None, batch: ClipBatch) -> Conditioning:
        clips, views, frames = batch.grid
        height, width = (side // self.stride for side in batch.cameras.image_size)
        like = batch.cameras.intrinsics
        if batch.known is None:
            cells = like.new_zeros(clips, views, frames // self.temporal_stride)
        else:
            cells = batch.known.unflatten(2, (-1, self.temporal_stride)).all(dim=3).to(like)
        return Conditioning(channels=cells[..., None, None, None].expand(-1, -1, -1, 1, height, width))
