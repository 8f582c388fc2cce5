"""Latents that are the pixels themselves, of several frames: exact, free, and joined in time as a video VAE's are."""

from collections.abc import Iterator

from pydantic import Field
from torch import Tensor

from hvg.parts.context import Context
from hvg.parts.model import Codec
from hvg.values.conditioning import LatentShape
from hvg.values.latent_clip import joined

from ..nn.folded_pixels import FoldedPixelsConfig, fold_pixels, unfold_pixels


class PixelTimeConfig(FoldedPixelsConfig):
    """How pixels become latents: (frames - zero) * scale, ``frames`` of them at a time."""

    frames: int = Field(
        4, ge=1, le=64, description="Frames that become one latent frame; the first has one of its own."
    )


class PixelTimeCodec(Codec[PixelTimeConfig]):
    """Space and time to depth; channel order (frame, 3, row in the cell, column in the cell).

    Latent frame 0 holds frame 0 in each of its places, so that all latent frames are of one spread; it is decoded from the last
    of them. What is encoded is decoded to the same pictures, and 1 + ``frames`` n frames are 1 + n latent frames.

    Source: the stride of Wan's VAE (arXiv 2503.20314), whose network it stands in for where nothing is downloaded.
    """

    def __init__(self, config: PixelTimeConfig, context: Context | None = None) -> None:
        super().__init__(config, context)
        self.channels, self.stride, self.temporal_stride = self.shape(config)
        self.scale = config.scale

    @classmethod
    def shape(cls, config: PixelTimeConfig) -> LatentShape:
        return LatentShape(3 * config.frames * config.factor**2, config.factor, config.frames)

    def encode(self, frames: Tensor) -> Tensor:
        return joined(fold_pixels(frames, self.config), self.temporal_stride).flatten(3, 4)

    def decode(self, latents: Tensor) -> Tensor:
        return self._frames(latents)[:, :, self.temporal_stride - 1 :]

    def decode_pieces(self, latents: Tensor) -> Iterator[Tensor]:
        first, *others = latents.split(self.decode_chunk, dim=2)
        yield self.decode(first)
        yield from map(self._frames, others)

    def _frames(self, latents: Tensor) -> Tensor:
        """The frames (B, V, s t, 3, H, W) in all places of latent frames."""
        return unfold_pixels(latents.unflatten(3, (self.temporal_stride, -1)).flatten(2, 3), self.config)
