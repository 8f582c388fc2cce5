"""Base of all control maps: the map, an encoder chosen by name, the backbone's stem; or the map beside the noise."""

from abc import abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Annotated, Any, ClassVar, Literal, cast

import torch
from pydantic import Field, model_validator
from torch import Tensor
from typing_extensions import TypeVar

from hvg.core.bounds import Width
from hvg.core.required import required
from hvg.parts.codec_pictures import CodecPictures, check_pictures
from hvg.parts.context import ConditionerContext
from hvg.parts.folded_map import EncodedMap, FoldedMap
from hvg.parts.map_encoder import STEM, MapEncoder, by_site, stem
from hvg.parts.model import Conditioner, ConditionerConfig, OncePer
from hvg.parts.part import PartName
from hvg.values.clip import ClipBatch, Within
from hvg.values.conditioning import Conditioning, ConditioningSpec, Ports
from hvg.values.layout import fold_frames, fold_groups, unfold_frames


class GuidedConfig(ConditionerConfig):
    """Settings of every control map.

    short: settings here that are short for those of the encoder of these names, from before encoders were parts.
    """

    short: ClassVar[tuple[str, ...]] = ("widths",)

    inject: Literal["stem", "channels", "both"] = Field(
        "stem",
        description="How the network is told the map. stem: its encoder's features, added at the backbone's stem, or where that "
        "encoder says. channels: the map itself, concatenated to the noise. both: in both ways.",
    )
    channels_by: Literal["folded", "codec"] = Field(
        "folded",
        description="What of the map is concatenated to the noise. folded: its pixels, folded to the latents' grid. codec: the "
        "codec's latents of it as pictures, which are those of the frames where it shows what they show.",
    )
    encoder: Annotated[str, PartName("encoder", settings="encoder_settings")] = Field(
        "guider", description="Registered name of what encodes the map for the stem (hvg list encoder)."
    )
    encoder_settings: Mapping[str, Any] = Field({}, description="That encoder's own settings.")
    widths: tuple[Width, ...] | None = Field(
        None, min_length=1, max_length=16, description="Short for encoder_settings.widths, and moved there."
    )

    @model_validator(mode="after")
    def _to_the_encoder(self) -> "GuidedConfig":
        given = {key: value for key in self.short if (value := getattr(self, key)) is not None}
        # As a configuration's file has them.
        given = {key: list(cast(tuple[Any, ...], x)) if isinstance(x, tuple) else x for key, x in given.items()}
        twice = [key for key in given if self.encoder_settings.get(key, given[key]) not in (None, given[key])]
        if twice:
            raise ValueError(f"{twice[0]} is given here and in encoder_settings; one is allowed")
        vars(self).update(dict.fromkeys(given), encoder_settings={**self.encoder_settings, **given})
        return self


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
    encoder_settings: ClassVar[frozenset[str]] = frozenset(
        {"inject", "channels_by", "encoder", "encoder_settings", "widths"}
    )

    def __init__(self, config: GuidedT, context: ConditionerContext) -> None:
        super().__init__(config, context)
        site, stride = stem(context.ports)
        self.folded: FoldedMap | EncodedMap | None = None
        if config.inject == "stem":
            return
        if config.channels_by == "codec":
            latents = CodecPictures(self.told_channels, context.codec, site.stride)
            self.folded = EncodedMap(latents, site.channels)
        else:
            self.folded = FoldedMap(sum(self.told_channels.values()), site.channels, stride)

    @property
    def encodes(self) -> bool:
        """Whether the map goes through an encoder."""
        return self.config.inject != "channels"

    @classmethod
    def map_channels(cls, config: GuidedT) -> Mapping[str, int]:
        """Name -> channels of the maps that the control map is made of, in their order; one, unless a part says more."""
        return {"map": cls.signal_channels(config)}

    @property
    def told_channels(self) -> dict[str, int]:
        """Name -> channels of the maps that are told together: those of all s frames of a latent frame."""
        return {name: self.temporal_stride * count for name, count in self.map_channels(self.config).items()}

    @classmethod
    def spec(cls, config: GuidedT, ports: Ports) -> ConditioningSpec:
        if config.inject != "stem" and config.channels_by == "codec":
            check_pictures(cls.map_channels(config))
        return ConditioningSpec(residuals={STEM: stem(ports)[0].channels})

    @classmethod
    def once_per(cls, config: GuidedT, first_view: Within = "grid") -> OncePer:
        """Once a cell where pictures of the map do not know of each other: encoders do not either (``MapEncoder``)."""
        return "cell" if cls.per_picture(config) else "window"

    @abstractmethod
    def draw_map(self, batch: ClipBatch) -> Tensor:
        """The control map, (B, V, T, K, H, W), 0 where there is nobody."""

    @abstractmethod
    def encode(self, maps: Tensor) -> Tensor | Mapping[str, Tensor]:
        """Control maps (N, s K, H, W) of ``told_channels`` -> what is added at the stem, (N, D, h, w); or at several sites, as
        of ``spec``.
        """

    @torch.no_grad()
    def signal(self, batch: ClipBatch) -> Tensor:
        # Joints in metres times a rotation in bfloat16 would be off by a centimetre.
        with torch.autocast(batch.cameras.world_to_camera.device.type, enabled=False):
            return self.draw_map(batch)

    def forward(self, signal: Tensor | None, batch: ClipBatch) -> Conditioning:
        maps = self.joined(required(signal, "its control map"), self.map_channels(self.config))
        told = self._tell(fold_frames(maps))
        return Conditioning(residuals={site: unfold_frames(x, maps.shape[:3]) for site, x in told.items()})

    def joined(self, maps: Tensor, channels: Mapping[str, int]) -> Tensor:
        """Maps (B, V, s t, C, H, W) as those of latent frames, (B, V, t, s C, H, W). channels: name -> those of one frame."""
        return fold_groups(maps, self.temporal_stride, [*channels.values()])

    def _tell(self, maps: Tensor) -> dict[str, Tensor]:
        """Control maps (N, s K, H, W) -> site -> all that is added there, (N, D, h, w)."""
        told = dict(by_site(self.encode(maps))) if self.encodes else {}
        if self.folded is not None:
            folded = self.folded(maps)
            told[STEM] = folded + told[STEM] if STEM in told else folded
        return told


