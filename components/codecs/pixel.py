"""Latents that are the pixels themselves, folded into channels: exact, free, for small pictures."""

from typing import Literal

from pydantic import Field
from torch import Tensor
from torch.nn import functional

from hvg.core.bounds import Scale
from hvg.parts.context import Context
from hvg.parts.model import Codec
from hvg.parts.part import PartConfig
from hvg.values.conditioning import LatentShape
from hvg.values.layout import per_frame


class PixelConfig(PartConfig):
    """How pixels become latents: (frames - zero) * scale."""

    factor: int = Field(4, ge=1, le=64, description="Side of the square of pixels that becomes one latent cell.")
    scale: Scale = Field(
        1.0, description="Multiplies the latents, so that their spread fits the prediction's sigma_data."
    )
    zero: Literal["white", "grey"] = Field(
        "white", description="Which colour is 0. With white, a zero-initialised network starts from a clean background."
    )


class PixelCodec(Codec[PixelConfig]):
    """Space to depth; channel order (3, row in the cell, column in the cell)."""

    temporal_stride = 1

    def __init__(self, config: PixelConfig, context: Context | None = None) -> None:
        super().__init__(config, context)
        self.channels, self.stride, _ = self.shape(config)
        self.scale = config.scale
        self._offset = {"white": 1.0, "grey": 0.0}[config.zero]

    @classmethod
    def shape(cls, config: PixelConfig) -> LatentShape:
        return LatentShape(3 * config.factor**2, config.factor)

    def encode(self, frames: Tensor) -> Tensor:
        latents = per_frame(lambda x: functional.pixel_unshuffle(x, self.config.factor), frames)
        return (latents - self._offset) * self.config.scale

    def decode(self, latents: Tensor) -> Tensor:
        frames = per_frame(lambda x: functional.pixel_shuffle(x, self.config.factor), latents)
        return frames / self.config.scale + self._offset
