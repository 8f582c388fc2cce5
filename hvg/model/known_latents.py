"""Latents of the pictures of a clip that are given, and of none in their place."""

import torch
from torch import Tensor

from hvg.core.errors import HvgError
from hvg.core.required import required
from hvg.parts.model import Codec
from hvg.values.clip import ClipBatch
from hvg.values.known import Known
from hvg.values.latent_clip import joined
from hvg.values.moved import move

# The slot that is dropped, in training and by guidance, together with the pictures that it tells of.
KNOWN = "known"


def known_latents(batch: ClipBatch, offsets: Tensor | None, codec: Codec, background: Tensor) -> Known | None:
    """What is known of the clips, encoded where people were moved by ``offsets`` (B, V, T, 2); None where nothing is.

    background: sRGB in [-1, 1], (3,), of what moves into a picture. Raises: HvgError as of ``known_cells``.
    """
    cells = known_cells(batch, codec.temporal_stride)
    if cells is None:
        return None
    views = cells.any(dim=1).nonzero().flatten().tolist()
    frames = required(batch.frames, "ClipBatch.frames")[:, views]
    latents = codec.encode(move(frames, None if offsets is None else offsets[:, views], background))
    whole = latents.new_zeros(len(latents), len(cells), *latents.shape[2:])
    whole[:, views] = latents
    return Known(latents=whole, cells=cells)


def hide_known(x: Tensor, sigma: Tensor, kept: Tensor, blank: Tensor) -> Tensor:
    """x (B, V, t, C, h, w) with ``blank`` in place of what is known, level 0, of clips that do without.

    sigma: (B, V, t, 1, 1, 1). kept: (B) bool, clips that keep it. blank: as of ``blank_latents``.
    """
    return torch.where((sigma == 0) & ~kept.view(-1, 1, 1, 1, 1, 1), blank, x)


@torch.no_grad()
def blank_latents(x: Tensor, codec: Codec, background: Tensor) -> Tensor:
    """Latents (1, 1, 1, C, h, w) of a picture of the background, of the size of latents x. background: as of
    ``known_latents``.
    """
    height, width = (side * codec.stride for side in x.shape[-2:])
    return codec.encode(background.view(3, 1, 1).expand(1, 1, 1, 3, height, width)).to(x)


def known_cells(batch: ClipBatch, stride: int) -> Tensor | None:
    """Which latent cells (V, t), bool on the CPU, are known: those of which all frames are; None where none is.

    Raises: HvgError where clips of a batch differ in it.
    """
    if batch.known is None:
        return None
    cells = joined(batch.known.cpu(), stride).all(dim=3)
    if bool((cells != cells[:1]).any()):
        raise HvgError("clips that are sampled together have to be known in the same views and frames")
    return cells[0] if bool(cells.any()) else None
