"""Cells of the grid that are given, such as pictures of captured cameras: they stay clean while the others are made."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from hvg.core.errors import HvgError
from hvg.core.on_device import upload
from hvg.values.clip import ClipBatch
from hvg.values.latent_time import latent_of_frames


@dataclass(frozen=True, kw_only=True)
class Known:
    """latents: (B, V, t, C, h, w), clean; they count where ``cells`` says so. cells: (V, t) bool, on the CPU, of all clips."""

    latents: Tensor
    cells: Tensor

    def laid_over(self, x: Tensor) -> Tensor:
        """x (B, V, t, C, h, w) with what is known in its place."""
        return self.latents.to(x).where(self.cells.to(x.device)[..., None, None, None], x)


def with_known_views(batch: ClipBatch, views: Sequence[int]) -> ClipBatch:
    """The clips with these views, by their places, known; those count as no result (``valid``). No view: the clips as they are.

    Raises: HvgError for views that the clips do not have, or where none is left to be made.
    """
    if not views:
        return batch
    count = batch.grid[1]
    if max(views) >= count or len({*views}) == count:
        raise HvgError(
            f"evaluation.known_views={[*views]}: the clips have views 0 to {count - 1}, of which some have to be made"
        )
    known = torch.zeros(batch.grid, dtype=torch.bool)
    known[:, list(views)] = True
    known = upload(known, batch.cameras.intrinsics.device)
    return replace(batch, known=known, valid=~known if batch.valid is None else batch.valid & ~known)


def of_frames(cells: Tensor, frames: int, stride: int) -> Tensor:
    """What latent cells (B, V, t) have, for all frames (B, V, T) of each."""
    return cells[:, :, upload(torch.tensor(latent_of_frames(frames, stride)), cells.device)]
