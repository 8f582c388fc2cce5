"""Rotations as matrices, axis-angle vectors and quaternions.

Ours, held to ``roma`` by a test: importing that brings PyTorch's compiler with it, three seconds of whoever reads a motion.
"""

import torch
from torch import Tensor
from torch.nn.functional import normalize


def rotation_matrix(axis_angle: Tensor) -> Tensor:
    """Rotation matrices (..., 3, 3) of axis-angle vectors (..., 3) in radians. Source: Rodrigues' formula.

    Gradients are finite everywhere.
    """
    squared = axis_angle.square().sum(-1, keepdim=True)[..., None]
    tiny = squared < torch.finfo(axis_angle.dtype).eps
    # A square root has no gradient at 0: there the series take over, whose next terms are below what the type can hold.
    angle = torch.where(tiny, 1.0, squared).sqrt()
    sine = torch.where(tiny, 1 - squared / 6, angle.sin() / angle)
    # (1 - cos a) / a^2, without the difference, which cancels.
    versine = torch.where(tiny, 0.5 - squared / 24, 2 * (angle / 2).sin().square() / angle.square())
    x, y, z = axis_angle.unbind(-1)
    zero = torch.zeros_like(x)
    across = torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], dim=-1).unflatten(-1, (3, 3))
    eye = torch.eye(3, dtype=axis_angle.dtype, device=axis_angle.device)
    return eye + sine * across + versine * (across @ across)


def axis_angle(matrix: Tensor) -> Tensor:
    """Axis-angle vectors (..., 3), of at most pi radians, of rotation matrices (..., 3, 3)."""
    found = quaternion(matrix)
    real, imaginary = found[..., :1], found[..., 1:]
    squared = imaginary.square().sum(-1, keepdim=True)
    tiny = squared < torch.finfo(matrix.dtype).eps
    length = torch.where(tiny, 1.0, squared).sqrt()
    return torch.where(tiny, 2 / real.clamp_min(0.5), 2 * torch.atan2(length, real) / length) * imaginary


def quaternion(matrix: Tensor) -> Tensor:
    """Unit quaternions (w, x, y, z), (..., 4), w not below 0, of rotation matrices (..., 3, 3).

    Found from the largest of the four numbers, which is never small. Source: Shepperd, Journal of Guidance and Control 1978.
    """
    (a, b, c), (d, e, f), (g, h, i) = (row.unbind(-1) for row in matrix.unbind(-2))
    # Rows of 4 q q^T, by which the quaternion is times each of its numbers.
    products = [
        [1 + a + e + i, h - f, c - g, d - b],
        [h - f, 1 + a - e - i, d + b, c + g],
        [c - g, d + b, 1 - a + e - i, f + h],
        [d - b, c + g, f + h, 1 - a - e + i],
    ]
    rows = torch.stack([torch.stack(row, dim=-1) for row in products], dim=-2)
    largest = rows.diagonal(dim1=-2, dim2=-1).argmax(-1)
    row = rows.take_along_dim(largest[..., None, None], dim=-2)[..., 0, :]
    return normalize(torch.where(row[..., :1] < 0, -row, row), dim=-1)


def of_quaternion(quaternion: Tensor) -> Tensor:
    """Rotation matrices (..., 3, 3) of unit quaternions (w, x, y, z), (..., 4)."""
    w, x, y, z = quaternion.unbind(-1)
    elements = [
        *(1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)),
        *(2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)),
        *(2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)),
    ]
    return torch.stack(elements, dim=-1).unflatten(-1, (3, 3))
