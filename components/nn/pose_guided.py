"""What all pose signals have in common: a control map, the shared guider, the backbone's stem."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from components.nn.guider import Guider, num_halvings
from hvg.layout import per_frame
from hvg.protocols import Conditioner, ConditionerConfig, Context
from hvg.required import required
from hvg.types import ClipBatch, Conditioning, ConditioningSpec, Ports, Site

STEM = "stem"


class PoseGuidedConfig(ConditionerConfig):
    """Settings of every pose signal."""

    widths: tuple[int, ...] | None = Field(
        None,
        min_length=1,
        description="Channels of the guider's stages. null: 16, 32, 96, 256 as in AnimateAnyone, none wider than the stem.",
    )
    supersampling: int = Field(
        1,
        ge=1,
        le=8,
        description="Rays per pixel side; their values are averaged (box filter), which softens outlines.",
    )


class PoseGuided(Conditioner):
    """A pose signal: subclasses say only how its map is drawn, so that arms of a study differ in nothing else.

    The map is 0 where there is nobody; the guider's output is added at the backbone's stem.
    """

    requires: ClassVar[frozenset[str]] = frozenset({"body", "cameras"})
    encoder_settings: ClassVar[frozenset[str]] = frozenset({"dropout", "widths"})

    def __init__(self, config: Any, context: Context) -> None:
        super().__init__(config, context)
        site, stride = _stem(required(context.ports, "Context.ports"))
        self.guider = Guider(
            self.num_channels(config), site.channels, stride, config.widths or default_widths(site.channels)
        )

    @classmethod
    def num_channels(cls, config: Any) -> int:
        """K of the control map."""
        return 4

    @classmethod
    def spec(cls, config: Any, ports: Ports) -> ConditioningSpec:
        site, stride = _stem(ports)
        num_halvings(stride, config.widths or default_widths(site.channels))
        return ConditioningSpec(residuals={STEM: site.channels})

    @abstractmethod
    def draw_map(self, batch: ClipBatch) -> Tensor:
        """The control map, (B, V, T, K, H, W), 0 where there is nobody."""

    @torch.no_grad()
    def signal(self, batch: ClipBatch) -> Tensor:
        # Joints in metres times a rotation in bfloat16 would be off by a centimetre.
        with torch.autocast(required(batch.body, "ClipBatch.body").joints.device.type, enabled=False):
            return self.draw_map(batch)

    def forward(self, signal: Tensor | None, batch: ClipBatch) -> Conditioning:
        return Conditioning(residuals={STEM: per_frame(self.guider, required(signal, "its control map"))})


def default_widths(stem: int) -> tuple[int, ...]:
    """Stages in proportion to the stem: on a narrow backbone the full guider would cost more than a level of it."""
    return tuple(min(width, stem) for width in (16, 32, 96, 256))


def _stem(ports: Ports) -> tuple[Site, int]:
    """Where pose signals are added, and its stride in pixels."""
    site = ports.residuals[STEM]
    return site, site.stride * ports.latent_stride


def box_filter(maps: Tensor, factor: int) -> Tensor:
    """(..., K, factor H, factor W) -> (..., K, H, W): the mean of every factor x factor block."""
    if factor == 1:
        return maps
    small = nn.functional.avg_pool2d(maps.flatten(0, -4), factor)
    return small.unflatten(0, maps.shape[:-3])


def channels_first(parts: Sequence[Tensor]) -> Tensor:
    """Concatenates maps (..., H, W, k) along k and returns (..., K, H, W)."""
    return torch.cat([part.movedim(-1, -3) for part in parts], dim=-3)
