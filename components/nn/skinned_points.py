"""Points under affine motions, one for each point."""

import torch
from torch import Tensor
from torch.nn.functional import normalize


def moved_by(motions: Tensor, points: Tensor) -> Tensor:
    """Points (M, 3) after motions (M, 3, 4)."""
    return turned_by(motions, points) + motions[..., 3]


def turned_by(motions: Tensor, vectors: Tensor) -> Tensor:
    """Vectors (M, 3) after the linear part of motions (M, 3, 4) or (M, 3, 3)."""
    # Column by column: a sum over an axis of three is four times slower.
    x, y, z = vectors.split(1, dim=-1)
    return motions[..., 0] * x + motions[..., 1] * y + motions[..., 2] * z


def inverse(motions: Tensor) -> Tensor:
    """Motions (M, 3, 4) that undo these. A blend of bones that undo each other has no inverse; what is given is finite."""
    first, second, third = motions[..., :3].unbind(dim=-1)
    cross = torch.linalg.cross
    rows = torch.stack([cross(second, third), cross(third, first), cross(first, second)], dim=-2)
    volume = (first * rows[..., 0, :]).sum(dim=-1)[..., None, None]
    least = 1e-6 * motions[..., :3].square().sum(dim=(-2, -1))[..., None, None].sqrt() ** 3
    turn = rows / torch.where(volume.abs() < least, least, volume)
    return torch.cat([turn, -turned_by(turn, motions[..., 3])[..., None]], dim=-1)


def one_after_another(first: Tensor, second: Tensor) -> Tensor:
    """Motions (M, 3, 4) that move by ``first`` and then by ``second``."""
    *turns, shift = first.unbind(dim=-1)
    return torch.stack([*(turned_by(second, turn) for turn in turns), moved_by(second, shift)], dim=-1)


def turned_normals(motions: Tensor, normals: Tensor) -> Tensor:
    """Unit normals (M, 3) after motions whose linear part is a rotation, near enough, and a scale."""
    return normalize(turned_by(motions, normals), dim=-1)
