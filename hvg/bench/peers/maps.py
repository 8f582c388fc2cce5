"""Row: bone maps beside PyTorch3D, which draws the same ellipsoids as meshes of triangles."""

from collections.abc import Iterator

import torch
import trimesh
from torch import Tensor

from hvg.bench.drawing import bones_and_camera
from hvg.bench.peers.row import How, Row
from hvg.bench.timing import Ratio, Side
from hvg.geometry.ellipsoids import Ellipsoids, render
from hvg.parts import registry
from hvg.parts.scene import MeshImage, Renderer
from hvg.values.cameras import Cameras

# Of an icosphere of 1,280 faces, whose silhouette is within 0.4 % of the ellipsoid's.
SUBDIVISIONS = 3
SIDE = 576


def rows() -> Iterator[Row]:
    """Bone maps at HVG's size."""
    yield Row(
        name="maps 576",
        ours="pose=bone_map",
        theirs="PyTorch3D MeshRasterizer, 1,280 faces a bone",
        what=f"24 bones, {SIDE} x {SIDE}: depth and normals",
        measure=measure,
        needs=("pytorch3d",),
        install="pip install --no-build-isolation git+https://github.com/facebookresearch/pytorch3d.git",
    )


def bone_meshes(ellipsoids: Ellipsoids) -> tuple[Tensor, Tensor]:
    """Vertices (1, P, 3), world, and faces (F, 3) of a sphere for each of N ellipsoids, stretched and turned to it."""
    sphere = trimesh.creation.icosphere(subdivisions=SUBDIVISIONS)
    points, faces = torch.tensor(sphere.vertices).float(), torch.tensor(sphere.faces)
    axis = ellipsoids.axis[:, None]  # N 1 3
    along = (points * torch.tensor([0.0, 1.0, 0.0])).sum(-1, keepdim=True)
    beside = points - along * torch.tensor([0.0, 1.0, 0.0])
    # Two directions across the bone, for the sphere's two others.
    other = torch.where(axis[..., :1].abs() < 0.9, torch.tensor([1.0, 0.0, 0.0]), torch.tensor([0.0, 1.0, 0.0]))
    first = torch.linalg.cross(axis, other.expand_as(axis))
    first = first / first.norm(dim=-1, keepdim=True)
    second = torch.linalg.cross(first, axis)
    across = beside[:, :1] * first + beside[:, 2:] * second
    vertices = ellipsoids.half_length[:, None, None] * along * axis + ellipsoids.radius[:, None, None] * across
    count = len(points) * torch.arange(len(axis))
    return (vertices + ellipsoids.center[:, None]).flatten(0, 1)[None], (faces + count[:, None, None]).flatten(0, 1)


def as_meshes(renderer: Renderer, ellipsoids: Ellipsoids, cameras: Cameras) -> MeshImage:
    """The same picture as ``hvg.geometry.ellipsoids.render``'s, drawn from triangles."""
    vertices, faces = bone_meshes(ellipsoids)
    return renderer.render(vertices, faces, cameras)


@torch.no_grad()
def measure(how: How) -> Ratio:
    """Raises: HvgError where PyTorch3D is not there."""
    cls = registry.load("renderer", "pytorch3d")
    renderer, (ellipsoids, camera) = cls(cls.Config()), bones_and_camera(SIDE)
    ours, theirs = Side(lambda: render(ellipsoids, camera)), Side(lambda: as_meshes(renderer, ellipsoids, camera[None]))
    return how.compare("maps", ours, theirs)
