"""The bare body's mesh, and its maps."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from typing_extensions import TypeVar

from hvg.core.required import required
from hvg.geometry.body_parts import vertex_codes
from hvg.geometry.part_places import PartFrames, part_frames
from hvg.parts.context import ConditionerContext
from hvg.parts.pose_guided import PoseGuidedConfig
from hvg.parts.scene import MeshImage, Renderer
from hvg.values.cameras import Cameras, pixel_rays
from hvg.values.clip import ClipBatch
from hvg.values.layout import unfold_frames

from .surface_maps import SurfaceImage, SurfaceMap, fine_cameras, pelvis_distance, surface_maps

# Frames that are rendered at once: bounds memory, since every view takes its own copy of the mesh.
FRAMES_AT_ONCE = 64


def draw_body(batch: ClipBatch, names: Sequence[str], settings: PoseGuidedConfig, renderer: Renderer) -> Tensor:
    """(B, V, T, K, H, W): the maps of ``surface_maps`` that ``names`` asks for, in its order; the background is 0.

    A pixel's part is that of the bone that the nearest corner of its triangle follows most. Raises: DataError for a bone that
    is in no chain.
    """
    body = required(batch.body, "ClipBatch.body")
    vertices, faces = required(body.vertices, "ClipBatch.body.vertices"), required(body.faces, "ClipBatch.body.faces")
    codes = vertex_codes(required(body.skinning, "ClipBatch.body.skinning")) if "part" in names else None
    parts = part_frames(body) if "uv" in names else None
    cameras, pelvis = fine_cameras(batch, settings), pelvis_distance(batch)
    clip, view, frame = torch.cartesian_prod(*(torch.arange(n) for n in batch.grid)).reshape(-1, 3).unbind(1)
    pieces = []
    for part in torch.arange(len(clip)).split(FRAMES_AT_ONCE):
        b, v, t = clip[part], view[part], frame[part]
        seen = renderer.render(vertices[b, t], faces, cameras[b, v, t])
        image = _surface(seen, cameras[b, v, t], faces, codes)
        if parts is not None:
            rest = required(body.skinning, "ClipBatch.body.skinning").rest
            image = replace(image, uv=_places(seen, faces, rest, parts, b, t))
        pieces.append(surface_maps(image, names, pelvis[b, v, t], settings))
    return unfold_frames(torch.cat(pieces), batch.grid)


def _surface(seen: MeshImage, cameras: Cameras, faces: Tensor, codes: Tensor | None) -> SurfaceImage:
    """What a renderer saw of a mesh whose vertices have codes (P, 3)."""
    mask, code = seen.face >= 0, None
    if codes is not None:
        corner = seen.barycentric.argmax(dim=-1, keepdim=True)
        vertex = faces.to(seen.face.device)[seen.face].gather(-1, corner)[..., 0]
        code = codes.to(seen.normal)[vertex] * mask[..., None]
    distance = seen.depth * pixel_rays(cameras).norm(dim=-1)
    return SurfaceImage(distance=distance, normal=seen.normal, code=code, mask=mask)


def _places(seen: MeshImage, faces: Tensor, rest: Tensor, parts: PartFrames, clip: Tensor, frame: Tensor) -> Tensor:
    """(N, H, W, 3): where on its part every pixel of pictures of clips and frames (N) is, as of ``PartFrames.places``.

    0 where nobody is. rest: (B, P, 3) of the mesh.
    """
    shown = seen.face >= 0
    picture, corners = shown.nonzero()[:, 0], faces.to(seen.face.device)[seen.face[shown]]
    weights = seen.barycentric[shown]
    clips, frames = clip.to(picture.device)[picture], frame.to(picture.device)[picture]
    points = (weights[..., None] * rest[clips[:, None], corners]).sum(dim=1)
    vertex = corners.gather(1, weights.argmax(dim=1, keepdim=True))[:, 0]
    found = seen.normal.new_zeros(*shown.shape, 3)
    found[shown] = parts.places(clips, frames, vertex, points).to(found)
    return found


BodyT = TypeVar("BodyT", bound=PoseGuidedConfig, default=Any)


class BodyMap(SurfaceMap[BodyT]):
    """Base of control maps of the body's mesh: the bare one, for a dressed one would leak the garment's outline."""

    def __init__(self, config: BodyT, context: ConditionerContext) -> None:
        super().__init__(config, context)
        self.renderer = context.renderer

    @classmethod
    def needs(cls, config: BodyT) -> frozenset[str]:
        skinned = {"body.skinning"} if "part" in cls.maps(config) else set()
        return cls.requires | {"body.vertices"} | skinned

    def draw_map(self, batch: ClipBatch) -> Tensor:
        renderer = required(self.renderer, "Context.renderer")
        return draw_body(batch, self.maps(self.config), self.config, renderer)
