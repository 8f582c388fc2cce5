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
    world, metres. ring: (P, K) int64, a vertex' neighbours, itself where it has fewer. cell: metres.
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

    def coarse_distance(self, points: Tensor, frames: Tensor) -> Tensor:
        """Signed distance (M) at the node nearest to points (M, 3) of frames (M)."""
        place = ((points - self.origin[frames]) / self.cell).round().long()
        return self.distance.index_select(0, self._node(place, self.counts[frames], self.start[frames]))

    def nearest(self, points: Tensor, frames: Tensor) -> tuple[Tensor, Tensor]:
        """The nearest vertex (M) int64 of points (M, 3), and whether the nodes around know any (M)."""
        place = ((points - self.origin[frames]) / self.cell).floor().long()
        counts, start = self.counts[frames], self.start[frames]
        corners = torch.cartesian_prod(*[torch.arange(2, device=points.device)] * 3)
        nodes = torch.stack([self._node(place + corner, counts, start) for corner in corners], dim=1)
        candidates = self.vertex.index_select(0, nodes.flatten()).view(nodes.shape).long()
        known = candidates >= 0
        vertex, apart = self._nearest_of(candidates.clamp_min(0), points, frames, known)
        # From further away, a vertex beside the nearest one is as good.
        close = (apart < self.cell**2).nonzero()[:, 0]
        points, frames, better = points[close], frames[close], vertex[close]
        for _ in range(_EDGES):
            better, _ = self._nearest_of(self.ring.index_select(0, better), points, frames)
        return vertex.index_copy(0, close, better), known.any(dim=1)

    def _nearest_of(
        self, candidates: Tensor, points: Tensor, frames: Tensor, known: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """The vertex (M) of candidates (M, K) that is nearest to points (M, 3), and its squared distance (M).

        known: (M, K), the candidates that count, where any do.
        """
        place = candidates + self.vertices.shape[1] * frames[:, None]
        there = self.vertices.flatten(0, 1).index_select(0, place.flatten()).view(*place.shape, 3)
        x, y, z = (there - points[:, None]).unbind(dim=-1)
        apart = x * x + y * y + z * z
        nearest = (apart if known is None else apart.where(known, torch.inf)).min(dim=1)
        return candidates.gather(1, nearest.indices[:, None])[:, 0], nearest.values

    def _node(self, place: Tensor, counts: Tensor, start: Tensor) -> Tensor:
        """Number (M) of the node at places (M, 3) along the axes; outside, of the nearest one at the border."""
        i, j, k = torch.minimum(place.clamp_min(0), counts - 1).unbind(dim=1)
        return start + (i * counts[:, 1] + j) * counts[:, 2] + k


def vertex_rings(faces: Tensor, vertices: int) -> Tensor:
    """(P, 1 + K) int64: a vertex, then its neighbours on the mesh, and itself again where it has fewer than K."""
    around, counts = neighbours(faces, vertices)
    own = torch.arange(vertices, device=faces.device)
    ring = own[:, None].repeat(1, 1 + int(counts.max()))
    row = own.repeat_interleave(counts)
    place = torch.arange(len(around), device=faces.device) - (counts.cumsum(dim=0) - counts)[row]
    ring[row, 1 + place] = around
    return ring


def signed_distance(away: Tensor, normals: Tensor, spacing: Tensor) -> Tensor:
    """Distance (M) to a surface, below 0 inside, of points that lie ``away`` (M, 3) from their nearest vertex.

    normals: (M, 3) unit, outward, at the vertex. spacing: (M) metres, half of how far vertices lie apart: so far along the
    surface it is taken to be flat, so that vertices leave no dents.
    """
    height = (away * normals).sum(dim=-1)
    aside = (away.square().sum(dim=-1) - height.square() - spacing.square()).clamp_min(0)
    return torch.where(height < 0, -1.0, 1.0) * (height.square() + aside).sqrt()
