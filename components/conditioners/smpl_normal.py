"""Normals of the bare body's mesh, the usual rival of bone maps."""

from typing import ClassVar

from torch import Tensor

from hvg.core.required import required
from hvg.parts.context import ConditionerContext
from hvg.parts.pose_guided import PoseGuided, PoseGuidedConfig
from hvg.values.clip import ClipBatch

from ..nn.body_normal_drawing import draw_body_normals


class SmplNormalConfig(PoseGuidedConfig):
    """Settings of the body normal map."""


class SmplNormal(PoseGuided[SmplNormalConfig]):
    """Control map (B, V, T, 4, H, W): outward normal in [-1, 1] (camera axes: x right, y down, z forward), then mask.

    The mask is 1 on the body; the background is 0 in all channels. With supersampling, outlines hold the mean of their
    rays. The mesh is the bare body's (SMPL-X, SMPL or any other ``BodyModel``): a dressed one would leak the garment's
    outline.

    Source: Champ (arXiv 2403.14781) and the arm "SMPL body normal map" of HVG (arXiv 2602.21188), table 3.
    """

    requires: ClassVar[frozenset[str]] = frozenset({"body", "body.vertices", "cameras"})

    def __init__(self, config: SmplNormalConfig, context: ConditionerContext) -> None:
        super().__init__(config, context)
        self.renderer = context.renderer

    def draw_map(self, batch: ClipBatch) -> Tensor:
        renderer = required(self.renderer, "Context.renderer")
        return draw_body_normals(batch, renderer, supersampling=self.config.supersampling)
