"""HVG's articulated pose modulation, and the maps that it is compared with."""

from typing import ClassVar, Literal

import torch
from pydantic import Field, field_validator
from torch import Tensor, nn

from hvg.core.bounds import Heads
from hvg.core.errors import HvgError
from hvg.core.labels import readable
from hvg.core.required import required
from hvg.parts.context import ConditionerContext
from hvg.parts.guider import guider_stages
from hvg.parts.pose_guided import PoseSignal, guider_widths, stem
from hvg.parts.zero import zero_module
from hvg.values.clip import ClipBatch
from hvg.values.conditioning import ConditioningSpec, Ports

from ..nn.body_mesh import draw_body
from ..nn.bone_ellipsoids import EllipsoidConfig, draw_ellipsoids
from ..nn.cross_attention import MapCrossAttention
from ..nn.skeleton_drawing import JointSize, LineWidth, draw_skeleton, skeleton_image
from ..nn.surface_maps import MAPS, map_picture, unique_maps

# Name of a map -> its channels.
CHANNELS = {"bone_normal": MAPS["normal"], "bone_depth": MAPS["depth"], "skeleton": 4, "smpl_normal": 4}
# Channels of a head of cross-attention that the default number of heads aims at; SVD's own heads have as many.
HEAD_WIDTH = 64


class HvgPoseConfig(EllipsoidConfig):
    """Settings of the pose modulation. Those of maps that are not drawn change nothing."""

    maps: tuple[Literal["bone_normal", "bone_depth", "skeleton", "smpl_normal"], ...] = Field(
        ("bone_normal", "bone_depth"),
        min_length=1,
        max_length=2,
        description="One or two maps, a guider each. Of two, the first asks (query) and the second answers (key, value).",
    )
    heads: Heads | None = Field(
        None,
        description="Heads of the cross-attention; divides the last width. null: heads about 64 channels wide.",
    )
    line_width: LineWidth = 1 / 64
    joint_size: JointSize = 1.5

    _unique = field_validator("maps")(unique_maps)


class HvgPose(PoseSignal[HvgPoseConfig]):
    """Control map (B, V, T, K, H, W): the chosen ``maps`` one after the other, 0 where there is nobody.

    bone_normal (3 channels) and bone_depth (1) are drawn as for the part ``bone_map``; skeleton (4) and smpl_normal (4)
    as for the parts of these names. Each map has its own guider. Two maps are fused by cross-attention: the first map's
    features plus what they find in the second's. With one map there is no cross-attention, which leaves the encoder of
    the other pose signals. A zero-initialised 1x1 projection leads to the stem.

    Source: the pose modulator of HVG (arXiv 2602.21188), section 3.2, and the arms of its table 3. The paper leaves open
    which map is the query, the heads, and the initialisation; our choices are in decision 15.
    """

    encoder_settings: ClassVar[frozenset[str]] = frozenset({"heads"})

    def __init__(self, config: HvgPoseConfig, context: ConditionerContext) -> None:
        super().__init__(config, context)
        self.renderer = context.renderer
        if not self.encodes:
            return
        site, stride = stem(context.ports)
        widths = guider_widths(config, site)
        self.guiders = nn.ModuleDict({name: guider_stages(CHANNELS[name], stride, widths) for name in config.maps})
        fused = len(config.maps) == 2
        self.fusion = MapCrossAttention(widths[-1], num_heads(config.heads, widths[-1])) if fused else None
        self.projection = zero_module(nn.Conv2d(widths[-1], site.channels, 1))

    @classmethod
    def signal_channels(cls, config: HvgPoseConfig) -> int:
        return sum(CHANNELS[name] for name in config.maps)

    def signal_images(self, signal: Tensor) -> dict[str, Tensor]:
        names = self.config.maps
        parts = signal.split([CHANNELS[name] for name in names], dim=-3)
        return {readable(name): self._image(name, part) for name, part in zip(names, parts, strict=True)}

    def _image(self, name: str, part: Tensor) -> Tensor:
        """One map, (..., k, H, W), as a picture."""
        if name == "skeleton":
            return skeleton_image(part)
        return part[..., :3, :, :] if name == "smpl_normal" else map_picture(name.removeprefix("bone_"), part)

    @classmethod
    def needs(cls, config: HvgPoseConfig) -> frozenset[str]:
        return cls.requires | ({"body.vertices"} if "smpl_normal" in config.maps else set())

    @classmethod
    def spec(cls, config: HvgPoseConfig, ports: Ports) -> ConditioningSpec:
        site, _ = stem(ports)
        num_heads(config.heads, guider_widths(config, site)[-1])
        return super().spec(config, ports)

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

    def encode(self, maps: Tensor) -> Tensor:
        parts = maps.split([CHANNELS[name] for name in self.config.maps], dim=1)
        features = [self.guiders[name](part) for name, part in zip(self.config.maps, parts, strict=True)]
        return self.projection(features[0] if self.fusion is None else self.fusion(*features))


def num_heads(heads: int | None, width: int) -> int:
    """The configured number of heads; else the one that makes heads most nearly ``HEAD_WIDTH`` channels wide.

    Raises: HvgError where ``heads`` does not divide ``width``.
    """
    if heads is None:
        return min((n for n in range(1, width + 1) if width % n == 0), key=lambda n: abs(width / n - HEAD_WIDTH))
    if width % heads:
        raise HvgError(f"heads={heads} does not divide the {width} channels of the guider's last stage")
    return heads
