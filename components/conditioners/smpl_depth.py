"""Depth of the bare body's mesh."""

from ..nn.body_mesh import BodyMap
from ..nn.surface_maps import DepthConfig


class SmplDepthConfig(DepthConfig):
    """Settings of the body depth map."""


class SmplDepth(BodyMap[SmplDepthConfig]):
    """Control map (B, V, T, 1, H, W): distance to the camera's origin in [0.1, 1], near is bright; the background is 0.

    The mesh is the bare body's, of any ``BodyModel``. By default the range is relative to the pelvis' distance, as of
    ``bone_map``.

    Source: the depth maps of Champ (arXiv 2403.14781), section 3.2.
    """

    @classmethod
    def maps(cls, config: SmplDepthConfig) -> tuple[str, ...]:
        return ("depth",)
