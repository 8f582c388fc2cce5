"""What rays and points look up in grids of the nearest skin, by Warp: the same kernels on CPU and CUDA.

Each point takes a path of its own through a grid and a mesh. As operations on whole tensors that is dozens of passes over all
points, which cost more than what a small network makes of them.
"""

from typing import TYPE_CHECKING, Any, no_type_check

import torch
import warp as wp
from torch import Tensor

from .ray_casting import start_warp

if TYPE_CHECKING:
    from .surface_grid import SurfaceGrid


@wp.func
@no_type_check  # Warp's language: its annotations are values, and Python's types say nothing about its body.
def _node(place: wp.vec3i, counts: wp.vec3i, start: int):
    """Number of the node at a place along the axes; outside, of the nearest one at the border."""
    i = wp.clamp(place[0], 0, counts[0] - 1)
    j = wp.clamp(place[1], 0, counts[1] - 1)
    k = wp.clamp(place[2], 0, counts[2] - 1)
    return start + (i * counts[1] + j) * counts[2] + k


@wp.kernel
@no_type_check
def _march(
    grid_origin: wp.array(dtype=wp.vec3),
    grid_counts: wp.array(dtype=wp.vec3i),
    grid_start: wp.array(dtype=int),
    cell: float,
    distance: wp.array(dtype=float),
    origin: wp.array(dtype=wp.vec3),
    direction: wp.array(dtype=wp.vec3),
    frame: wp.array(dtype=wp.int64),
    near: wp.array(dtype=float),
    step: wp.array(dtype=float),
    shell: float,
    deep: float,
    inside: wp.array2d(dtype=wp.bool),
    ends: wp.array(dtype=wp.bool),
):
    ray = wp.tid()
    slot = int(frame[ray])
    for piece in range(inside.shape[1]):
        point = origin[ray] + (near[ray] + (float(piece) + 0.5) * step[ray]) * direction[ray]
        place = (point - grid_origin[slot]) / cell
        middle = wp.vec3i(int(wp.rint(place[0])), int(wp.rint(place[1])), int(wp.rint(place[2])))
        apart = distance[_node(middle, grid_counts[slot], grid_start[slot])]
        if apart <= shell:
            inside[ray, piece] = True
        if apart < -deep:
            ends[ray] = True
            break


@wp.kernel
@no_type_check
def _nearest(
    grid_origin: wp.array(dtype=wp.vec3),
    grid_counts: wp.array(dtype=wp.vec3i),
    grid_start: wp.array(dtype=int),
    cell: float,
    known: wp.array(dtype=int),
    vertices: wp.array2d(dtype=wp.vec3),
    ring: wp.array2d(dtype=int),
    edges: int,
    points: wp.array(dtype=wp.vec3),
    frame: wp.array(dtype=wp.int64),
    vertex: wp.array(dtype=wp.int64),
    found: wp.array(dtype=wp.bool),
):
    number = wp.tid()
    slot = int(frame[number])
    point = points[number]
    place = (point - grid_origin[slot]) / cell
    # Made by a call, so that loops may change them.
    best = wp.int32(-1)
    apart = wp.float32(1.0e30)
    for corner in range(8):
        x = int(wp.floor(place[0])) + corner / 4
        y = int(wp.floor(place[1])) + (corner / 2) % 2
        z = int(wp.floor(place[2])) + corner % 2
        candidate = known[_node(wp.vec3i(x, y, z), grid_counts[slot], grid_start[slot])]
        if candidate >= 0:
            squared = wp.length_sq(vertices[slot, candidate] - point)
            if squared < apart:
                apart = squared
                best = candidate
    # From further away, a vertex beside the nearest one is as good.
    if best >= 0 and apart < cell * cell:
        for _edge in range(edges):
            nearer = wp.int32(best)
            for beside in range(ring.shape[1]):
                candidate = ring[best, beside]
                squared = wp.length_sq(vertices[slot, candidate] - point)
                if squared < apart:
                    apart = squared
                    nearer = candidate
            if nearer == best:
                break
            best = nearer
    vertex[number] = wp.int64(wp.max(best, 0))
    found[number] = best >= 0


@wp.kernel
@no_type_check
def _to_segments(
    ends: wp.array2d(dtype=wp.vec3),
    points: wp.array(dtype=wp.vec3),
    frame: wp.array(dtype=wp.int64),
    distance: wp.array2d(dtype=float),
):
    number = wp.tid()
    slot = int(frame[number])
    for segment in range(distance.shape[1]):
        start = ends[slot, 2 * segment]
        along = ends[slot, 2 * segment + 1] - start
        away = points[number] - start
        share = wp.clamp(wp.dot(away, along) / wp.max(wp.length_sq(along), 1.0e-12), 0.0, 1.0)
        distance[number, segment] = wp.length(away - share * along)


def near_pieces(
    grid: "SurfaceGrid",
    rays: tuple[Tensor, Tensor, Tensor],
    near: Tensor,
    step: Tensor,
    count: int,
    limits: tuple[float, float],
) -> tuple[Tensor, Tensor]:
    """As of ``SurfaceGrid.near_pieces``."""
    inside = torch.zeros(len(near), count, dtype=torch.bool, device=near.device)
    ends = torch.zeros(len(near), dtype=torch.bool, device=near.device)
    _launch(_march, len(near), *_nodes(grid), grid.distance, *rays, near, step, *limits, inside, ends)
    return inside, ends


def nearest_vertices(grid: "SurfaceGrid", points: Tensor, frames: Tensor, edges: int) -> tuple[Tensor, Tensor]:
    """As of ``SurfaceGrid.nearest``. edges: so many at most are gone along."""
    vertex = torch.empty(len(points), dtype=torch.int64, device=points.device)
    found = torch.empty(len(points), dtype=torch.bool, device=points.device)
    mesh = grid.vertex, grid.vertices, grid.ring, edges
    _launch(_nearest, len(points), *_nodes(grid), *mesh, points, frames, vertex, found)
    return vertex, found


def distances_to_segments(points: Tensor, frames: Tensor, ends: Tensor) -> Tensor:
    """Distances (M, N) of points (M, 3) of frames (M) int64 to segments with ends (F, N, 2, 3)."""
    distance = torch.empty(len(points), ends.shape[1], device=points.device)
    _launch(_to_segments, len(points), ends.flatten(1, 2), points, frames, distance)
    return distance


def _nodes(grid: "SurfaceGrid") -> tuple[Any, ...]:
    """Where the nodes of a grid lie, as the kernels take it."""
    return grid.origin, grid.counts.int(), grid.start.int(), grid.cell


def _launch(kernel: Any, count: int, *given: Any) -> None:
    """Runs a kernel for so many threads, on the device of its arguments; tensors are handed over without a copy."""
    if not count:
        return
    start_warp()
    device = next(x.device for x in given if isinstance(x, Tensor))
    stream = wp.stream_from_torch(torch.cuda.current_stream(device)) if device.type == "cuda" else None
    with wp.ScopedDevice(wp.device_from_torch(device)), wp.ScopedStream(stream):
        pairs = zip(kernel.adj.args, given, strict=True)
        arrays = [_array(x, argument.type.dtype) if isinstance(x, Tensor) else x for argument, x in pairs]
        wp.launch(kernel, dim=count, inputs=arrays)


def _array(x: Tensor, kind: Any) -> Any:
    """A tensor as an array of what a kernel expects, such as vectors of its last axis."""
    x = x.detach()
    return wp.from_torch((x.float() if x.is_floating_point() else x).contiguous(), dtype=kind)
