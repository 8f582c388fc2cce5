"""Textured scans of people: reading them, and their pictures."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from hvg.core.errors import DataError
from hvg.core.files import regular_file
from hvg.media.images import read_image_8bit
from hvg.parts.scene import MeshImage, Renderer
from hvg.values.cameras import Cameras

# Bytes of a mesh's file: ten times those of the largest scans.
LARGEST = 2**30
# Rays that are cast at once; some 80 bytes each.
_RAYS_AT_ONCE = 2**22


@dataclass(frozen=True, kw_only=True)
class Scan:
    """A coloured mesh. vertices: (P, 3) float32. faces: (F, 3) int64.

    Either texture, (3, H, W) uint8 sRGB, with uv, (P, 2) in [0, 1], v upwards; or colours, (P, 3) uint8 sRGB, of the vertices.
    """

    vertices: Tensor
    faces: Tensor
    uv: Tensor | None = None
    texture: Tensor | None = None
    colours: Tensor | None = None

    def moved(self, shift: Tensor, scale: float = 1.0) -> "Scan":
        """The scan with every vertex x at ``scale`` x + ``shift`` (3)."""
        return replace(self, vertices=scale * self.vertices + shift)

    def colour(self, face: Tensor, barycentric: Tensor) -> Tensor:
        """sRGB (N, 3) in [0, 255] of points: their faces (N), and weights (N, 3) of the faces' corners."""
        corners = self.faces[face]
        if self.uv is None or self.texture is None:
            assert self.colours is not None
            return (barycentric[..., None] * self.colours[corners].float()).sum(1)
        return _sampled(self.texture, (barycentric[..., None] * self.uv[corners]).sum(1))


def read_scan(path: Path, texture: Path | None) -> Scan:
    """The scan in an .obj with its picture, or in a .ply with colours of vertices (texture: None).

    What an .obj names besides, a material and its files, is not looked at. Raises: DataError, one line that names the file, what
    was found and what was expected.
    """
    mesh = _mesh(path)
    vertices, faces = np.asarray(mesh.vertices, np.float32), np.asarray(mesh.faces, np.int64)
    if not len(faces) or not np.isfinite(vertices).all() or not ((faces >= 0) & (faces < len(vertices))).all():
        raise DataError(
            f"{path}: {len(vertices)} vertices and {len(faces)} faces; expected finite vertices and faces of them"
        )
    scan = Scan(vertices=torch.from_numpy(vertices), faces=torch.from_numpy(faces))
    if texture is None:
        return replace(scan, colours=_vertex_colours(path, mesh))
    uv = getattr(mesh.visual, "uv", None)
    if uv is None or not np.isfinite(uv).all():
        raise DataError(f"{path}: has no (finite) texture coordinates; expected vt lines for {texture.name}")
    return replace(scan, uv=torch.from_numpy(np.asarray(uv, np.float32)), texture=read_image_8bit(texture)[0])


def _mesh(path: Path):
    """trimesh's mesh of a file."""
    import trimesh

    if not path.is_file():
        raise DataError(f"{path}: there is no such file; expected a scan")
    if path.stat().st_size > LARGEST:
        raise DataError(f"{path}: {path.stat().st_size} bytes; at most {LARGEST} are read of a scan")
    try:
        with regular_file(path).open("rb") as file:
            return trimesh.load_mesh(file, file_type=path.suffix[1:], process=False, skip_materials=True)
    except (ValueError, IndexError, TypeError, KeyError, AttributeError, OSError) as error:
        reason = " ".join(str(error).split())[:100]
        raise DataError(f"{path}: cannot be read as a mesh ({reason}); expected {path.suffix} of triangles") from error


def _vertex_colours(path: Path, mesh) -> Tensor:
    if mesh.visual.kind != "vertex":
        raise DataError(
            f"{path}: has no colours of vertices; expected red, green and blue of each, or a texture beside it"
        )
    return torch.from_numpy(np.array(mesh.visual.vertex_colors[:, :3], np.uint8))


def _sampled(texture: Tensor, uv: Tensor) -> Tensor:
    """Values (N, 3) of a texture (3, H, W) between its pixels' centres; beyond its border it begins anew."""
    height, width = texture.shape[1:]
    place = torch.stack([uv[:, 0] * width, (1 - uv[:, 1]) * height], dim=1) - 0.5
    first = place.floor()
    part = place - first
    values = torch.zeros(len(uv), 3)
    for down in (0, 1):
        for right in (0, 1):
            column, row = (first[:, 0].long() + right) % width, (first[:, 1].long() + down) % height
            weight = (part[:, 0] if right else 1 - part[:, 0]) * (part[:, 1] if down else 1 - part[:, 1])
            values += weight[:, None] * texture[:, row, column].T.float()
    return values


def scan_pictures(
    scan: Scan, cameras: Cameras, renderer: Renderer, supersampling: int, background: Tensor
) -> tuple[Tensor, Tensor]:
    """A scan as cameras (N) see it, in the colours that it has: (N, 3, H, W) and its coverage (N, 1, H, W), uint8.

    supersampling: rays of a pixel along each side. background: (3,) sRGB in [0, 1].
    """
    height, width = cameras.image_size
    fine = cameras.resized((height * supersampling, width * supersampling))
    at_once = max(1, _RAYS_AT_ONCE // (height * width * supersampling**2))
    pieces = []
    for start in range(0, len(cameras.world_to_camera), at_once):
        image = renderer.render(scan.vertices[None], scan.faces, fine[slice(start, start + at_once)])
        pieces.append(_pixels(scan, image, supersampling, background))
    pixels = torch.cat(pieces)
    return pixels[:, :3], pixels[:, 3:]


def _pixels(scan: Scan, image: MeshImage, supersampling: int, background: Tensor) -> Tensor:
    """(N, 4, H, W) uint8: colours before the background, and coverage."""
    hit = image.face >= 0
    samples = torch.zeros(*image.face.shape, 4)
    samples[hit] = torch.cat(
        [scan.colour(image.face[hit], image.barycentric[hit]), torch.full((int(hit.sum()), 1), 255.0)], dim=1
    )
    mean = torch.nn.functional.avg_pool2d(samples.movedim(-1, 1), supersampling)
    colour = mean[:, :3] + (255 - mean[:, 3:]) * background[:, None, None]
    return torch.cat([colour, mean[:, 3:]], dim=1).round().clamp(0, 255).to(torch.uint8)