class PoseGuided(PoseSignal[GuidedT]):
    """A control map with an encoder that is chosen by name: subclasses say only how the map is drawn.

    So arms of a study differ in nothing else.
    """

    def __init__(self, config: GuidedT, context: ConditionerContext) -> None:
        super().__init__(config, context)
        if self.encodes:
            cls, settings = config.inner_part("encoder")
            encoder: MapEncoder = cls(settings, self.told_channels, context)
            self.hold(encoder)
            # No module here: where its layers lie is for ``hold`` to say.
            self._encode: Callable[[Tensor], Tensor | Mapping[str, Tensor]] = encoder.__call__

    def hold(self, encoder: MapEncoder) -> None:
        """Makes the encoder one of this part's layers, under its registered name, which checkpoints have."""
        self.add_module(self.config.encoder, encoder)

    @classmethod
    def signal_channels(cls, config: GuidedT) -> int:
        """K of the control map."""
        return 4

    @classmethod
    def spec(cls, config: GuidedT, ports: Ports) -> ConditioningSpec:
        if config.inject == "channels":
            return super().spec(config, ports)
        encoder, settings = config.inner_part("encoder")
        encoder.fit(settings, cls.map_channels(config), ports)
        spec = super().spec(config, ports)
        sites = encoder.sites(settings, ports)
        return replace(spec, residuals=sites if config.inject == "stem" else {**spec.residuals, **sites})

    def encode(self, maps: Tensor) -> Tensor | Mapping[str, Tensor]:
        return self._encode(maps)
