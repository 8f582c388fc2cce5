"""HVG's ellipsoids: the surface of a body made of one ellipsoid per bone, and its maps."""

from collections.abc import Sequence
from typing import Any

import torch
from pydantic import Field
from torch import Tensor
from typing_extensions import TypeVar

from hvg.core.required import required
from hvg.geometry.body_parts import bone_codes
from hvg.geometry.ellipsoids import ellipsoids_from_bones, render
from hvg.geometry.skeleton import JOINTS, bone_index, bone_radii, complete_joints, estimate_stature
from hvg.values.clip import ClipBatch

from .surface_maps import DepthConfig, SurfaceImage, SurfaceMap, fine_cameras, pelvis_distance, surface_maps


class EllipsoidConfig(DepthConfig):
    """Settings of a map of ellipsoids."""

    radii_scale: float = Field(1.0, ge=0.01, le=100, description="Factor on every bone's radius across its axis.")


def draw_ellipsoids(batch: ClipBatch, names: Sequence[str], settings: EllipsoidConfig) -> Tensor:
    """(B, V, T, K, H, W): the maps of ``surface_maps`` that ``names`` asks for, in its order; the background is 0.

    Radii come with the body; where they do not, from the table in ``hvg.geometry.skeleton`` for the stature that the legs
    suggest. Raises: DataError naming the joints that the body lacks.
    """
    body = required(batch.body, "ClipBatch.body")
    joints = complete_joints(body.joints, body.joint_names)
    first, second = bone_index(JOINTS, joints.device)
    # A clip's stature is the mean over its frames.
    radii = bone_radii(estimate_stature(joints, JOINTS).mean(-1)) if body.bone_radii is None else body.bone_radii
    radii = (settings.radii_scale * radii)[:, None, None]
    bones = ellipsoids_from_bones(joints[:, None, :, first], joints[:, None, :, second], radii)
    seen = render(bones, fine_cameras(batch, settings))
    # The background is number -1, and so the last row.
    codes = torch.cat([bone_codes(), torch.zeros(1, 3)]).to(joints)
    code = codes[seen.index] if "part" in names else None
    image = SurfaceImage(distance=seen.distance, normal=seen.normal, code=code, mask=seen.mask)
    return surface_maps(image, names, pelvis_distance(batch), settings)


EllipsoidT = TypeVar("EllipsoidT", bound=EllipsoidConfig, default=Any)


class EllipsoidMap(SurfaceMap[EllipsoidT]):
    """Base of control maps of the ellipsoids."""

    def draw_map(self, batch: ClipBatch) -> Tensor:
        return draw_ellipsoids(batch, self.maps(self.config), self.config)
