"""HVG's articulated pose modulation, and the maps that it is compared with."""

from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field, field_validator
from torch import Tensor

from hvg.core.bounds import Heads
from hvg.core.labels import readable
from hvg.core.required import required
from hvg.parts.context import ConditionerContext
from hvg.parts.map_encoder import MapEncoder
from hvg.parts.part import PartName
from hvg.values.clip import ClipBatch

from ..nn.body_mesh import draw_body
from ..nn.bone_ellipsoids import EllipsoidConfig, draw_ellipsoids
from ..nn.skeleton_drawing import JointSize, LineWidth, draw_skeleton, skeleton_image
from ..nn.surface_maps import MAPS, SurfaceMap, map_picture, unique_maps

# Name of a map -> its channels.
CHANNELS = {"bone_normal": MAPS["normal"], "bone_depth": MAPS["depth"], "skeleton": 4, "smpl_normal": 4}


class HvgPoseConfig(EllipsoidConfig):
    """Settings of the pose modulation. Those of maps that are not drawn change nothing."""

    short: ClassVar[tuple[str, ...]] = ("widths", "heads")

    maps: tuple[Literal["bone_normal", "bone_depth", "skeleton", "smpl_normal"], ...] = Field(
        ("bone_normal", "bone_depth"),
        min_length=1,
        max_length=2,
        description="One or two maps, with a guider each in the modulator. Of two, the first asks (query) and the second "
        "answers (key, value).",
    )
    encoder: Annotated[str, PartName("encoder", settings="encoder_settings")] = Field(
        "modulator", description="Registered name of what encodes the maps for the stem (hvg list encoder)."
    )
    heads: Heads | None = Field(None, description="Short for encoder_settings.heads, and moved there.")
    line_width: LineWidth = 1 / 64
    joint_size: JointSize = 1.5

    _unique = field_validator("maps")(unique_maps)


class HvgPose(SurfaceMap[HvgPoseConfig]):
    """Control map (B, V, T, K, H, W): the chosen ``maps`` one after the other, 0 where there is nobody.

    bone_normal (3 channels) and bone_depth (1) are drawn as for the part ``bone_map``; skeleton (4) and smpl_normal (4)
    as for the parts of these names. The encoder ``modulator`` has a guider for each and fuses two by cross-attention.

    Source: the pose modulator of HVG (arXiv 2602.21188), section 3.2, and the arms of its table 3.
    """

    encoder_settings: ClassVar[frozenset[str]] = frozenset({"heads"})

    def __init__(self, config: HvgPoseConfig, context: ConditionerContext) -> None:
        super().__init__(config, context)
        self.renderer = context.renderer

    def hold(self, encoder: MapEncoder) -> None:
        if self.config.encoder != "modulator":
            super().hold(encoder)
            return
        # Checkpoints have its layers here, where they lay before encoders were parts.
        for name, layer in encoder.named_children():
            self.add_module(name, layer)

    @classmethod
    def map_channels(cls, config: HvgPoseConfig) -> dict[str, int]:
        return {name: CHANNELS[name] for name in config.maps}

    def signal_images(self, signal: Tensor) -> dict[str, Tensor]:
        maps = self.map_channels(self.config)
        parts = signal.split(list(maps.values()), dim=-3)
        return {readable(name): self._image(name, part) for name, part in zip(maps, parts, strict=True)}

    def _image(self, name: str, part: Tensor) -> Tensor:
        """One map, (..., k, H, W), as a picture."""
        if name == "skeleton":
            return skeleton_image(part)
        return part[..., :3, :, :] if name == "smpl_normal" else map_picture(name.removeprefix("bone_"), part)

    @classmethod
    def needs(cls, config: HvgPoseConfig) -> frozenset[str]:
        return cls.requires | ({"body.vertices"} if "smpl_normal" in config.maps else set())

    def draw_map(self, batch: ClipBatch) -> Tensor:
        names = self.config.maps
        if set(names) == {"bone_normal", "bone_depth"}:
            # Both are seen by the same rays.
            return self._draw_bones(batch, names)
        return torch.cat([self._draw(batch, name) for name in names], dim=-3)

    def _draw(self, batch: ClipBatch, name: str) -> Tensor:
        """One map, (B, V, T, K, H, W)."""
        config = self.config
        if name == "skeleton":
            return draw_skeleton(batch, line_width=config.line_width, joint_size=config.joint_size)
        if name == "smpl_normal":
            return draw_body(batch, ("normal", "mask"), config, required(self.renderer, "Context.renderer"))
        return self._draw_bones(batch, (name,))

    def _draw_bones(self, batch: ClipBatch, names: tuple[str, ...]) -> Tensor:
        return draw_ellipsoids(batch, [name.removeprefix("bone_") for name in names], self.config)
