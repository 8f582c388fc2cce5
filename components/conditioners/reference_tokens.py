"""The reference photo as tokens that spatial attention can look at."""

from collections.abc import Sequence
from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from hvg.parts.context import ConditionerContext
from hvg.parts.map_encoder import STEM
from hvg.parts.photo_conditioner import PhotoConditioner, PhotoConfig
from hvg.parts.zero import zero_module
from hvg.values.clip import ClipBatch
from hvg.values.conditioning import Conditioning, ConditioningSpec, Ports

from ..nn.sinusoidal import sinusoidal_embedding


class ReferenceTokensConfig(PhotoConfig):
    """Settings of the reference's tokens."""

    width: int = Field(
        64, ge=4, le=65_536, multiple_of=4, description="Channels of the small encoder of the reference's latents."
    )


class ReferenceTokens(PhotoConditioner[ReferenceTokensConfig]):
    """Fills ``memory`` at every site: one token per cell of each photo at the site's stride.

    A convolution on the codec's latents, then one of stride 2 per halving; at each site's stride the features plus a 2D
    sinusoidal position, and of several photos what is learned of each place among them, are projected to the site's width. A
    light stand-in for the ReferenceNet of AnimateAnyone (arXiv 2311.17117), which runs a second UNet to fill the same port.
    """

    encoder_settings: ClassVar[frozenset[str]] = frozenset({"width"})

    def __init__(self, config: ReferenceTokensConfig, context: ConditionerContext) -> None:
        super().__init__(config, context)
        ports, self.codec, self.sites = context.ports, context.codec, dict(context.ports.memory)
        self.stem_stride = ports.residuals[STEM].stride
        halvings = max((site.stride.bit_length() - 1 for site in self.sites.values()), default=0)
        self.stem = nn.Conv2d(ports.latent_channels, config.width, 3, padding=1)
        self.halvings = nn.ModuleList(
            nn.Conv2d(config.width, config.width, 3, stride=2, padding=1) for _ in range(halvings)
        )
        # Photos differ in contrast; the norm puts their features at the scale of the position that is added to them.
        self.norm = nn.LayerNorm(config.width)
        self.which = nn.Parameter(torch.zeros(config.photos, 1, config.width)) if config.photos > 1 else None
        self.query_position = zero_module(nn.Conv2d(config.width, ports.residuals[STEM].channels, 1))
        self.projections = nn.ModuleDict(
            {_key(name): nn.Linear(config.width, site.channels) for name, site in self.sites.items()}
        )

    @classmethod
    def spec(cls, config: ReferenceTokensConfig, ports: Ports) -> ConditioningSpec:
        return ConditioningSpec(
            residuals={STEM: ports.residuals[STEM].channels},
            memory={name: site.channels for name, site in ports.memory.items()},
        )

    def frozen_features(self, batch: ClipBatch) -> Tensor:
        """The codec's latents of the photos, (B, P, C, h, w)."""
        return self.codec.encode(self.photos(batch)[:, :, None])[:, :, 0]

    def forward(self, signal: Tensor | None, batch: ClipBatch) -> Conditioning:
        latents = self.features(batch)
        features = nn.functional.silu(self.stem(latents.flatten(0, 1)))
        pyramid = [features]
        for halving in self.halvings:
            features = nn.functional.silu(halving(features))
            pyramid.append(features)
        memory = {}
        for name, site in self.sites.items():
            features = pyramid[site.stride.bit_length() - 1].permute(0, 2, 3, 1)
            tokens = self.norm(features) + _position(features.shape[1:], features.device).to(features.dtype)
            tokens = tokens.flatten(1, 2).unflatten(0, latents.shape[:2])
            tokens = tokens if self.which is None else tokens + self.which
            memory[name] = self.projections[_key(name)](tokens).flatten(1, 2)[:, None, None]
        cells = (side // self.stem_stride for side in latents.shape[-2:])
        position = _position((*cells, self.config.width), latents.device).to(latents.dtype)
        where = self.query_position(position.movedim(-1, 0)[None]).expand(len(latents), -1, -1, -1)
        return Conditioning(residuals={STEM: where[:, None, None]}, memory=memory)


def _key(site: str) -> str:
    """Module names must not hold dots."""
    return site.replace(".", "/")


def _position(shape: Sequence[int], device: torch.device) -> Tensor:
    """Sinusoidal position of every cell, (h, w, D), half of D for each axis.

    Positions run from 0 to 1 over the image, so that they mean the same at every size.
    """
    height, columns, width = shape
    y, x = ((torch.arange(count, device=device) + 0.5) / count for count in (height, columns))
    rows = sinusoidal_embedding(y, width // 2, min_period=0.05, max_period=4.0)[:, None].expand(-1, columns, -1)
    along = sinusoidal_embedding(x, width // 2, min_period=0.05, max_period=4.0)[None].expand(height, -1, -1)
    return torch.cat([rows, along], dim=-1)
