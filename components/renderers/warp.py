"""Ray casting of triangle meshes with Warp's bounding volume hierarchy: the same kernel on CPU and CUDA."""

from __future__ import annotations

import math
from typing import Any, no_type_check

import torch
import warp as wp
from torch import Tensor
from torch.nn.functional import normalize

from hvg.geometry.meshes import vertex_normals
from hvg.parts.scene import MeshImage, Renderer
from hvg.values.cameras import Cameras

from ..people.ray_casting import start_warp

FAR_METRES = 1.0e4


@wp.kernel
@no_type_check  # Warp's language: its annotations are values, and Python's types say nothing about its body.
def _cast(
    mesh: wp.uint64,
    first_ray: int,
    rays_per_camera: int,
    width: int,
    to_world: wp.array(dtype=wp.mat33),
    centers: wp.array(dtype=wp.vec3),
    bounds: wp.array(dtype=wp.vec4),
    face: wp.array(dtype=wp.int64),
    barycentric: wp.array(dtype=wp.vec3),
    depth: wp.array(dtype=float),
):
    ray = first_ray + wp.tid()
    camera = ray / rays_per_camera
    pixel = ray - camera * rays_per_camera
    row = pixel / width
    column = pixel - row * width
    box = bounds[camera]
    if float(column) < box[0] or float(row) < box[1] or float(column) > box[2] or float(row) > box[3]:
        return
    # Scaled so that camera-space z grows by one along it: the distance along the unit ray over its length is z.
    direction = to_world[camera] * wp.vec3(float(column) + 0.5, float(row) + 0.5, 1.0)
    length = wp.length(direction)
    hit = wp.mesh_query_ray(mesh, centers[camera], direction / length, FAR_METRES)
    if hit.result:
        face[ray] = wp.int64(hit.face)
        barycentric[ray] = wp.vec3(hit.u, hit.v, 1.0 - hit.u - hit.v)
        depth[ray] = hit.t / length


class Warp(Renderer):
    """Exact ray casting through pixel centres; both sides of a face are seen."""

    def render(self, vertices: Tensor, faces: Tensor, cameras: Cameras | Any) -> MeshImage:
        """The surface seen at each pixel centre, of M poses of one mesh, in float32, on the device of ``vertices``.

        vertices: (M, P, 3) world metres, where M divides the number N of cameras: camera n sees pose n * M // N. So
        M = N gives every camera its own pose, M = 1 shows one pose to all, and M = T with cameras in T V order shows
        every frame to its V views. faces: (F, 3). A pure function of its arguments: earlier calls leave no trace.

        Raises: ValueError when M does not divide N.
        """
        poses, (num_cameras,) = len(vertices), cameras.shape
        if poses == 0 or num_cameras % poses:
            raise ValueError(f"{poses} poses of a mesh cannot be shared out evenly to {num_cameras} cameras")
        height, width = cameras.image_size
        vertices = vertices.detach().float().contiguous()
        device = vertices.device
        cameras = cameras.to(device=device, dtype=torch.float32)
        face, barycentric, depth = _cast_poses(vertices, faces, cameras)
        normal = _hit_normals(vertices, faces.to(device), cameras, face, barycentric)
        shape = (num_cameras, height, width)
        return MeshImage(
            face=face.view(shape),
            barycentric=barycentric.view(*shape, 3),
            depth=depth.view(shape),
            normal=normal.view(*shape, 3),
        )


def _cast_poses(vertices: Tensor, faces: Tensor, cameras: Cameras) -> tuple[Tensor, Tensor, Tensor]:
    """Face (rays), barycentric (rays, 3) and depth (rays), one pose after the other; the tree is built once and refitted."""
    start_warp()
    device, rays = vertices.device, cameras.shape.numel() * math.prod(cameras.image_size)
    face = torch.full((rays,), -1, dtype=torch.int64, device=device)
    barycentric, depth = torch.zeros(rays, 3, device=device), torch.zeros(rays, device=device)
    rotation = cameras.world_to_camera[:, :3, :3]
    to_world = (rotation.mT @ torch.linalg.inv(cameras.intrinsics)).contiguous()
    height, width = cameras.image_size
    rays_per_pose = rays // len(vertices)
    stream = wp.stream_from_torch(torch.cuda.current_stream(device)) if device.type == "cuda" else None
    with wp.ScopedDevice(wp.device_from_torch(device)), wp.ScopedStream(stream):
        points = vertices[0].clone()
        indices = faces.to(device=device, dtype=torch.int32).reshape(-1).contiguous()
        mesh = wp.Mesh(wp.from_torch(points, dtype=wp.vec3), wp.from_torch(indices))
        arrays = [
            wp.from_torch(to_world, dtype=wp.mat33),
            wp.from_torch(cameras.centers.contiguous(), dtype=wp.vec3),
            wp.from_torch(_pixel_bounds(vertices, cameras), dtype=wp.vec4),
            wp.from_torch(face),
            wp.from_torch(barycentric, dtype=wp.vec3),
            wp.from_torch(depth),
        ]
        for pose in range(len(vertices)):
            if pose:
                points.copy_(vertices[pose])
                mesh.refit()
            wp.launch(
                _cast,
                dim=rays_per_pose,
                inputs=[mesh.id, pose * rays_per_pose, height * width, width, *arrays],
            )
    return face, barycentric, depth


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
