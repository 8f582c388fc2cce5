"""Warp, which casts rays for renderers and which the Anny body model starts when it is imported."""

from functools import cache
from typing import no_type_check

import torch
import warp as wp
from torch import Tensor

from hvg.core.quiet import without_line
from hvg.values.cameras import Cameras

FAR_METRES = 1.0e4
# No banner on a user's terminal.
wp.config.log_level = wp.LOG_ERROR


@cache
def start_warp() -> None:
    """Starts Warp; nothing after the first time. That there is no GPU it says by its own code, whatever its level."""
    with without_line("Warp CUDA warning: Could not find or load the NVIDIA CUDA driver"):
        wp.init()


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


def cast_poses(
    vertices: Tensor,
    faces: Tensor,
    cameras: Cameras,
    bounds: Tensor,
    face: Tensor,
    barycentric: Tensor,
    depth: Tensor,
) -> None:
    """Fills face, barycentric and depth, one pose after the other; the tree is built once and refitted.

    Arguments as of ``hvg.parts.scene.Renderer.render``, ``MeshImage``, and bounds (N, 4): first column, first row, last column,
    last row of each camera's picture to cast rays at.
    """
    start_warp()
    device = vertices.device
    rotation = cameras.world_to_camera[:, :3, :3]
    to_world = (rotation.mT @ torch.linalg.inv(cameras.intrinsics)).contiguous()
    height, width = cameras.image_size
    rays_per_pose = len(face) // len(vertices)
    stream = wp.stream_from_torch(torch.cuda.current_stream(device)) if device.type == "cuda" else None
    with wp.ScopedDevice(wp.device_from_torch(device)), wp.ScopedStream(stream):
        points = vertices[0].clone()
        indices = faces.to(device=device, dtype=torch.int32).reshape(-1).contiguous()
        mesh = wp.Mesh(wp.from_torch(points, dtype=wp.vec3), wp.from_torch(indices))
        arrays = [
            wp.from_torch(to_world, dtype=wp.mat33),
            wp.from_torch(cameras.centers.contiguous(), dtype=wp.vec3),
            wp.from_torch(bounds, dtype=wp.vec4),
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
