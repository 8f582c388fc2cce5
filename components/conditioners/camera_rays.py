"""Camera rays, one for each pixel, as a control map."""

from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from hvg.core.bounds import Metres
from hvg.parts.model import OncePer
from hvg.parts.pose_guided import GuidedConfig, PoseGuided
from hvg.values.cameras import pixel_rays
from hvg.values.clip import ClipBatch, Within


class CameraRaysConfig(GuidedConfig):
    """Settings of the ray map."""

    relative_to: Literal["first", "world"] = Field(
        "first",
        description="Whose axes and origin the rays have: those of the first view's camera in the same frame (of which views, "
        "`data.first_view` says), or the world's.",
    )
    scale: Metres = Field(
        4.0, description="Metres; moments are divided by it, so that they are of the size of directions."
    )


class CameraRays(PoseGuided[CameraRaysConfig]):
    """Control map (B, V, T, 6, H, W) of floats: a unit direction d, then the moment o x d / scale, o the camera's centre.

    These are the Pluecker coordinates of the ray through the pixel's centre. They tell all of a camera: rotation, translation
    and intrinsics, pixel by pixel. 8 bits would give neighbouring pixels one direction, so the map is kept in float32.

    Source: Pluecker coordinates of light field networks (arXiv 2106.02634), as a camera condition CameraCtrl (arXiv
    2404.02101), section 3.2. We differ: the encoder is the guider of all control maps, and moments are scaled.
    """

    requires: ClassVar[frozenset[str]] = frozenset({"cameras"})

    @classmethod
    def signal_channels(cls, config: CameraRaysConfig) -> int:
        return 6

    @classmethod
    def signal_storage(cls, config: CameraRaysConfig) -> Literal["float32"]:
        return "float32"

    @classmethod
    def per_picture(cls, config: CameraRaysConfig) -> bool:
        return config.relative_to == "world"

    @classmethod
    def once_per(cls, config: CameraRaysConfig, first_view: Within = "grid") -> OncePer:
        return "cell" if first_view == "grid" or config.relative_to == "world" else "window"

    def draw_map(self, batch: ClipBatch) -> Tensor:
        cameras = batch.cameras
        rotation, centre = cameras.world_to_camera[..., :3, :3], cameras.centers
        if self.config.relative_to == "first":
            first = cameras[:, :1] if batch.origin is None else batch.origin
            centre = (first.world_to_camera[..., :3, :3] @ (centre - first.centers)[..., None])[..., 0]
            rotation = rotation @ first.world_to_camera[..., :3, :3].mT
        # Rows of a rotation are the camera's axes, so a product from the right leads back to the world.
        directions = pixel_rays(cameras) @ rotation[..., None, :, :]
        directions = torch.nn.functional.normalize(directions, dim=-1)
        moments = torch.linalg.cross(centre[..., None, None, :].expand_as(directions), directions)
        return torch.cat([directions, moments / self.config.scale], dim=-1).movedim(-1, -3)
