"""Normals of the bare body's mesh, the usual rival of bone maps."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor

from components.nn.pose_guided import PoseGuided, PoseGuidedConfig, box_filter, channels_first
from hvg.layout import unfold_frames
from hvg.protocols import Context
from hvg.required import required
from hvg.types import ClipBatch

# Frames that are rendered at once: bounds memory, since every view takes its own copy of the mesh.
FRAMES_AT_ONCE = 64


class SmplNormalConfig(PoseGuidedConfig):
    """Settings of the body normal map."""


class SmplNormal(PoseGuided):
    """Control map (B, V, T, 4, H, W): outward normal in [-1, 1] (camera axes: x right, y down, z forward), then mask.

    The mask is 1 on the body; the background is 0 in all channels. With supersampling, outlines hold the mean of their
    rays. The mesh is the bare body's (SMPL-X, SMPL or any other ``BodyModel``): a dressed one would leak the garment's
    outline.

    Source: Champ (arXiv 2403.14781) and the arm "SMPL body normal map" of HVG (arXiv 2602.21188), table 3.
    """

    Config = SmplNormalConfig
    requires: ClassVar[frozenset[str]] = frozenset({"body", "body.vertices", "cameras"})

    def __init__(self, config: Any, context: Context) -> None:
        super().__init__(config, context)
        self.renderer = context.renderer

    def draw_map(self, batch: ClipBatch) -> Tensor:
        renderer, body = required(self.renderer, "Context.renderer"), required(batch.body, "ClipBatch.body")
        vertices, faces = (
            required(body.vertices, "ClipBatch.body.vertices"),
            required(body.faces, "ClipBatch.body.faces"),
        )
        grid, factor = batch.grid, self.config.supersampling
        height, width = batch.cameras.image_size
        cameras = batch.cameras.resized((factor * height, factor * width))
        clip, view, frame = torch.cartesian_prod(*(torch.arange(n) for n in grid)).reshape(-1, 3).unbind(1)
        pieces = []
        for part in torch.arange(len(clip)).split(FRAMES_AT_ONCE):
            b, v, t = clip[part], view[part], frame[part]
            image = renderer.render(vertices[b, t], faces, cameras[b, v, t])
            mask = (image.face >= 0)[..., None].to(image.normal.dtype)
            pieces.append(box_filter(channels_first([image.normal, mask]), factor))
        return unfold_frames(torch.cat(pieces), grid)
