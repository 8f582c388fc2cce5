"""The nearest point of a mesh, by Warp's bounding volume hierarchy: the same kernel on CPU and CUDA."""

from typing import no_type_check

import torch
import warp as wp
from torch import Tensor

from .ray_casting import start_warp


@wp.kernel
@no_type_check  # Warp's language: its annotations are values, and Python's types say nothing about its body.
def _nearest(
    mesh: wp.uint64,
    points: wp.array(dtype=wp.vec3),
    reach: float,
    vertex: wp.array(dtype=wp.int32),
    distance: wp.array(dtype=float),
):
    i = wp.tid()
    found = wp.mesh_query_point_sign_normal(mesh, points[i], reach)
    if found.result:
        third = 1.0 - found.u - found.v
        corner = 0
        if found.v > found.u:
            corner = 1
        if third > wp.max(found.u, found.v):
            corner = 2
        there = wp.mesh_eval_position(mesh, found.face, found.u, found.v)
        vertex[i] = wp.mesh_get_index(mesh, found.face * 3 + corner)
        distance[i] = found.sign * wp.length(points[i] - there)


def nearest_on_mesh(vertices: Tensor, faces: Tensor, points: Tensor, reach: float) -> tuple[Tensor, Tensor]:
    """Of points (M, 3): the vertex (M) int32 that is the nearest corner of the nearest face, and the signed distance (M).

    Metres; below 0 inside of the mesh, vertices (P, 3) with faces (F, 3), counter-clockwise seen from outside. Nothing is
    looked for beyond ``reach``: there the vertex is -1, and the distance ``reach``.
    """
    start_warp()
    device = vertices.device
    vertex = torch.full((len(points),), -1, dtype=torch.int32, device=device)
    distance = torch.full((len(points),), reach, device=device)
    stream = wp.stream_from_torch(torch.cuda.current_stream(device)) if device.type == "cuda" else None
    with wp.ScopedDevice(wp.device_from_torch(device)), wp.ScopedStream(stream):
        corners = wp.from_torch(vertices.detach().float().contiguous(), dtype=wp.vec3)
        indices = faces.to(device=device, dtype=torch.int32).reshape(-1).contiguous()
        mesh = wp.Mesh(corners, wp.from_torch(indices))
        places = wp.from_torch(points.detach().float().contiguous(), dtype=wp.vec3)
        arrays = [places, reach, wp.from_torch(vertex), wp.from_torch(distance)]
        wp.launch(_nearest, dim=len(points), inputs=[mesh.id, *arrays])
    return vertex, distance
