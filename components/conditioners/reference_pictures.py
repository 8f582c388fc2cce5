"""The reference photos as further pictures that the network sees whole, beside the one that it makes."""

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from hvg.parts.context import ConditionerContext
from hvg.parts.photo_conditioner import PhotoConditioner, PhotoConfig
from hvg.values.clip import ClipBatch
from hvg.values.conditioning import Conditioning, ConditioningSpec, Ports


class ReferencePicturesConfig(PhotoConfig):
    """How several photos are shown."""

    layout: Literal["apart", "wide"] = Field(
        "apart",
        description="Of several photos: each as a picture of its own (apart), or side by side in one wide picture.",
    )


class ReferencePictures(PhotoConditioner[ReferencePicturesConfig]):
    """Fills ``pictures`` with the codec's latents of the photos, the same for every view and frame.

    Nothing is learned; dropped, the latents are zero. Source: FLUX.1 Kontext (arXiv 2506.15742), whose one picture this is; front
    and back in one wide picture as in ReImagine (arXiv 2604.19720).
    """

    def __init__(self, config: ReferencePicturesConfig, context: ConditionerContext) -> None:
        super().__init__(config, context)
        self.codec = context.codec

    @classmethod
    def spec(cls, config: ReferencePicturesConfig, ports: Ports) -> ConditioningSpec:
        return ConditioningSpec(pictures=ports.latent_channels)

    def frozen_features(self, batch: ClipBatch) -> Tensor:
        """The codec's latents, (B, P, C, h, w), or (B, 1, C, h, P w) of a wide picture."""
        photos = self.photos(batch)
        if self.config.layout == "wide":
            photos = torch.cat(photos.unbind(1), dim=-1)[:, None]
        return self.codec.encode(photos[:, :, None])[:, :, 0]

    def forward(self, signal: Tensor | None, batch: ClipBatch) -> Conditioning:
        return Conditioning(pictures=self.features(batch)[:, None, None])
