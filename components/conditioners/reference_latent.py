"""The reference photo's latents, concatenated to the noise."""

from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor

from hvg.core.random_keys import generator
from hvg.core.required import required
from hvg.parts.context import ConditionerContext
from hvg.parts.photo_conditioner import PhotoConditioner, PhotoConfig
from hvg.values.clip import ClipBatch
from hvg.values.conditioning import Conditioning, ConditioningSpec, Ports


class ReferenceLatentConfig(PhotoConfig):
    """Settings of the reference's latents. Published SVD weights expect ``scaled=false``, noise 0.02 or the like."""

    scaled: bool = Field(
        True, description="false: the latents before the codec's scaling factor, as Stable Video Diffusion has them."
    )
    mask: int = Field(
        0,
        ge=0,
        le=64,
        description="Channels of ones ahead of the latents, 0 where the photo is not told: what image-to-video models know given "
        "frames by (Wan: 4).",
    )
    noise_augmentation: float = Field(
        0.0,
        ge=0,
        le=1000,
        description="Standard deviation of the noise added to the photo, whose range is [-1, 1]; the same for a clip always.",
    )


class ReferenceLatent(PhotoConditioner[ReferenceLatentConfig]):
    """Fills ``channels`` with the codec's latents of the first reference photo, the same for every view and frame.

    Nothing is learned. Source: image-to-video SVD (arXiv 2311.15127); HVG (arXiv 2602.21188), section 3.2. Dropped, the
    channels are zero, as SVD does for guidance.
    """

    encoder_settings: ClassVar[frozenset[str]] = frozenset({"scaled", "mask"})

    def __init__(self, config: ReferenceLatentConfig, context: ConditionerContext) -> None:
        super().__init__(config, context)
        self.codec = context.codec

    @classmethod
    def spec(cls, config: ReferenceLatentConfig, ports: Ports) -> ConditioningSpec:
        return ConditioningSpec(channels=config.mask + ports.latent_channels)

    def frozen_features(self, batch: ClipBatch) -> Tensor:
        """The codec's latents of the first photo, (B, 1, 1, C, h, w)."""
        photo = required(batch.reference, "ClipBatch.reference").frames[:, :1, None]
        if self.config.noise_augmentation:
            draws = [torch.randn(photo.shape[1:], generator=generator("photo", name)) for name in batch.clip_id]
            photo = photo + self.config.noise_augmentation * torch.stack(draws).to(photo)
        return self.codec.encode(photo)

    def forward(self, signal: Tensor | None, batch: ClipBatch) -> Conditioning:
        latents = self.features(batch)
        latents = latents if self.config.scaled else latents / self.codec.scale
        given = latents.new_ones(*latents.shape[:3], self.config.mask, *latents.shape[4:])
        return Conditioning(channels=torch.cat([given, latents], dim=3) if self.config.mask else latents)
