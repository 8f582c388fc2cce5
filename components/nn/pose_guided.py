"""What all pose signals have in common: a control map, the shared guider, the backbone's stem."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from components.nn.guider import Guider
from hvg.errors import ConfigError, Problem
from hvg.layout import per_frame
from hvg.protocols import Conditioner, ConditionerConfig, Context
from hvg.types import ClipBatch, Conditioning, ConditioningSpec, Ports, Site

STEM = "stem"


class PoseGuidedConfig(ConditionerConfig):
    """Settings of every pose signal."""

    widths: tuple[int, ...] = Field(
        (16, 32, 96, 256),
        min_length=1,
        description="Channels of the guider's stages. The same for all arms of a study.",
    )
    supersampling: int = Field(
        1,
        ge=1,
        le=8,
        description="Rays per pixel side; their values are averaged (box filter), which softens outlines.",
    )


class PoseGuided(Conditioner):
    """A pose signal: subclasses say only how its map is drawn, so that arms of a study differ in nothing else.

    ``signal`` is 0 where there is nobody, and its channels count as ``num_channels`` says; the guider's output is added
    at the backbone's stem. An empty map is thus also what stands in when the signal is dropped.
    """

    requires: ClassVar[frozenset[str]] = frozenset({"body", "cameras"})

    def __init__(self, config: Any, context: Context) -> None:
        super().__init__(config, context)
        assert context.ports is not None, "conditioners are built after the backbone's ports are known"
        site = _stem(context.ports)
        stride = site.stride * context.ports.latent_stride
        self.guider = Guider(self.num_channels(config), site.channels, stride, config.widths)

    @classmethod
    def num_channels(cls, config: Any) -> int:
        """K of the control map."""
        return 4

    @classmethod
    def spec(cls, config: Any, ports: Ports) -> ConditioningSpec:
        return ConditioningSpec(residuals={STEM: _stem(ports).channels})

    def forward(self, signal: Tensor | None, batch: ClipBatch) -> Conditioning:
        if signal is None:
            raise ValueError(f"{type(self).__name__} needs its control map; pass signal(batch)")
        return Conditioning(residuals={STEM: per_frame(self.guider, signal)})


def _stem(ports: Ports) -> Site:
    """Raises: ConfigError when the backbone has no stem."""
    if STEM not in ports.residuals:
        sites = ", ".join(ports.residuals) or "none"
        raise ConfigError(
            [Problem("backbone", f"pose signals are added at its site '{STEM}'; its residual sites: {sites}")]
        )
    return ports.residuals[STEM]


def box_filter(maps: Tensor, factor: int) -> Tensor:
    """(..., K, factor H, factor W) -> (..., K, H, W): the mean of every factor x factor block."""
    if factor == 1:
        return maps
    small = nn.functional.avg_pool2d(maps.flatten(0, -4), factor)
    return small.unflatten(0, maps.shape[:-3])


def channels_first(parts: Sequence[Tensor]) -> Tensor:
    """Concatenates maps (..., H, W, k) along k and returns (..., K, H, W)."""
    return torch.cat([part.movedim(-1, -3) for part in parts], dim=-3)
