"""Where the nearest point of a moving person's skin is, looked up in a grid for each frame.

An exact search costs more than what a small network makes of the point. It is done once, at the nodes of a grid around the
body; a point then asks the eight nodes around it, and takes the nearest of their vertices.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod, sqrt

import torch
from torch import Tensor

from hvg.core.errors import DataError

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
    world, metres. cell: metres.
    """

    origin: Tensor
    counts: Tensor
    start: Tensor
    distance: Tensor
    vertex: Tensor
    vertices: Tensor
    cell: float

    @classmethod
    def of(cls, frames: Sequence[FrameGrid], vertices: Tensor, cell: float) -> "SurfaceGrid":
        """Of one grid for each frame of vertices (F, P, 3)."""
        counts = torch.stack([grid.counts for grid in frames])
        sizes = counts.prod(dim=1)
        return cls(
            origin=torch.stack([grid.origin for grid in frames]),
            counts=counts,
            start=sizes.cumsum(dim=0) - sizes,
            distance=torch.cat([grid.distance for grid in frames]),
            vertex=torch.cat([grid.vertex for grid in frames]),
            vertices=vertices,
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
        return self.distance[self._node(place, self.counts[frames], self.start[frames])]

    def nearest(self, points: Tensor, frames: Tensor) -> tuple[Tensor, Tensor]:
        """The nearest vertex (M) int64 of points (M, 3), of those that the eight nodes around know; whether any of them does."""
        place = ((points - self.origin[frames]) / self.cell).floor().long()
        counts, start = self.counts[frames], self.start[frames]
        corners = torch.cartesian_prod(*[torch.arange(2, device=points.device)] * 3)
        nodes = torch.stack([self._node(place + corner, counts, start) for corner in corners], dim=1)
        candidates = self.vertex[nodes].long()
        known = candidates >= 0
        flat = self.vertices.flatten(0, 1)
        there = flat[candidates.clamp_min(0) + self.vertices.shape[1] * frames[:, None]]
        apart = (there - points[:, None]).square().sum(dim=-1).where(known, torch.inf)
        best = apart.argmin(dim=1, keepdim=True)
        return candidates.clamp_min(0).gather(1, best)[:, 0], known.any(dim=1)

    def _node(self, place: Tensor, counts: Tensor, start: Tensor) -> Tensor:
        """Number (M) of the node at places (M, 3) along the axes; outside, of the nearest one at the border."""
        i, j, k = torch.minimum(place.clamp_min(0), counts - 1).unbind(dim=1)
        return start + (i * counts[:, 1] + j) * counts[:, 2] + k


def signed_distance(away: Tensor, normals: Tensor, spacing: Tensor) -> Tensor:
    """Distance (M) to a surface, below 0 inside, of points that lie ``away`` (M, 3) from their nearest vertex.

    normals: (M, 3) unit, outward, at the vertex. spacing: (M) metres, half of how far vertices lie apart: so far along the
    surface it is taken to be flat, so that vertices leave no dents.
    """
    height = (away * normals).sum(dim=-1)
    aside = (away.square().sum(dim=-1) - height.square() - spacing.square()).clamp_min(0)
    return torch.where(height < 0, -1.0, 1.0) * (height.square() + aside).sqrt()
