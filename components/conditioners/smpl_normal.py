"""Normals of the bare body's mesh, the usual rival of bone maps."""

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from hvg.parts.pose_guided import PoseGuidedConfig
from hvg.values.clip import ClipBatch

from ..nn.body_mesh import BodyMap


class SmplNormalConfig(PoseGuidedConfig):
    """Settings of the body normal map."""

    axes: Literal["camera", "world"] = Field(
        "camera",
        description="Axes of the normals. camera: x right, y down, z forward, so that a side looks alike from everywhere. world: "
        "the world's, y up, so that a place on the body that stands still has one colour in all views, which tells the view.",
    )


class SmplNormal(BodyMap[SmplNormalConfig]):
    """Control map (B, V, T, 4, H, W): outward normal in [-1, 1], in the camera's or the world's axes, then mask.

    The mask is 1 on the body; the background is 0 in all channels. With supersampling, outlines hold the mean of their
    rays. The mesh is the bare body's (SMPL-X, SMPL or any other ``BodyModel``): a dressed one would leak the garment's
    outline.

    Source: Champ (arXiv 2403.14781) and the arm "SMPL body normal map" of HVG (arXiv 2602.21188), table 3; in world axes
    ReImagine (arXiv 2604.19720).
    """

    @classmethod
    def maps(cls, config: SmplNormalConfig) -> tuple[str, ...]:
        return "normal", "mask"

    def draw_map(self, batch: ClipBatch) -> Tensor:
        drawn = super().draw_map(batch)
        if self.config.axes == "camera":
            return drawn
        normal, mask = drawn[..., :3, :, :], drawn[..., 3:, :, :]
        # From the right a rotation leads back to the world.
        to_camera = batch.cameras.world_to_camera[..., :3, :3].to(normal)
        return torch.cat([torch.einsum("...ihw,...ij->...jhw", normal, to_camera), mask], dim=-3)

    def signal_images(self, signal: Tensor) -> dict[str, Tensor]:
        # The mask is the outline of the normals.
        return {"map": signal[..., :3, :, :]}
