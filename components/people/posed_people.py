"""Points near people who move, and where a photo of them shows each: geometry alone, without weights."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from hvg.core.errors import DataError
from hvg.core.required import required
from hvg.parts.scene import Renderer
from hvg.values.body import BodyMotion, Skinning
from hvg.values.cameras import Cameras
from hvg.values.clip import ClipBatch
from hvg.values.tensors import map_tensors

from ..nn.body_radiance import PointFacts
from ..nn.content_cache import ContentCache
from ..nn.skinned_points import inverse, moved_by, one_after_another, turned_by, turned_normals
from .photo_body import BodyInPhoto, RestShape, body_in_photo, rest_shape, told_of_photo
from .surface_grid import SurfaceGrid, frame_grid, signed_distance, vertex_rings

# Joints at the ends of thighs and shins.
_LEGS = tuple(
    (f"{side}_{a}", f"{side}_{b}") for side in ("left", "right") for a, b in (("hip", "knee"), ("knee", "ankle"))
)


@dataclass(frozen=True, kw_only=True)
class Rays:
    """Q rays through pixels of a batch. origin: (Q, 3) world, metres. direction: (Q, 3), along which the camera's z grows by one.

    clip: (Q) int64. slot: (Q) int64, the number of its frame among those that are looked at.
    """

    origin: Tensor
    direction: Tensor
    clip: Tensor
    slot: Tensor

    @classmethod
    def through(cls, cameras: Cameras, clip: Tensor, pixels: Tensor, frames: Tensor) -> "Rays":
        """Through the centres of pixels (Q), counted through V, T, H, W of the clips (Q). frames: (F) rising, as of B T."""
        _, views, moments = cameras.shape
        height, width = cameras.image_size
        picture, place = pixels // (height * width), pixels % (height * width)
        centre = torch.stack([place % width + 0.5, place // width + 0.5, torch.ones_like(place) + 0.0], dim=-1)
        flat = cameras.to(torch.float32)
        to_world = (flat.world_to_camera[..., :3, :3].mT @ torch.linalg.inv(flat.intrinsics)).flatten(0, 2)
        which = clip * views * moments + picture
        return cls(
            origin=flat.centers.flatten(0, 2)[which],
            direction=turned_by(to_world[which], centre.to(flat.intrinsics)),
            clip=clip,
            slot=torch.searchsorted(frames, clip * moments + picture % moments),
        )

    def some(self, which: Tensor) -> "Rays":
        """Those of a list (R) int64."""
        return map_tensors(self, lambda x: x[which])

    def at(self, depth: Tensor) -> Tensor:
        """Points (Q, S, 3) at depths (Q, S)."""
        return self.origin[:, None] + depth[..., None] * self.direction[:, None]


@dataclass(frozen=True, kw_only=True)
class Skin:
    """What U vertices, each in one frame, tell of the points that they are nearest to.

    clip: (U) int64. place, normal: (U, 3) in the world, and photo_normal: (U, 3) in the photo's camera axes. spacing: (U), as of
    ``RestShape``. back: (U, 3, 4), from the world to where a point is at rest that rides on the vertex, from the pelvis there;
    to_photo: (U, 3, 4), to pixels of the photo times z, and z. where, known: (U, 2) pixels and (U) bool, where in the photo the
    vertex or its mirror image is seen, and whether it is.
    """

    clip: Tensor
    place: Tensor
    normal: Tensor
    photo_normal: Tensor
    spacing: Tensor
    back: Tensor
    to_photo: Tensor
    where: Tensor
    known: Tensor


@dataclass(frozen=True, kw_only=True)
class Places:
    """Where in the photo M points are looked up.

    pixel: (M, 2) where the point is in it, ``depth`` (M) metres from the camera. pelvis: (M, 2) where it would be if it rode on
    the pelvis. skin: vertices, each once, and nearest: (M) int64, which of them is nearest to the point.
    """

    pixel: Tensor
    depth: Tensor
    pelvis: Tensor
    skin: Skin
    nearest: Tensor


@dataclass(frozen=True, kw_only=True)
class PosedPeople:
    """B people in F frames, and the body of each in a photo.

    target, photo: how bones carry them; only the first photo counts. frames: (F) int64, which of the clips' B T frames they are,
    counted through both and rising. grid: of the F frames. normals: (B, P, 3) at rest. spacing: (B), as of ``RestShape``. shown:
    one a clip. to_photo: (B, 3, 4), from the world to pixels times z, and z. to_camera: (B, 3, 4). where, known: (B, P, 2) and
    (B, P), as of ``Skin``. pelvis: (F, 3), the joint at rest. unpelvised: (F, 3, 4), from the world to where a point is at rest
    that rides on the pelvis, from the pelvis there, and pelvis_to_photo: (F, 3, 4), to pixels of the photo. legs: (F, 4, 2, 3),
    both ends of thighs and shins.
    """

    target: Skinning
    photo: Skinning
    frames: Tensor
    grid: SurfaceGrid
    normals: Tensor
    spacing: Tensor
    shown: Sequence[BodyInPhoto]
    to_photo: Tensor
    to_camera: Tensor
    where: Tensor
    known: Tensor
    pelvis: Tensor
    unpelvised: Tensor
    pelvis_to_photo: Tensor
    legs: Tensor

    def near(self, points: Tensor, directions: Tensor, slots: Tensor) -> tuple[PointFacts, Places, Tensor]:
        """What is known of points (M, 3) that rays with ``directions`` (M, 3), unit, meet in frames numbered ``slots`` (M) of F;
        and (M) bool, whether the grid knows the skin near them: where it does not, the rest means nothing.
        """
        from .point_search import distances_to_segments

        vertex, found = self.grid.nearest(points, slots)
        count = self.normals.shape[1]
        chosen, nearest = _each_once(slots * count + vertex, len(self.frames) * count)
        each = self._skin(chosen // count, chosen % count)
        skin = map_tensors(each, lambda x: x.index_select(0, nearest))
        facts = PointFacts(
            distance=signed_distance(points - skin.place, skin.normal, skin.spacing),
            rest=moved_by(skin.back, points),
            pelvis=moved_by(self.unpelvised[slots], points),
            legs=distances_to_segments(points, slots, self.legs),
            normal=skin.normal,
            photo_normal=skin.photo_normal,
            direction=directions,
        )
        pixel, depth = _pixels(skin.to_photo, points)
        pelvis, _ = _pixels(self.pelvis_to_photo[slots], points)
        return facts, Places(pixel=pixel, depth=depth, pelvis=pelvis, skin=each, nearest=nearest), found

    def _skin(self, slots: Tensor, vertex: Tensor) -> Skin:
        """That of vertices (U) in frames numbered ``slots`` (U) of F."""
        frame = self.frames[slots]
        clip = frame // self.target.transforms.shape[1]
        move = self.target.of_points(frame, vertex)
        in_photo = self.photo.of_points(clip * self.photo.transforms.shape[1], vertex)
        normal, back = self.normals[clip, vertex], inverse(move)
        return Skin(
            clip=clip,
            place=self.grid.vertices[slots, vertex],
            normal=turned_normals(move, normal),
            photo_normal=turned_by(self.to_camera[clip], turned_normals(in_photo, normal)),
            spacing=self.spacing[clip],
            back=_shifted(back, -self.pelvis[slots]),
            to_photo=one_after_another(one_after_another(back, in_photo), self.to_photo[clip]),
            where=self.where[clip, vertex],
            known=self.known[clip, vertex],
        )


def posed_people(
    batch: ClipBatch, frames: Tensor, shell: float, cell: float, renderer: Renderer, kept: ContentCache
) -> PosedPeople:
    """The people of a batch in those of its B T frames, (F) int64 and rising, that are asked for.

    shell, cell: metres, of the grid. kept: grids and what else is the same whenever a clip is seen again.
    Raises: HvgError for what is missing; DataError where photo and clip have other meshes, or a body has no pelvis.
    """
    body, photo = required(batch.body, "ClipBatch.body"), photo_body(batch)
    camera = required(required(batch.reference, "ClipBatch.reference").cameras, "Reference.cameras")[:, 0]
    target, of_photo = (required(x.skinning, "BodyMotion.skinning") for x in (body, photo))
    vertices, faces = mesh_of(body)
    in_photo, _ = mesh_of(photo)
    chosen = vertices.flatten(0, 1)[frames]
    # Faces are no part of what is kept by: vertices in just these places are of no mesh with others.
    grids = [kept("grid", lambda mesh=mesh: frame_grid(mesh, faces, shell, cell), mesh) for mesh in chosen]
    ring = kept("ring", lambda: vertex_rings(faces, vertices.shape[2]), faces)
    shapes = [kept("rest", lambda rest=rest: rest_shape(rest, faces), rest) for rest in target.rest]
    shown = [
        kept(
            "photo",
            lambda b=b: body_in_photo(in_photo[b, 0], faces, camera[b], renderer),
            *told_of_photo(in_photo[b, 0], camera[b]),
        )
        for b in range(len(in_photo))
    ]
    where, known = zip(*(_mirrored(*both) for both in zip(shown, shapes, strict=True)), strict=True)
    to_camera = camera.world_to_camera[:, :3]
    to_photo = camera.intrinsics @ to_camera
    clip = frames // body.joints.shape[1]
    moves, photo_moves = (x.transforms[:, :, _pelvis(x)] for x in (target, of_photo))
    back = torch.linalg.inv(moves.flatten(0, 1)[frames])
    pelvis = moved_by(back[:, :3], body.place("pelvis").flatten(0, 1)[frames])
    legs = torch.stack([torch.stack([body.place(a), body.place(b)], dim=2) for a, b in _LEGS], dim=2)
    return PosedPeople(
        target=target,
        photo=of_photo,
        frames=frames,
        grid=SurfaceGrid.of(grids, chosen, ring, cell),
        normals=torch.stack([shape.normals for shape in shapes]),
        spacing=torch.stack([shape.spacing for shape in shapes]),
        shown=shown,
        to_photo=to_photo,
        to_camera=to_camera,
        where=torch.stack(where),
        known=torch.stack(known),
        pelvis=pelvis,
        unpelvised=_shifted(back[:, :3], -pelvis),
        pelvis_to_photo=(to_photo @ photo_moves[:, 0])[clip] @ back,
        legs=legs.flatten(0, 1)[frames],
    )


def photo_body(batch: ClipBatch) -> BodyMotion:
    """The body in the photos. Raises: HvgError where there is none; DataError where its mesh is another than the clips'."""
    body = required(required(batch.reference, "ClipBatch.reference").body, "Reference.body")
    counts = [len(mesh_of(x)[0][0, 0]) for x in (required(batch.body, "ClipBatch.body"), body)]
    if counts[0] != counts[1]:
        raise DataError(
            f"clip '{batch.clip_id[0]}': its body's mesh has {counts[0]} vertices, that of the photo {counts[1]}; expected one "
            "body model for both"
        )
    return body


