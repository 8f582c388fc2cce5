"""HVG's dual-dimensional bone map: normals and depth of one ellipsoid per bone."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field
from torch import Tensor

from components.nn.pose_guided import PoseGuided, PoseGuidedConfig, box_filter, channels_first
from hvg.geometry.ellipsoids import ellipsoids_from_bones, render
from hvg.geometry.skeleton import JOINTS, bone_index, bone_radii, complete_joints, estimate_stature
from hvg.required import required
from hvg.types import BodyMotion, ClipBatch

CHANNELS = {"normal": 3, "depth": 1}
# Depth of the far end of the range: not 0, which is the background.
FAR = 0.1


class BoneMapConfig(PoseGuidedConfig):
    """Settings of the bone map."""

    maps: tuple[Literal["normal", "depth"], ...] = Field(
        ("normal", "depth"),
        min_length=1,
        max_length=2,
        description="Which maps, in which order; K is 3, 1, or 4 for both.",
    )
    half_range: float = Field(
        1.0,
        gt=0,
        description="Metres before and behind the pelvis over which depth falls from 1 (near) to 0.1 (far).",
    )
    radii_scale: float = Field(1.0, gt=0, description="Factor on every bone's radius across its axis.")


class BoneMap(PoseGuided):
    """Control map (B, V, T, K, H, W): normals in [-1, 1] (camera axes: x right, y down, z forward), depth in [0.1, 1].

    The background is 0 in all channels. Depth is the distance to the camera's origin relative to the pelvis' distance,
    near is bright. Radii come with the body; where they do not, from the table in ``hvg.geometry.skeleton`` for the
    stature that the legs suggest.

    Source: HVG (arXiv 2602.21188), section 3.1. The paper leaves open how depth is normalised and what the background
    is. We differ: it encodes normals and depth by a guider each and fuses them by cross-attention; here one guider
    takes both, so that pose signals are compared by what they show.
    """

    Config = BoneMapConfig

    @classmethod
    def num_channels(cls, config: Any) -> int:
        return sum(CHANNELS[name] for name in config.maps)

    def draw_map(self, batch: ClipBatch) -> Tensor:
        body = required(batch.body, "ClipBatch.body")
        joints = complete_joints(body.joints, body.joint_names)
        first, second = bone_index(JOINTS, joints.device)
        radii = _radii(body, joints) * self.config.radii_scale
        bones = ellipsoids_from_bones(joints[:, None, :, first], joints[:, None, :, second], radii[:, None, None])
        factor = self.config.supersampling
        height, width = batch.cameras.image_size
        image = render(bones, batch.cameras.resized((factor * height, factor * width)))
        pelvis = joints[:, None, :, JOINTS.index("pelvis")]
        depth = self._depth(image.distance, (pelvis - batch.cameras.centers).norm(dim=-1)) * image.mask
        maps = {"normal": image.normal, "depth": depth[..., None]}
        return box_filter(channels_first([maps[name] for name in self.config.maps]), factor)

    def _depth(self, distance: Tensor, pelvis_distance: Tensor) -> Tensor:
        """Brightness of distances (B, V, T, H, W) in metres around the pelvis at (B, V, T)."""
        nearness = 0.5 + (pelvis_distance[..., None, None] - distance) / (2 * self.config.half_range)
        return FAR + (1 - FAR) * nearness.clamp(0, 1)


def _radii(body: BodyMotion, joints: Tensor) -> Tensor:
    """(B, N) metres; a clip's stature is the mean over its frames."""
    if body.bone_radii is not None:
        return body.bone_radii
    return bone_radii(estimate_stature(joints, JOINTS).mean(-1))
