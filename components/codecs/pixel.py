"""Latents that are the pixels themselves, folded into channels: exact, free, for small pictures."""

from torch import Tensor

from hvg.parts.context import Context
from hvg.parts.model import Codec
from hvg.values.conditioning import LatentShape

from ..nn.folded_pixels import FoldedPixelsConfig, fold_pixels, unfold_pixels


class PixelConfig(FoldedPixelsConfig):
    """How pixels become latents: (frames - zero) * scale."""


class PixelCodec(Codec[PixelConfig]):
    """Space to depth; channel order (3, row in the cell, column in the cell)."""

    temporal_stride = 1

    def __init__(self, config: PixelConfig, context: Context | None = None) -> None:
        super().__init__(config, context)
        self.channels, self.stride, _ = self.shape(config)
        self.scale = config.scale

    @classmethod
    def shape(cls, config: PixelConfig) -> LatentShape:
        return LatentShape(3 * config.factor**2, config.factor)

    def encode(self, frames: Tensor) -> Tensor:
        return fold_pixels(frames, self.config)

    def decode(self, latents: Tensor) -> Tensor:
        return unfold_pixels(latents, self.config)
