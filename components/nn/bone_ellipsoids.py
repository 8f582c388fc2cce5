"""HVG's ellipsoids: the surface of a body made of one ellipsoid per bone, and its maps."""

from collections.abc import Sequence
from typing import Any

import torch
from pydantic import Field
from torch import Tensor
from typing_extensions import TypeVar

from hvg.core.required import required
from hvg.geometry.body_ellipsoids import body_ellipsoids
from hvg.geometry.body_parts import bone_codes
from hvg.geometry.ellipsoids import render
from hvg.values.clip import ClipBatch
from hvg.values.tensors import map_tensors

from .surface_maps import DepthConfig, SurfaceImage, SurfaceMap, fine_cameras, pelvis_distance, surface_maps


class EllipsoidConfig(DepthConfig):
    """Settings of a map of ellipsoids."""

    radii_scale: float = Field(1.0, ge=0.01, le=100, description="Factor on every bone's radius across its axis.")


def draw_ellipsoids(batch: ClipBatch, names: Sequence[str], settings: EllipsoidConfig) -> Tensor:
    """(B, V, T, K, H, W): the maps of ``surface_maps`` that ``names`` asks for, in its order; the background is 0.

    Raises: DataError naming the joints that the body lacks.
    """
    body = required(batch.body, "ClipBatch.body")
    # One for all views.
    bones = map_tensors(body_ellipsoids(body, settings.radii_scale), lambda x: x[:, None])
    seen = render(bones, fine_cameras(batch, settings))
    # The background is number -1, and so the last row.
    codes = torch.cat([bone_codes(), torch.zeros(1, 3)]).to(body.joints)
    code = codes[seen.index] if "part" in names else None
    image = SurfaceImage(distance=seen.distance, normal=seen.normal, code=code, mask=seen.mask)
    return surface_maps(image, names, pelvis_distance(batch), settings)


EllipsoidT = TypeVar("EllipsoidT", bound=EllipsoidConfig, default=Any)


class EllipsoidMap(SurfaceMap[EllipsoidT]):
    """Base of control maps of the ellipsoids."""

    def draw_map(self, batch: ClipBatch) -> Tensor:
        return draw_ellipsoids(batch, self.maps(self.config), self.config)
