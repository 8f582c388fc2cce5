"""Checks of what every renderer promises, on boxes, whose pictures planes say."""

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import normalize

from hvg.geometry.meshes import vertex_normals
from hvg.parts.scene import MeshImage, Renderer
from hvg.testing.building import make, require
from hvg.testing.scene import BOX_FACES
from hvg.values.cameras import Cameras, orbit, pixel_rays, project

# Share of pixels, along outlines, whose ray may meet the box for one and miss it for the other; and what numbers may differ by.
_OUTLINE, _NEAR = 0.01, 1e-3
_POSES, _VIEWS = 2, 3


def check_renderer(cls: type[Renderer], config: Any) -> None:
    """Runs every check below. Raises: AssertionError that says which promise is broken."""
    renderer = make(cls, config)
    vertices, faces = _boxes(), torch.tensor(BOX_FACES)
    cameras = _around((24, 32))
    image = renderer.render(vertices, faces, cameras)
    check_form(image, cameras)
    check_surface(image, vertices, faces, cameras)
    check_points(image, vertices, faces, cameras)
    again = renderer.render(vertices, faces, cameras)
    same = all(torch.equal(x, y) for x, y in zip(vars(image).values(), vars(again).values(), strict=True))
    require(same, "the same meshes have another picture the second time")
    check_nobody(renderer.render(vertices + torch.tensor([0.0, 50.0, 0.0]), faces, cameras))


def check_form(image: MeshImage, cameras: Cameras) -> None:
    """Pictures (N, H, W) of the types that ``MeshImage`` says."""
    shape = (*cameras.shape, *cameras.image_size)
    for name, expected in (("face", shape), ("barycentric", (*shape, 3)), ("depth", shape), ("normal", (*shape, 3))):
        x = getattr(image, name)
        require(tuple(x.shape) == expected, f"{name} is {tuple(x.shape)}, not {expected}")
        kind = torch.int64 if name == "face" else torch.float32
        require(x.dtype == kind, f"{name} is {x.dtype}, not {kind}")


def check_surface(image: MeshImage, vertices: Tensor, faces: Tensor, cameras: Cameras) -> None:
    """A pixel shows what its centre's ray meets first, at its z; camera n sees pose n M // N."""
    expected = torch.stack([_depth(vertices[_pose(n)], faces, cameras[n]) for n in range(len(cameras.world_to_camera))])
    seen, there = image.face >= 0, expected > 0
    wrong = float((seen != there).float().mean())
    require(wrong <= _OUTLINE, f"{wrong:.1%} of the pixels show a box where none is, or none where one is")
    off = float((image.depth - expected).abs()[seen & there].max())
    require(off < _NEAR, f"depth is off by {off:.3g} m from that of the surface that is seen first")


def check_points(image: MeshImage, vertices: Tensor, faces: Tensor, cameras: Cameras) -> None:
    """Barycentric weights are of the point on the face that lies behind the pixel's centre, and blend the corners' normals.

    Nothing is told where nothing is hit.
    """
    hit = image.face >= 0
    for name in ("barycentric", "depth", "normal"):
        require(not getattr(image, name)[~hit].any(), f"{name} is not 0 where nothing is hit")
    camera, row, column = hit.nonzero(as_tuple=True)
    weights, pose = image.barycentric[hit], torch.tensor([_pose(n) for n in range(len(image.face))])[camera]
    sums = float((weights.sum(-1) - 1).abs().max())
    require(sums < _NEAR and float(weights.min()) > -_NEAR, "barycentric weights have to be positive and sum to 1")
    corners = faces[image.face[hit]]
    points = (weights[..., None] * vertices[pose[:, None], corners]).sum(1)
    pixels, z = project(points[:, None], cameras[camera])
    centres = torch.stack([column, row], dim=-1) + 0.5
    off = float((pixels[:, 0] - centres).abs().max())
    require(off < 0.05, f"what barycentric weights say lies {off:.2f} pixels beside the pixel's centre")
    require(float((z[:, 0] - image.depth[hit]).abs().max()) < _NEAR, "depth is not that of the point on the face")
    blended = (weights[..., None] * vertex_normals(vertices, faces)[pose[:, None], corners]).sum(1, keepdim=True)
    expected = normalize((blended @ cameras.world_to_camera[camera, :3, :3].mT)[:, 0], dim=-1)
    off = float((image.normal[hit] - expected).abs().max())
    require(off < 0.01, f"normals differ by {off:.3g} from the corners', blended and turned to the camera's axes")


def check_nobody(image: MeshImage) -> None:
    """A picture beside which the mesh lies is empty."""
    require(bool((image.face == -1).all()), "a mesh that no camera sees has a picture")
    require(not any(bool(x.any()) for x in (image.barycentric, image.depth, image.normal)), "an empty picture is not 0")


def _boxes() -> Tensor:
    """Corners (M, 8, 3) of a box in two poses; metres."""
    corners = torch.cartesian_prod(*[torch.tensor([-1.0, 1.0])] * 3) * torch.tensor([0.3, 0.5, 0.2])
    turn = torch.tensor([[0.8, 0.0, 0.6], [0.0, 1.0, 0.0], [-0.6, 0.0, 0.8]])
    return torch.stack([corners, corners @ turn.mT + torch.tensor([0.2, 0.1, -0.1])])


def _around(size: tuple[int, int]) -> Cameras:
    """Cameras (N) around the boxes, as many for each pose."""
    return orbit(
        torch.arange(_POSES * _VIEWS) * 70.0 + 10,
        elevation_degrees=15.0,
        distance=3.0,
        target=torch.zeros(3),
        fov_degrees=40.0,
        image_size=size,
    )


def _pose(camera: int) -> int:
    return camera // _VIEWS


def _depth(vertices: Tensor, faces: Tensor, camera: Cameras) -> Tensor:
    """(H, W): z at which the rays of a camera enter the box, as the half space of every face says; 0 where none does."""
    corners = vertices @ camera.world_to_camera[:3, :3].mT + camera.world_to_camera[:3, 3]
    a, b, c = corners[faces].unbind(1)
    outward = torch.linalg.cross(b - a, c - a)
    towards = pixel_rays(camera) @ outward.mT
    place = (a * outward).sum(-1) / towards
    enters = torch.where(towards < 0, place, -torch.inf).amax(-1)
    leaves = torch.where(towards > 0, place, torch.inf).amin(-1)
    return enters.where((enters < leaves) & (enters > 0), 0)
