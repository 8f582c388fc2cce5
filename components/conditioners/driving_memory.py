"""The driving video itself, without a pose, as what every frame can look at: Wan-Animate 2's way."""

from collections.abc import Mapping
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from hvg.core.errors import HvgError
from hvg.core.required import required
from hvg.parts.context import ConditionerContext
from hvg.parts.model import Conditioner, ConditionerConfig
from hvg.values.clip import ClipBatch
from hvg.values.conditioning import Conditioning, ConditioningSpec, Ports, Site
from hvg.values.resized import resized


class DrivingMemoryConfig(ConditionerConfig):
    """Settings of what is remembered of the driving video."""

    sites: Literal["all", "down_mid"] = Field(
        "all",
        description="Which of the backbone's spatial attentions see the driving video. all: as in Wan-Animate 2. down_mid: those "
        "in its first half.",
    )
    level: float | None = Field(
        None,
        ge=-1000,
        le=1000,
        description="Noise level that the network is told while it runs over the driving video (of Wan a time step, for which "
        "Wan-Animate 2 says 1). null: what the backbone says of latents without noise.",
    )
    channels: Literal["zeros", "driving"] = Field(
        "zeros",
        description="What stands beside the driving video's latents where other slots concatenate channels to the noise. "
        "driving: those latents again, behind ones, as an image-to-video model is shown a video of which every frame is given; "
        "for appearance=reference_latent alone, with or without its mask.",
    )
    trainable: bool = Field(
        True,
        description="Whether the network also learns by what it makes of the driving video; false: by how it looks at it alone, "
        "which keeps less for the backward pass.",
    )


class DrivingMemory(Conditioner[DrivingMemoryConfig]):
    """Fills ``memory`` with what the backbone's own layers see of the driving video's clean latents; no weights of its own.

    The backbone runs over the driving video once, as over a clip of one view, without text and at a fixed level; every frame
    that is denoised then sees the driving tokens of its own moment, for all views the same. At sites of ``Ports.beside`` they
    lie to the right of the frame's picture, and dropped they are not there at all; where a network has none, they lie where a
    photo's lie, and dropped they are zeros, which take their share of the softmax. Pictures of another size are cut and resized
    to the clip's.

    Source: Wan-Animate 2, of which diffusers has the network (``WanAnimate2Transformer3DModel``). We differ: the photo has no
    frame of its own in the clip; the network reads neither a prompt for the driving video nor CLIP's tokens of it.
    """

    requires: ClassVar[frozenset[str]] = frozenset({"driving"})
    encoder_settings: ClassVar[frozenset[str]] = frozenset({"sites", "level", "channels", "trainable"})

    def __init__(self, config: DrivingMemoryConfig, context: ConditionerContext) -> None:
        super().__init__(config, context)
        self.codec, self.sites = context.codec, [*_sites(config, context.ports)]
        self.extra_channels = context.channels
        # In a tuple it is none of this module's: its weights train, move and are saved with the system's backbone.
        self._network = (context.backbone,)
        latents = context.ports.latent_channels
        if config.channels == "driving" and self.extra_channels < latents:
            raise HvgError(
                f"driving_memory with channels=driving needs the {latents} channels of a photo's latents beside the noise, and "
                f"there are {self.extra_channels}; choose appearance=reference_latent, or channels=zeros"
            )

    @classmethod
    def spec(cls, config: DrivingMemoryConfig, ports: Ports) -> ConditioningSpec:
        return ConditioningSpec(memory={name: site.channels for name, site in _sites(config, ports).items()})

    def forward(self, signal: Tensor | None, batch: ClipBatch) -> Conditioning:
        latents = self.latents(batch)
        (network,) = self._network
        weight = next(network.parameters())
        level = network.clean_level if self.config.level is None else self.config.level
        with torch.set_grad_enabled(torch.is_grad_enabled() and self.config.trainable):
            memory = network.attended(
                latents.to(weight.dtype),
                weight.new_full(latents.shape[:3], level),
                Conditioning(channels=self._beside(latents.to(weight.dtype))),
                sites=self.sites,
            )
        return Conditioning(memory={site: tokens.to(latents.dtype) for site, tokens in memory.items()})

    @torch.no_grad()
    def latents(self, batch: ClipBatch) -> Tensor:
        """The codec's latents of the driving video, (B, 1, t, C, h, w), as of a video that begins with the batch."""
        frames = resized(required(batch.driving, "ClipBatch.driving"), batch.cameras.image_size)
        # Of the frames that the first latent frame stands for it is the last one alone.
        return self.codec.encode(frames[:, None, self.temporal_stride - 1 :])

    def _beside(self, latents: Tensor) -> Tensor | None:
        """Channels (B, 1, t, K, h, w) that stand where the clip has those of other slots; None without such channels."""
        if not self.extra_channels:
            return None
        if self.config.channels == "zeros":
            return latents.new_zeros(*latents.shape[:3], self.extra_channels, *latents.shape[4:])
        given = latents.new_ones(*latents.shape[:3], self.extra_channels - latents.shape[3], *latents.shape[4:])
        return torch.cat([given, latents], dim=3)


def _sites(config: DrivingMemoryConfig, ports: Ports) -> Mapping[str, Site]:
    """The memory sites that are filled: those beside the picture where there are some."""
    available = ports.beside or ports.memory
    sites = {name: site for name, site in available.items() if config.sites == "all" or site.early}
    if not sites:
        raise HvgError(
            f"driving_memory with sites={config.sites} finds none among the backbone's memory sites "
            f"({', '.join(available) or 'it has none'}); down_mid are those in its first half. "
            "Choose sites=all or another backbone."
        )
    return sites
