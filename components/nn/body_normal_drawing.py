"""Draws normals of the bare body's mesh."""

import torch
from torch import Tensor

from hvg.core.required import required
from hvg.parts.scene import Renderer
from hvg.values.clip import ClipBatch
from hvg.values.layout import unfold_frames

from .control_maps import box_filter, channels_first

# Frames that are rendered at once: bounds memory, since every view takes its own copy of the mesh.
FRAMES_AT_ONCE = 64


def draw_body_normals(batch: ClipBatch, renderer: Renderer, *, supersampling: int) -> Tensor:
    """(B, V, T, 4, H, W): outward normal in [-1, 1] (camera axes: x right, y down, z forward), then mask; else 0."""
    body = required(batch.body, "ClipBatch.body")
    vertices, faces = required(body.vertices, "ClipBatch.body.vertices"), required(body.faces, "ClipBatch.body.faces")
    height, width = batch.cameras.image_size
    cameras = batch.cameras.resized((supersampling * height, supersampling * width))
    clip, view, frame = torch.cartesian_prod(*(torch.arange(n) for n in batch.grid)).reshape(-1, 3).unbind(1)
    pieces = []
    for part in torch.arange(len(clip)).split(FRAMES_AT_ONCE):
        b, v, t = clip[part], view[part], frame[part]
        image = renderer.render(vertices[b, t], faces, cameras[b, v, t])
        mask = (image.face >= 0)[..., None].to(image.normal.dtype)
        pieces.append(box_filter(channels_first([image.normal, mask]), supersampling))
    return unfold_frames(torch.cat(pieces), batch.grid)
