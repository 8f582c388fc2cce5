"""What conditioners, losses and view attention see of a clip whose codec joins frames in time (``hvg.values.latent_time``)."""

from dataclasses import replace

import torch
from torch import Tensor

from hvg.core.on_device import upload
from hvg.values.clip import ClipBatch
from hvg.values.grid import ViewGrid
from hvg.values.latent_time import grouped_frames, latent_frames, padded_frames
from hvg.values.tensors import map_tensors


def grouped(batch: ClipBatch, stride: int) -> ClipBatch:
    """The batch as conditioners see it: with the ``grouped_frames`` of all latent frames, (B, V, s t), and without latents."""
    if stride == 1:
        return batch
    frames = batch.grid[2]
    chosen = torch.tensor(grouped_frames(range(latent_frames(frames, stride)), frames, stride))
    # On its device, so that nothing waits for it there.
    chosen = upload(chosen, batch.cameras.intrinsics.device)
    return replace(batch, latents=None, coverage=None).select(frames=chosen)


def joined(x: Tensor, stride: int) -> Tensor:
    """What frames (B, V, T, ...) have, as the frames of each latent frame have it, (B, V, t, s, ...)."""
    behind = padded_frames(x.shape[2], stride) - x.shape[2]
    whole = torch.cat([*[x[:, :, :1]] * (stride - 1), x, *[x[:, :, -1:]] * behind], dim=2)
    return whole.unflatten(2, (-1, stride))


def of_last_frames(x: Tensor, stride: int) -> Tensor:
    """What frames (B, V, T, ...) have, of the last frame of each latent frame, (B, V, t, ...)."""
    return x if stride == 1 else torch.cat([x[:, :, :-1:stride], x[:, :, -1:]], dim=2)


def latent_grid(grid: ViewGrid, stride: int) -> ViewGrid:
    """The grid with a camera for every latent frame, (B, V, t), of one with a camera for every frame."""
    if stride == 1:
        return grid
    return replace(grid, cameras=map_tensors(grid.cameras, lambda x: of_last_frames(x, stride)))


def latent_index(frame_index: Tensor | None, stride: int) -> Tensor | None:
    """Places (B, t) of latent frames in their whole video, for those (B, T) of frames: that of the last frame, what is padded
    counted, divided by the stride.
    """
    if frame_index is None or stride == 1:
        return frame_index
    behind = padded_frames(frame_index.shape[1], stride) - frame_index.shape[1]
    places = torch.cat([frame_index[:, None, :-1], frame_index[:, None, -1:] + behind], dim=2)
    return of_last_frames(places, stride)[:, 0] // stride
