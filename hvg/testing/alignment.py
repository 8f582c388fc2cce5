"""Checks of what every alignment promises."""

from functools import partial
from typing import Any

import torch
from torch import Tensor

from hvg.parts.scene import Alignment
from hvg.testing.building import make, require
from hvg.testing.outputs import check_batch_independence, check_device
from hvg.testing.scene import tiny_batch
from hvg.values.clip import ClipBatch


def check_alignment(cls: type[Alignment], config: Any) -> None:
    """Runs every check below. Raises: AssertionError that says which promise is broken."""
    part = make(cls, config)
    for views, frames in ((1, 1), (3, 1), (1, 3), (3, 3)):
        check_offsets(part, tiny_batch(2, views, frames))
    batch = tiny_batch(2, 3, 3)
    check_batch_independence(partial(_both, part), (batch,))
    check_selection(part, config, batch)
    check_device(partial(_both, part), (batch,))


def check_offsets(part: Alignment, batch: ClipBatch) -> None:
    """Whole pixels (B, V, T, 2) for the frames and (B, R, 2) for the photos, or None where nothing moves."""
    missing = part.requires - batch.present()
    require(not missing, f"{type(part).__name__}.requires names unknown ClipBatch fields: {sorted(missing)}")
    shapes = {"offsets": (*batch.grid, 2), "reference_offsets": (batch.grid[0], 1, 2)}
    for name, found in _both(part, batch).items():
        require(found.dtype == torch.int64, f"{name} are {found.dtype}, not int64")
        require(tuple(found.shape) == shapes[name], f"{name} are {tuple(found.shape)}, not {shapes[name]}")


def check_selection(part: Alignment, config: Any, batch: ClipBatch) -> None:
    """With ``per_picture``, a picture moves in the same way whichever views and frames it comes with, and so does the photo."""
    if not part.per_picture(config):
        return
    views, frames = [2, 0], [1, 2]
    some = _both(part, batch.select(views, frames))
    for name, found in _both(part, batch).items():
        expected = found[:, views][:, :, frames] if name == "offsets" else found
        require(
            torch.equal(some[name], expected), f"{name} depend on the other views and frames, but per_picture is true"
        )


def _both(part: Alignment, batch: ClipBatch) -> dict[str, Tensor]:
    found = {"offsets": part.offsets(batch), "reference_offsets": part.reference_offsets(batch)}
    return {name: x for name, x in found.items() if x is not None}
