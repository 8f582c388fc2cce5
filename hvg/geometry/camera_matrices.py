"""Matrices in files of cameras, ours and others'."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hvg.core.errors import DataError

# Largest entry of R R^T - 1.
ROTATION_TOLERANCE = 1e-3


def read_matrices(path: Path, place: str, value: Any, side: int) -> Tensor:
    """(T, side, side) float64, T = 1 for a single matrix; finite in single precision. Raises: DataError that names the place."""
    expected = f"expected a {side}x{side} matrix of numbers, or a list of them, one a frame"
    if value is None:
        raise DataError(f"{path}: {place} is missing; {expected}")
    try:
        matrices = torch.tensor(value, dtype=torch.float64)
    except OverflowError:
        raise DataError(f"{path}: {place} holds a number that is too large; {expected}") from None
    except (TypeError, ValueError, RuntimeError):
        raise DataError(f"{path}: {place} is no matrix, or its rows differ in length; {expected}") from None
    if matrices.shape[-2:] != (side, side) or matrices.ndim not in (2, 3) or not matrices.numel():
        raise DataError(f"{path}: {place} has shape {tuple(matrices.shape)}; {expected}")
    # As they are used: what is finite here may not be in single precision.
    if not bool(matrices.float().isfinite().all()):
        raise DataError(f"{path}: {place} holds NaN, infinity or a number beyond 3e38; {expected}")
    return matrices.reshape(-1, side, side)


def read_rigid(path: Path, place: str, value: Any) -> Tensor:
    """Rigid motions (T, 4, 4) float64, T = 1 for a single one. Raises: DataError that names the place and what is wrong."""
    matrices = read_matrices(path, place, value, 4)
    rotation, identity = matrices[:, :3, :3], torch.eye(3, dtype=matrices.dtype)
    error = (rotation @ rotation.mT - identity).abs().amax(dim=(1, 2))
    if bool((matrices[:, 3] != torch.tensor([0.0, 0.0, 0.0, 1.0])).any()):
        raise DataError(f"{path}: {place} has another last row than 0 0 0 1; rows are to be written first, not columns")
    for frame in range(len(matrices)):
        at = f"{place}[{frame}]" if len(matrices) > 1 else place
        if error[frame] > ROTATION_TOLERANCE:
            raise DataError(
                f"{path}: {at} is no rigid motion: its rotation R is off by {error[frame]:.2g} in R R^T = 1; expected "
                f"at most {ROTATION_TOLERANCE} (no scale, no shear)"
            )
        if torch.linalg.det(rotation[frame]) < 0:
            raise DataError(f"{path}: {at} mirrors the world (det R = -1); expected right-handed axes")
    return matrices
