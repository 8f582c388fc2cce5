"""Where the nearest point of a moving person's skin is, looked up in a grid for each frame.

An exact search costs more than what a small network makes of the point. It is done once, at the nodes of a grid around the
body; a point then asks the eight nodes around it, takes the nearest of their vertices, and from there goes along edges of the
mesh for as long as a neighbour is nearer.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod, sqrt

import torch
from torch import Tensor

from hvg.core.errors import DataError
from hvg.geometry.meshes import neighbours

# Edges that a point goes along at most, from the nearest vertex that a node knows: in all about as far as a cell is wide.
_EDGES = 3
# Nodes of one grid: 0.1 GB. A person with arms held out has some 40,000 at 5 cm.
MOST_NODES = 2**24


@dataclass(frozen=True, kw_only=True)
class FrameGrid:
    """Nearest vertices of one posed mesh at nodes ``origin + cell (i, j, k)``, i before j before k.

    origin: (3) metres, world. counts: (3) int64, nodes along each axis. distance: (N) metres, signed, below 0 inside; vertex:
    (N) int32; where nothing is within reach, that reach and -1.
    """

    origin: Tensor
    counts: Tensor
    distance: Tensor
    vertex: Tensor


def frame_grid(vertices: Tensor, faces: Tensor, shell: float, cell: float) -> FrameGrid:
    """The grid of a mesh, vertices (P, 3), for points within ``shell`` metres of it. Raises: DataError for a huge mesh."""
    # Warp takes a while to import, and settings are judged without it.
    from .nearest_surface import nearest_on_mesh

    low, high = vertices.amin(dim=0) - shell, vertices.amax(dim=0) + shell
    counts: Sequence[int] = (((high - low) / cell).ceil().long() + 1).tolist()
    if prod(counts) > MOST_NODES:
        metres = " x ".join(f"{float(x):.3g}" for x in high - low)
        raise DataError(
            f"a body's mesh with {shell:g} m around it spans {metres} metres, {prod(counts):.2g} nodes at {cell:g} m; at most "
            f"{MOST_NODES:.2g} are looked through. Is the body in metres?"
        )
    axes = (torch.arange(n, device=vertices.device, dtype=vertices.dtype) * cell for n in counts)
    nodes = torch.cartesian_prod(*axes) + low
    vertex, distance = nearest_on_mesh(vertices, faces, nodes, shell + sqrt(3) * cell)
    return FrameGrid(
        origin=low, counts=torch.tensor(counts, device=low.device), distance=distance.to(vertices), vertex=vertex
    )


@dataclass(frozen=True, kw_only=True)
class SurfaceGrid:
    """The grids of F frames side by side, and their meshes.

    origin: (F, 3). counts: (F, 3). start: (F), the first node of every frame. distance, vertex: (N), of all. vertices: (F, P, 3)
    world, metres. ring: (P, K) int32, a vertex' neighbours, itself where it has fewer. cell: metres.
    """

    origin: Tensor
    counts: Tensor
    start: Tensor
    distance: Tensor
    vertex: Tensor
    vertices: Tensor
    ring: Tensor
    cell: float

    @classmethod
    def of(cls, frames: Sequence[FrameGrid], vertices: Tensor, ring: Tensor, cell: float) -> "SurfaceGrid":
        """Of one grid for each frame of vertices (F, P, 3). ring: as of ``vertex_rings``."""
        counts = torch.stack([grid.counts for grid in frames])
        sizes = counts.prod(dim=1)
        return cls(
            origin=torch.stack([grid.origin for grid in frames]),
            counts=counts,
            start=sizes.cumsum(dim=0) - sizes,
            distance=torch.cat([grid.distance for grid in frames]),
            vertex=torch.cat([grid.vertex for grid in frames]),
            vertices=vertices,
            ring=ring,
            cell=cell,
        )

    def crossed(self, origins: Tensor, directions: Tensor, frames: Tensor) -> tuple[Tensor, Tensor]:
        """Where rays (Q), origin + t direction, enter and leave the box of their frames' grids, (Q) each; far <= near: never."""
        low = self.origin[frames]
        high = low + self.cell * (self.counts[frames] - 1)
        # A ray along a side of the box never crosses its other sides.
        inverse = 1 / torch.where(directions.abs() < 1e-9, 1e-9, directions)
        first, second = (low - origins) * inverse, (high - origins) * inverse
        return torch.minimum(first, second).amax(dim=-1).clamp_min(0), torch.maximum(first, second).amin(dim=-1)

    def near_pieces(
        self,
        rays: tuple[Tensor, Tensor, Tensor],
        near: Tensor,
        step: Tensor,
        count: int,
        limits: tuple[float, float],
    ) -> tuple[Tensor, Tensor]:
        """Which of ``count`` pieces of Q rays lie near the skin, (Q, count) bool, and which rays end in the body, (Q) bool.

        rays: origins and directions (Q, 3), and frames (Q). near, step: (Q), where the first piece begins and how long each is.
        limits: metres, how far from the skin is near, and how deep below it a ray ends. Pieces count up to the first that is
        deeper, with that one; each is as far from the skin as the node nearest to its middle.
        """
        from .point_search import near_pieces

        return near_pieces(self, rays, near, step, count, limits)

    def nearest(self, points: Tensor, frames: Tensor) -> tuple[Tensor, Tensor]:
        """The nearest vertex (M) int64 of points (M, 3) of frames (M), and whether the nodes around know any, (M) bool.

        Of those that the eight nodes around a point know the nearest; from there, within a cell of the point, along at most
        ``_EDGES`` edges for as long as a neighbour is nearer.
        """
        from .point_search import nearest_vertices

        return nearest_vertices(self, points, frames, _EDGES)


def vertex_rings(faces: Tensor, vertices: int) -> Tensor:
    """(P, 1 + K) int32: a vertex, then its neighbours on the mesh, and itself again where it has fewer than K."""
    around, counts = neighbours(faces, vertices)
    own = torch.arange(vertices, device=faces.device)
    ring = own[:, None].repeat(1, 1 + int(counts.max()))
    row = own.repeat_interleave(counts)
    place = torch.arange(len(around), device=faces.device) - (counts.cumsum(dim=0) - counts)[row]
    ring[row, 1 + place] = around
    return ring.int()


def signed_distance(away: Tensor, normals: Tensor, spacing: Tensor) -> Tensor:
    """Distance (M) to a surface, below 0 inside, of points that lie ``away`` (M, 3) from their nearest vertex.

    normals: (M, 3) unit, outward, at the vertex. spacing: (M) metres, half of how far vertices lie apart: so far along the
    surface it is taken to be flat, so that vertices leave no dents.
    """
    height = (away * normals).sum(dim=-1)
    aside = (away.square().sum(dim=-1) - height.square() - spacing.square()).clamp_min(0)
    return torch.where(height < 0, -1.0, 1.0) * (height.square() + aside).sqrt()
