"""HVG's dual-dimensional bone map: normals and depth of one ellipsoid per bone."""

from typing import Literal

from pydantic import Field

from ..nn.bone_ellipsoids import EllipsoidConfig, EllipsoidMap


class BoneMapConfig(EllipsoidConfig):
    """Settings of the bone map."""

    maps: tuple[Literal["normal", "depth"], ...] = Field(
        ("normal", "depth"),
        min_length=1,
        max_length=2,
        description="Which maps, in which order; K is 3, 1, or 4 for both.",
    )


class BoneMap(EllipsoidMap[BoneMapConfig]):
    """Control map (B, V, T, K, H, W): normals in [-1, 1] (camera axes: x right, y down, z forward), depth in [0.1, 1].

    The background is 0 in all channels. Depth is the distance to the camera's origin, by default relative to the pelvis'
    distance; near is bright. Radii come with the body; where they do not, from the table in ``hvg.geometry.skeleton`` for
    the stature that the legs suggest.

    Source: HVG (arXiv 2602.21188), section 3.1. The paper leaves open how depth is normalised and what the background
    is. We differ: it encodes normals and depth by a guider each and fuses them by cross-attention (the part ``hvg``);
    here one guider takes both, so that pose signals are compared by what they show.
    """
