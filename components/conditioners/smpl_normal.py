"""Normals of the bare body's mesh, the usual rival of bone maps."""

from torch import Tensor

from hvg.parts.pose_guided import PoseGuidedConfig

from ..nn.body_mesh import BodyMap


class SmplNormalConfig(PoseGuidedConfig):
    """Settings of the body normal map."""


class SmplNormal(BodyMap[SmplNormalConfig]):
    """Control map (B, V, T, 4, H, W): outward normal in [-1, 1] (camera axes: x right, y down, z forward), then mask.

    The mask is 1 on the body; the background is 0 in all channels. With supersampling, outlines hold the mean of their
    rays. The mesh is the bare body's (SMPL-X, SMPL or any other ``BodyModel``): a dressed one would leak the garment's
    outline.

    Source: Champ (arXiv 2403.14781) and the arm "SMPL body normal map" of HVG (arXiv 2602.21188), table 3.
    """

    @classmethod
    def maps(cls, config: SmplNormalConfig) -> tuple[str, ...]:
        return "normal", "mask"

    def signal_images(self, signal: Tensor) -> dict[str, Tensor]:
        # The mask is the outline of the normals.
        return {"map": signal[..., :3, :, :]}
