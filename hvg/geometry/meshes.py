"""Triangle meshes."""

import torch
from torch import Tensor
from torch.nn.functional import normalize


def vertex_normals(vertices: Tensor, faces: Tensor) -> Tensor:
    """Unit area-weighted vertex normals (M, P, 3) of M poses of one mesh, in the axes of ``vertices`` (M, P, 3).

    faces: (F, 3) int64, counter-clockwise seen from outside.
    """
    # All poses of a vertex side by side, so that each of the P rows is gathered and added in one piece.
    rows = vertices.transpose(0, 1).contiguous()
    first, second, third = (rows.index_select(0, corner) for corner in faces.T.contiguous())
    area_normal = torch.linalg.cross(second - first, third - first)
    total = torch.zeros_like(rows)
    for corner in faces.T:
        total.index_add_(0, corner, area_normal)
    return normalize(total, dim=-1).transpose(0, 1)


def neighbours(faces: Tensor, vertices: int) -> tuple[Tensor, Tensor]:
    """The vertices at the other ends of every vertex' edges, one vertex after the other, and how many those of each are (P).

    faces: (F, 3) int64 of a mesh with so many ``vertices``.
    """
    edges = torch.cat([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    edges = torch.cat([edges, edges.flip(1)])
    number = torch.unique(edges[:, 0] * vertices + edges[:, 1])
    return number % vertices, torch.bincount(number // vertices, minlength=vertices)
