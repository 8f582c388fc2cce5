"""Draws bone maps: normals and depth of one ellipsoid per bone."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from pydantic import AfterValidator, Field, ValidationInfo
from torch import Tensor

from hvg.core.bounds import Metres
from hvg.core.required import required
from hvg.geometry.ellipsoids import EllipsoidImage, ellipsoids_from_bones, render
from hvg.geometry.skeleton import JOINTS, bone_index, bone_radii, complete_joints, estimate_stature
from hvg.values.clip import ClipBatch

from .control_maps import box_filter, channels_first

# Name of a map -> its channels.
BONE_MAPS = {"normal": 3, "depth": 1}
# Depth of the far end of the range: not 0, which is the background.
FAR = 0.1


def _beyond_near(far: float, info: ValidationInfo) -> float:
    near = info.data.get("near", 0.0)
    if far <= near:
        raise ValueError(f"far={far:g} has to lie beyond near={near:g}")
    return far


# Settings of the drawing, for the Configs of the parts that use it; ``far`` comes after ``near`` there.
DepthRange = Literal["pelvis", "metric", "frame"]
DepthField = Annotated[
    DepthRange,
    Field(
        description="Distances over which depth falls from 1 to 0.1. pelvis: half_range before to half_range behind the "
        "pelvis' distance. metric: near to far. frame: nearest to farthest point of the person in each image."
    ),
]
HalfRange = Annotated[
    Metres,
    Field(
        description="depth=pelvis: metres before and behind the pelvis over which depth falls from 1 (near) to 0.1 (far).",
    ),
]
Near = Annotated[float, Field(ge=0, le=1e6, description="depth=metric: metres to the camera at which depth is 1.")]
Far = Annotated[
    Metres,
    Field(validate_default=True, description="depth=metric: metres to the camera at which depth is 0.1."),
    AfterValidator(_beyond_near),
]
RadiiScale = Annotated[float, Field(ge=0.01, le=100, description="Factor on every bone's radius across its axis.")]


@dataclass(frozen=True, kw_only=True)
class DepthScale:
    """Mapping of distances to brightness; the fields are the settings of the same names, metres."""

    depth: DepthRange
    half_range: float
    near: float
    far: float


def draw_bone_maps(
    batch: ClipBatch, names: Sequence[str], *, radii_scale: float, scale: DepthScale, supersampling: int
) -> Tensor:
    """(B, V, T, K, H, W): the maps of ``BONE_MAPS`` that ``names`` asks for, in its order; the background is 0.

    normal: unit, outward, in [-1, 1], camera axes (x right, y down, z forward). depth: distance to the camera's origin,
    near is bright, in [0.1, 1]. Radii come with the body; where they do not, from the table in
    ``hvg.geometry.skeleton`` for the stature that the legs suggest.
    """
    body = required(batch.body, "ClipBatch.body")
    joints = complete_joints(body.joints, body.joint_names)
    first, second = bone_index(JOINTS, joints.device)
    # A clip's stature is the mean over its frames.
    radii = bone_radii(estimate_stature(joints, JOINTS).mean(-1)) if body.bone_radii is None else body.bone_radii
    radii = (radii_scale * radii)[:, None, None]
    bones = ellipsoids_from_bones(joints[:, None, :, first], joints[:, None, :, second], radii)
    height, width = batch.cameras.image_size
    image = render(bones, batch.cameras.resized((supersampling * height, supersampling * width)))
    pelvis = joints[:, None, :, JOINTS.index("pelvis")]
    depth = _brightness(image, (pelvis - batch.cameras.centers).norm(dim=-1), scale)
    maps = {"normal": image.normal, "depth": depth[..., None]}
    return box_filter(channels_first([maps[name] for name in names]), supersampling)


def _brightness(image: EllipsoidImage, pelvis: Tensor, scale: DepthScale) -> Tensor:
    """Depth map (B, V, T, H, W) of an image, for the pelvis' distance (B, V, T) in metres."""
    if scale.depth == "pelvis":
        nearness = 0.5 + (pelvis[..., None, None] - image.distance) / (2 * scale.half_range)
    elif scale.depth == "metric":
        nearness = (scale.far - image.distance) / (scale.far - scale.near)
    else:
        nearest = image.distance.where(image.mask, torch.inf).amin((-2, -1), keepdim=True)
        farthest = image.distance.amax((-2, -1), keepdim=True)
        # Where all of the person is at one distance (a pixel or none), it counts as near.
        span = (farthest - nearest).clamp_min(torch.finfo(nearest.dtype).tiny)
        nearness = 1 - (image.distance - nearest) / span
    return (FAR + (1 - FAR) * nearness.clamp(0, 1)) * image.mask


def bone_map_image(name: str, signal: Tensor) -> Tensor:
    """A map of ``BONE_MAPS``, (..., k, H, W), as a picture (..., 3, H, W) in [-1, 1]: depth in grey, on black."""
    return signal if name == "normal" else (2 * signal - 1).expand(*signal.shape[:-3], 3, *signal.shape[-2:])
