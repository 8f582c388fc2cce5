"""HVG's dual-dimensional bone map: normals and depth of one ellipsoid per bone."""

from typing import Literal

from pydantic import Field
from torch import Tensor

from hvg.parts.pose_guided import PoseGuided, PoseGuidedConfig
from hvg.values.clip import ClipBatch

from ..nn.bone_map_drawing import (
    BONE_MAPS,
    DepthField,
    DepthScale,
    Far,
    HalfRange,
    Near,
    RadiiScale,
    bone_map_image,
    draw_bone_maps,
)


class BoneMapConfig(PoseGuidedConfig):
    """Settings of the bone map."""

    maps: tuple[Literal["normal", "depth"], ...] = Field(
        ("normal", "depth"),
        min_length=1,
        max_length=2,
        description="Which maps, in which order; K is 3, 1, or 4 for both.",
    )
    half_range: HalfRange = 1.0
    radii_scale: RadiiScale = 1.0
    depth: DepthField = "pelvis"
    near: Near = 1.0
    far: Far = 6.0


class BoneMap(PoseGuided[BoneMapConfig]):
    """Control map (B, V, T, K, H, W): normals in [-1, 1] (camera axes: x right, y down, z forward), depth in [0.1, 1].

    The background is 0 in all channels. Depth is the distance to the camera's origin, by default relative to the pelvis'
    distance; near is bright. Radii come with the body; where they do not, from the table in ``hvg.geometry.skeleton`` for
    the stature that the legs suggest.

    Source: HVG (arXiv 2602.21188), section 3.1. The paper leaves open how depth is normalised and what the background
    is. We differ: it encodes normals and depth by a guider each and fuses them by cross-attention (the part ``hvg``);
    here one guider takes both, so that pose signals are compared by what they show.
    """

    @classmethod
    def signal_channels(cls, config: BoneMapConfig) -> int:
        return sum(BONE_MAPS[name] for name in config.maps)

    def signal_images(self, signal: Tensor) -> dict[str, Tensor]:
        names = self.config.maps
        parts = signal.split([BONE_MAPS[name] for name in names], dim=-3)
        return {name: bone_map_image(name, part) for name, part in zip(names, parts, strict=True)}

    def draw_map(self, batch: ClipBatch) -> Tensor:
        config = self.config
        return draw_bone_maps(
            batch,
            config.maps,
            radii_scale=config.radii_scale,
            scale=DepthScale(depth=config.depth, half_range=config.half_range, near=config.near, far=config.far),
            supersampling=config.supersampling,
        )