def mesh_of(body: BodyMotion) -> tuple[Tensor, Tensor]:
    """Vertices (B, T, P, 3) and faces (F, 3). Raises: HvgError where a body has none."""
    return required(body.vertices, "BodyMotion.vertices"), required(body.faces, "BodyMotion.faces")


def _mirrored(shown: BodyInPhoto, shape: RestShape) -> tuple[Tensor, Tensor]:
    """Pixels (P, 2) at which each vertex is seen, or else its mirror image, and whether either is (P)."""
    other = shape.mirrored
    pixels = torch.where(shown.seen[:, None], shown.pixels, shown.pixels[other])
    return pixels, shown.seen | shown.seen[other]


def _pelvis(skinning: Skinning) -> int:
    """Number of the bone that starts at the pelvis. Raises: DataError where a body has none."""
    if "pelvis" not in skinning.bones:
        raise DataError(f"no bone of the body starts at the pelvis; they start at {', '.join(skinning.bones)}")
    return skinning.bones.index("pelvis")


def _pixels(motions: Tensor, points: Tensor) -> tuple[Tensor, Tensor]:
    """Pixels (M, 2) and z (M) of points (M, 3) by motions (M, 3, 4) to pixels times z, and z; far away where z is not above 0."""
    moved = moved_by(motions, points)
    depth = moved[:, 2]
    pixels = moved[:, :2] / depth[:, None].clamp_min(1e-6)
    return torch.where(depth[:, None] > 1e-6, pixels, -1e6), depth


def _shifted(motions: Tensor, shift: Tensor) -> Tensor:
    """Motions (M, 3, 4) that end ``shift`` (M, 3) further on."""
    return torch.cat([motions[..., :3], motions[..., 3:] + shift[..., None]], dim=-1)


def _each_once(numbers: Tensor, limit: int) -> tuple[Tensor, Tensor]:
    """Whole numbers (M) below a limit, each once and rising (U), and which of these each is (M)."""
    there = torch.zeros(limit, dtype=torch.bool, device=numbers.device)
    there[numbers] = True
    return there.nonzero()[:, 0], (there.long().cumsum(dim=0) - 1)[numbers]
