"""What the person of the photo looks like from there in that pose, as a reconstructor shows it."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, field_validator, model_validator
from torch import Tensor

from hvg.core.checkpoint import checkpoint_digest
from hvg.core.digests import settings_digest
from hvg.core.errors import HvgError
from hvg.core.required import required
from hvg.core.sources import source_digest
from hvg.data.trained_reconstructor import FrozenReconstructor, trained_reconstructor
from hvg.geometry.depth_normals import normals_of_depth
from hvg.parts.codec_pictures import ALPHA, RGB, CodecPictures
from hvg.parts.context import ConditionerContext, SceneContext
from hvg.parts.part import PartConfig, PartName
from hvg.parts.reconstructor import Reconstructor
from hvg.values.cameras import pixel_rays
from hvg.values.clip import ClipBatch
from hvg.values.conditioning import Conditioning, ConditioningSpec, Ports
from hvg.values.layout import per_frame

from ..nn.control_maps import box_filter, channels_first
from ..nn.surface_maps import DepthConfig, SurfaceMap, brightness, fine_cameras, pelvis_distance, unique_maps

# Name of a map -> its channels.
CHANNELS = {RGB: 3, ALPHA: 1, "depth": 1, "normal": 3}
COLOURS = {RGB: 3, ALPHA: 1}


class AppearanceRenderConfig(DepthConfig):
    """Settings of the render."""

    reconstructor: Annotated[str, PartName("reconstructor", settings="reconstructor_settings")] = Field(
        "projection", description="Registered name of what shows the person (hvg list reconstructor)."
    )
    reconstructor_settings: Mapping[str, Any] = Field(
        {}, description="The reconstructor's own settings. Of one that has to be trained its checkpoint has them."
    )
    checkpoint: Path | None = Field(
        None, description="Run, or checkpoint of a run, that trained the reconstructor; null: it has nothing to train."
    )
    maps: tuple[Literal["rgb", "alpha", "depth", "normal"], ...] = Field(
        (RGB, ALPHA),
        min_length=1,
        max_length=4,
        description="Which maps, in which order; of the K channels rgb and normal have 3 each, alpha and depth 1.",
    )
    residual: Literal["none", "render"] = Field(
        "none",
        description="Where the prediction starts. none: from nothing. render: from the render on white, so that the network "
        "predicts what has to be added to it.",
    )

    @field_validator("maps")
    @classmethod
    def _with_alpha(cls, maps: tuple[str, ...]) -> tuple[str, ...]:
        if RGB in maps and ALPHA not in maps:
            raise ValueError("rgb goes with alpha, by which its colours are multiplied: maps=[rgb,alpha]")
        return unique_maps(maps)

    @model_validator(mode="after")
    def _with_colours(self) -> "AppearanceRenderConfig":
        if self.residual == "render" and RGB not in self.maps:
            raise ValueError("residual=render starts from colours, which maps leaves out: maps=[rgb,alpha]")
        return self


class AppearanceRender(SurfaceMap[AppearanceRenderConfig]):
    """Control map (B, V, T, K, H, W): the person that a frozen reconstructor makes of the photo, seen by the clip's cameras.

    rgb: sRGB in [-1, 1]. alpha: share of the pixel that the person covers. depth: near is bright, in [0.1, 1], as of
    ``smpl_depth``. normal: in [-1, 1], camera axes, from the depth. All of them times alpha, so that nobody is 0.

    Source: the NeRF's render as a condition, GAS (arXiv 2502.06957). We differ: any reconstructor, any of its maps, any encoder;
    GAS has ``encoder=codec_cnn``.
    """

    requires: ClassVar[frozenset[str]] = frozenset({"reference", "body", "cameras"})
    poses_photo: ClassVar[bool] = True
    # Of the checkpoint not where it lies, but ``content`` matters.
    encoder_settings: ClassVar[frozenset[str]] = frozenset({"checkpoint", "residual"})

    def __init__(self, config: AppearanceRenderConfig, context: ConditionerContext) -> None:
        """Raises: CheckpointError where the reconstructor cannot be read."""
        super().__init__(config, context)
        colours = {name: self.temporal_stride * count for name, count in COLOURS.items()}
        self.latents = CodecPictures(colours, context.codec) if config.residual == "render" else None
        # Where a step is only counted nothing is drawn.
        self.reconstructor = None if context.blank else FrozenReconstructor(_reconstructor(config, context))

    @classmethod
    def spec(cls, config: AppearanceRenderConfig, ports: Ports) -> ConditioningSpec:
        part, settings = config.inner_part("reconstructor")
        learns = part.learns(settings)
        if config.checkpoint is not None and not learns:
            raise HvgError(f"{config.reconstructor} has nothing to train, so it has no checkpoint; leave that out")
        if config.checkpoint is None and learns:
            raise HvgError(
                f"{config.reconstructor} has to be trained before; give its run as checkpoint=RUN",
                then=f"hvg train system=avatar reconstructor={config.reconstructor} name=NAME",
            )
        if learns and (given := _given(settings)):
            raise HvgError(f"{config.reconstructor} has the settings of its checkpoint; leave out {', '.join(given)}")
        spec = super().spec(config, ports)
        return spec if config.residual == "none" else replace(spec, base=ports.latent_channels)

    @classmethod
    def needs(cls, config: AppearanceRenderConfig) -> frozenset[str]:
        part, settings = config.inner_part("reconstructor")
        return cls.requires | part.needs(settings)

    @classmethod
    def content(cls, config: AppearanceRenderConfig) -> str:
        part, settings = config.inner_part("reconstructor")
        trained = config.checkpoint and checkpoint_digest(config.checkpoint)
        return settings_digest([source_digest(part.__module__), part.content(settings), trained])

    @classmethod
    def map_channels(cls, config: AppearanceRenderConfig) -> dict[str, int]:
        return {name: CHANNELS[name] for name in config.maps}

    @classmethod
    def photo_colours(cls, config: AppearanceRenderConfig) -> tuple[int, int, int, int] | None:
        if RGB not in config.maps:
            return None
        first, alpha = (sum(CHANNELS[m] for m in config.maps[: config.maps.index(name)]) for name in (RGB, ALPHA))
        return first, first + 1, first + 2, alpha

    def draw_map(self, batch: ClipBatch) -> Tensor:
        cameras = fine_cameras(batch, self.config)
        drawing = required(self.reconstructor, "a reconstructor, which is left out where a step is only counted")
        seen = drawing.on(cameras.intrinsics.device).render(replace(batch, cameras=cameras))
        alpha = seen.alpha[..., None]
        maps = {RGB: seen.colour, ALPHA: alpha}
        if "normal" in self.config.maps:
            maps["normal"] = alpha * normals_of_depth(seen.depth, cameras)
        if "depth" in self.config.maps:
            distance = seen.depth * pixel_rays(cameras).norm(dim=-1)
            near = brightness(distance, seen.depth > 0, pelvis_distance(batch), self.config)
            maps["depth"] = alpha * near[..., None]
        return box_filter(channels_first([maps[name] for name in self.config.maps]), self.config.supersampling)

    def forward(self, signal: Tensor | None, batch: ClipBatch) -> Conditioning:
        given, channels = super().forward(signal, batch), self.photo_colours(self.config)
        if signal is None or self.latents is None or channels is None:
            return given
        return replace(given, base=per_frame(self.latents, self.joined(signal[:, :, :, list(channels)], COLOURS)))

    def signal_images(self, signal: Tensor) -> dict[str, Tensor]:
        images = super().signal_images(signal)
        if RGB in images:
            maps = self.map_channels(self.config)
            parts = dict(zip(maps, signal.split(list(maps.values()), dim=-3), strict=True))
            images[RGB] = parts[RGB] + (1 - parts[ALPHA])
        return images


def _given(settings: PartConfig) -> list[str]:
    """The settings that are not what they are where nobody says anything."""
    fields = type(settings).model_fields.items()
    return [name for name, field in fields if getattr(settings, name) != field.get_default(call_default_factory=True)]


def _reconstructor(config: AppearanceRenderConfig, context: ConditionerContext) -> Reconstructor:
    scene = SceneContext(
        renderer=required(context.renderer, "Context.renderer"), body=required(context.body, "Context.body")
    )
    if config.checkpoint is not None:
        return trained_reconstructor(config.checkpoint, config.reconstructor, scene)
    part, settings = config.inner_part("reconstructor")
    return part(settings, scene)
