"""Ray casting of triangle meshes with Warp's bounding volume hierarchy: the same kernel on CPU and CUDA."""

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import normalize

from hvg.geometry.meshes import vertex_normals
from hvg.parts.scene import MeshImage, Renderer
from hvg.values.cameras import Cameras


class Warp(Renderer):
    """Exact ray casting through pixel centres; both sides of a face are seen."""

    def render(self, vertices: Tensor, faces: Tensor, cameras: Cameras | Any) -> MeshImage:
        """The surface seen at each pixel centre, of M poses of one mesh, in float32, on the device of ``vertices``.

        vertices: (M, P, 3) world metres, where M divides the number N of cameras: camera n sees pose n * M // N. So
        M = N gives every camera its own pose, M = 1 shows one pose to all, and M = T with cameras in T V order shows
        every frame to its V views. faces: (F, 3). A pure function of its arguments: earlier calls leave no trace.

        Raises: ValueError when M does not divide N.
        """
        # Warp takes a while to import, and settings are judged without it.
        from ..people.ray_casting import cast_poses

        poses, (num_cameras,) = len(vertices), cameras.shape
        if poses == 0 or num_cameras % poses:
            raise ValueError(f"{poses} poses of a mesh cannot be shared out evenly to {num_cameras} cameras")
        height, width = cameras.image_size
        vertices = vertices.detach().float().contiguous()
        device = vertices.device
        cameras = cameras.to(device=device, dtype=torch.float32)
        count = num_cameras * height * width
        face = torch.full((count,), -1, dtype=torch.int64, device=device)
        barycentric = torch.zeros(count, 3, device=device)
        depth = torch.zeros(count, device=device)
        cast_poses(vertices, faces, cameras, _pixel_bounds(vertices, cameras), face, barycentric, depth)
        normal = _hit_normals(vertices, faces.to(device), cameras, face, barycentric)
        shape = (num_cameras, height, width)
        return MeshImage(
            face=face.view(shape),
            barycentric=barycentric.view(*shape, 3),
            depth=depth.view(shape),
            normal=normal.view(*shape, 3),
        )


def _pixel_bounds(vertices: Tensor, cameras: Cameras) -> Tensor:
    """(N, 4): first column, first row, last column, last row that can see the mesh; most rays end here, cheaply."""
    share = len(cameras.world_to_camera) // len(vertices)
    in_camera = cameras.world_to_camera.unflatten(0, (len(vertices), share))
    points = vertices[:, None] @ in_camera[..., :3, :3].mT + in_camera[..., None, :3, 3]
    pixels = points @ cameras.intrinsics.unflatten(0, (len(vertices), share)).mT
    depth = pixels[..., 2:]
    pixels = pixels[..., :2] / depth.clamp_min(1e-6)
    # A mesh that reaches behind the camera can be anywhere in the image.
    behind = (depth <= 1e-6).any(dim=2)
    first = torch.where(behind, -1.0, pixels.amin(dim=2) - 2)
    last = torch.where(behind, float(max(cameras.image_size)), pixels.amax(dim=2) + 1)
    return torch.cat([first, last], dim=-1).flatten(0, 1).contiguous()


def _hit_normals(vertices: Tensor, faces: Tensor, cameras: Cameras, face: Tensor, barycentric: Tensor) -> Tensor:
    """Camera-space unit normals (rays, 3), 0 where nothing is hit."""
    hit = (face >= 0).nonzero()[:, 0]
    pose = hit // (len(face) // len(vertices))
    camera = hit // (len(face) // len(cameras.world_to_camera))
    at_vertices = vertex_normals(vertices, faces).reshape(-1, 3)
    corners = faces.index_select(0, face[hit]) + pose[:, None] * vertices.shape[1]
    at_corners = at_vertices.index_select(0, corners.flatten()).unflatten(0, (-1, 3))
    in_world = barycentric[hit][:, None] @ at_corners
    rotation = cameras.world_to_camera[:, :3, :3]
    normal = torch.zeros_like(barycentric)
    normal[hit] = normalize((in_world @ rotation.mT[camera])[:, 0], dim=-1)
    return normal
