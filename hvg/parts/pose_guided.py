"""Base of all pose signals: a control map, an encoder made of guiders, the backbone's stem; or the map beside the noise."""

from abc import abstractmethod
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor
from typing_extensions import TypeVar

from hvg.core.bounds import Width
from hvg.core.required import required
from hvg.parts.context import ConditionerContext
from hvg.parts.folded_map import FoldedMap
from hvg.parts.guider import Guider, num_halvings
from hvg.parts.model import Conditioner, ConditionerConfig
from hvg.values.clip import ClipBatch
from hvg.values.conditioning import Conditioning, ConditioningSpec, Ports, Site
from hvg.values.layout import per_frame

STEM = "stem"


class GuidedConfig(ConditionerConfig):
    """Settings of every control map."""

    inject: Literal["stem", "channels", "both"] = Field(
        "stem",
        description="How the network is told the map. stem: its encoder's features, added at the backbone's stem. channels: the "
        "map itself, folded to the latents' grid and concatenated to the noise. both: in both ways.",
    )
    widths: tuple[Width, ...] | None = Field(
        None,
        min_length=1,
        max_length=16,
        description="Channels of the guider's stages. null: 16, 32, 96, 256 as in AnimateAnyone, none wider than the stem.",
    )


class PoseGuidedConfig(GuidedConfig):
    """Settings of every pose signal."""

    supersampling: int = Field(
        1,
        ge=1,
        le=8,
        description="Rays per pixel side; their values are averaged (box filter), which softens outlines.",
    )


GuidedT = TypeVar("GuidedT", bound=GuidedConfig, default=Any)


class PoseSignal(Conditioner[GuidedT]):
    """A control map whose features are added at the backbone's stem; subclasses draw it and encode it.

    The map is 0 where there is nobody. With ``inject=channels`` nothing is encoded, and no encoder should be made
    (``encodes``).
    """

    requires: ClassVar[frozenset[str]] = frozenset({"body", "cameras"})
    encoder_settings: ClassVar[frozenset[str]] = frozenset({"widths", "inject"})

    def __init__(self, config: GuidedT, context: ConditionerContext) -> None:
        super().__init__(config, context)
        site, stride = stem(context.ports)
        channels = self.signal_channels(config)
        self.folded = None if config.inject == "stem" else FoldedMap(channels, site.channels, stride)

    @property
    def encodes(self) -> bool:
        """Whether the map goes through an encoder."""
        return self.config.inject != "channels"

    @classmethod
    def spec(cls, config: GuidedT, ports: Ports) -> ConditioningSpec:
        site, stride = stem(ports)
        if config.inject != "channels":
            num_halvings(stride, guider_widths(config, site))
        return ConditioningSpec(residuals={STEM: site.channels})

    @abstractmethod
    def draw_map(self, batch: ClipBatch) -> Tensor:
        """The control map, (B, V, T, K, H, W), 0 where there is nobody."""

    @abstractmethod
    def encode(self, maps: Tensor) -> Tensor:
        """Control maps (N, K, H, W) -> what is added at the stem, (N, D, h, w)."""

    @torch.no_grad()
    def signal(self, batch: ClipBatch) -> Tensor:
        # Joints in metres times a rotation in bfloat16 would be off by a centimetre.
        with torch.autocast(batch.cameras.world_to_camera.device.type, enabled=False):
            return self.draw_map(batch)

    def forward(self, signal: Tensor | None, batch: ClipBatch) -> Conditioning:
        return Conditioning(residuals={STEM: per_frame(self._tell, required(signal, "its control map"))})

    def _tell(self, maps: Tensor) -> Tensor:
        """Control maps (N, K, H, W) -> all that is added at the stem, (N, D, h, w)."""
        if self.folded is None:
            return self.encode(maps)
        return self.folded(maps) + self.encode(maps) if self.encodes else self.folded(maps)


class PoseGuided(PoseSignal[GuidedT]):
    """A pose signal on the one shared guider: subclasses say only how its map is drawn.

    So arms of a study differ in nothing else.
    """

    def __init__(self, config: GuidedT, context: ConditionerContext) -> None:
        super().__init__(config, context)
        site, stride = stem(context.ports)
        if self.encodes:
            self.guider = Guider(self.signal_channels(config), site.channels, stride, guider_widths(config, site))

    @classmethod
    def signal_channels(cls, config: GuidedT) -> int:
        """K of the control map."""
        return 4

    def encode(self, maps: Tensor) -> Tensor:
        return self.guider(maps)


def guider_widths(config: GuidedConfig, site: Site) -> tuple[int, ...]:
    """The configured widths; else stages in proportion: on a narrow stem the full guider would cost more than a level."""
    return config.widths or tuple(min(width, site.channels) for width in (16, 32, 96, 256))


def stem(ports: Ports) -> tuple[Site, int]:
    """Site where pose signals are added, and its stride in pixels."""
    site = ports.residuals[STEM]
    return site, site.stride * ports.latent_stride
