"""What a photo shows of the body in it: which vertices, at which pixels, and which vertex is the mirror image of which."""

from dataclasses import dataclass

import torch
from torch import Tensor

from hvg.geometry.meshes import vertex_normals
from hvg.parts.scene import Renderer
from hvg.values.cameras import Cameras, project

from ..nn.control_maps import box_filter

# Rays over the shorter side of a photo with which it is seen what hides what.
_LEAST_SIDE = 128
# Metres that a vertex may lie behind what a ray hits, besides a pixel's width, and still be what is seen there.
_TOLERANCE = 0.01
# Cosine between a vertex' normal and the way to the camera; seen flatter, a pixel holds what lies beside it.
_LEAST_COSINE = 0.1


@dataclass(frozen=True, kw_only=True)
class BodyInPhoto:
    """A mesh as one camera sees it.

    pixels: (P, 2) of its vertices, and seen: (P) bool, whether the camera sees them: in the picture, nothing before them, not
    from behind. depth: (H, W) mean z of what the pixel shows times coverage: (H, W), its share of the pixel.
    """

    pixels: Tensor
    seen: Tensor
    depth: Tensor
    coverage: Tensor


def told_of_photo(vertices: Tensor, camera: Cameras) -> tuple[Tensor, ...]:
    """All that ``body_in_photo`` depends on, apart from the mesh's faces."""
    size = torch.tensor(camera.image_size).to(vertices.device)
    return vertices, camera.world_to_camera, camera.intrinsics, size


def body_in_photo(vertices: Tensor, faces: Tensor, camera: Cameras, renderer: Renderer) -> BodyInPhoto:
    """A mesh, vertices (P, 3) in world metres, before a camera without leading axes."""
    height, width = camera.image_size
    factor = max(1, -(-_LEAST_SIDE // min(height, width)))
    fine = camera.resized((factor * height, factor * width))[None]
    image = renderer.render(vertices[None], faces, fine)
    (pixels,), (z,) = project(vertices[None], fine)
    column, row = pixels.floor().long().unbind(dim=-1)
    inside = (column >= 0) & (column < factor * width) & (row >= 0) & (row < factor * height) & (z > 0)
    hit = image.depth[0, row.clamp(0, factor * height - 1), column.clamp(0, factor * width - 1)]
    pixel_width = z / fine.intrinsics[0, 0, 0]
    to_camera = torch.nn.functional.normalize(camera.centers - vertices, dim=-1)
    facing = (vertex_normals(vertices[None], faces)[0] * to_camera).sum(dim=-1)
    behind = z - hit
    seen = inside & (hit > 0) & (behind < _TOLERANCE + pixel_width) & (facing > _LEAST_COSINE)
    return BodyInPhoto(
        pixels=pixels / factor,
        seen=seen,
        depth=box_filter(image.depth[:, None], factor)[0, 0],
        coverage=box_filter((image.face >= 0)[:, None].to(image.depth), factor)[0, 0],
    )


@dataclass(frozen=True, kw_only=True)
class RestShape:
    """A person's mesh at rest.

    normals: (P, 3). mirrored: (P) int64, the vertex nearest to where the mirror image of a vertex lies. spacing: () metres, half
    of how far vertices lie apart.
    """

    normals: Tensor
    mirrored: Tensor
    spacing: Tensor


def rest_shape(rest: Tensor, faces: Tensor) -> RestShape:
    """Of vertices at rest (P, 3), metres: left is +x."""
    # Warp takes a while to import, and settings are judged without it.
    from .nearest_surface import nearest_on_mesh

    mirror = rest.clone()
    mirror[:, 0] = rest[:, 0].amin() + rest[:, 0].amax() - rest[:, 0]
    tall = float((rest.amax(dim=0) - rest.amin(dim=0)).amax())
    mirrored, _ = nearest_on_mesh(rest, faces, mirror, reach=tall)
    corners = rest[faces]
    area = torch.linalg.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]).norm(dim=-1).sum() / 2
    return RestShape(
        normals=vertex_normals(rest[None], faces)[0],
        mirrored=mirrored.long().clamp_min(0),
        # A vertex has the area of a disc of this radius.
        spacing=(area / len(rest) / torch.pi).sqrt(),
    )
