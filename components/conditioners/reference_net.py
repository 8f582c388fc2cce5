"""The reference photo as the features of a second network, for spatial attention to look at."""

from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from hvg.core.errors import HvgError
from hvg.parts.context import ConditionerContext
from hvg.parts.continued import Continued
from hvg.parts.photo_conditioner import PhotoConditioner, PhotoConfig
from hvg.values.clip import ClipBatch
from hvg.values.conditioning import Conditioning, ConditioningSpec, Ports


class ReferenceNetConfig(PhotoConfig):
    """Settings of the second network."""

    sites: Literal["down_mid", "all"] = Field(
        "down_mid",
        description="Which of the backbone's spatial attentions see the photo. down_mid, as in HVG: those in its first half, "
        "of a UNet on the way down and in the middle. all, as in AnimateAnyone: those in its second half as well.",
    )
    trainable: bool = Field(
        True, description="Whether the second network is trained; otherwise it stays as the backbone started."
    )
    checkpointing: Annotated[Literal["none", "blocks"], Continued.FREE] = Field(
        "none", description="blocks: recompute its blocks in the backward pass, where it is trained."
    )


class ReferenceNet(PhotoConditioner[ReferenceNetConfig]):
    """Fills ``memory`` with what the backbone's own spatial layers, copied, see of the photos' clean latents, each by itself.

    The copy starts from the backbone's weights, published ones where it loaded them. It runs once a clip.
    Source: ReferenceNet (AnimateAnyone, arXiv 2311.17117); HVG (arXiv 2602.21188), section 3.2. Theirs gets a CLIP
    embedding by cross-attention, ours an empty context. Features are returned, not left in a bank.
    """

    encoder_settings: ClassVar[frozenset[str]] = frozenset({"sites", "trainable", "checkpointing"})

    def __init__(self, config: ReferenceNetConfig, context: ConditionerContext) -> None:
        super().__init__(config, context)
        self.codec = context.codec
        sites = _sites(config, context.ports)
        self.encoder = context.backbone.reference_encoder(sites, config.checkpointing == "blocks")
        self.encoder.requires_grad_(config.trainable)

    @classmethod
    def spec(cls, config: ReferenceNetConfig, ports: Ports) -> ConditioningSpec:
        return ConditioningSpec(memory={name: ports.memory[name].channels for name in _sites(config, ports)})

    def frozen_features(self, batch: ClipBatch) -> Tensor:
        """The codec's latents of the photos, (B, P, C, h, w)."""
        return self.codec.encode(self.photos(batch)[:, :, None])[:, :, 0]

    def forward(self, signal: Tensor | None, batch: ClipBatch) -> Conditioning:
        latents = self.features(batch)
        with torch.set_grad_enabled(torch.is_grad_enabled() and self.config.trainable):
            memory = self.encoder(latents.flatten(0, 1))
        photos = latents.shape[:2]
        return Conditioning(
            memory={site: tokens.unflatten(0, photos).flatten(1, 2)[:, None, None] for site, tokens in memory.items()}
        )


def _sites(config: ReferenceNetConfig, ports: Ports) -> list[str]:
    """The memory sites that are filled."""
    sites = [name for name, site in ports.memory.items() if config.sites == "all" or site.early]
    if not sites:
        raise HvgError(
            f"reference_net with sites={config.sites} finds none among the backbone's memory sites "
            f"({', '.join(ports.memory) or 'it has none'}); down_mid are those in its first half. "
            "Choose sites=all, another backbone or another reference_keys."
        )
    return sites
