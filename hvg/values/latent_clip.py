"""What conditioners, losses and view attention see of a clip whose codec joins frames in time (``hvg.values.latent_time``)."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from hvg.core.on_device import upload
from hvg.values.clip import ClipBatch
from hvg.values.grid import ViewGrid
from hvg.values.latent_time import grouped_frames, last_frames, latent_frames, padded_frames


def grouped(batch: ClipBatch, stride: int) -> ClipBatch:
    """The batch as conditioners see it: with the ``grouped_frames`` of all latent frames, (B, V, s t), and without latents."""
    if stride == 1:
        return batch
    chosen = _index(grouped_frames(_latents(batch.grid[2], stride), batch.grid[2], stride), batch.cameras.intrinsics)
    return replace(batch, latents=None, coverage=None).select(frames=chosen)


def joined(x: Tensor, stride: int) -> Tensor:
    """What frames (B, V, T, ...) have, as the frames of each latent frame have it, (B, V, t, s, ...)."""
    chosen = _index(grouped_frames(_latents(x.shape[2], stride), x.shape[2], stride), x)
    return x[:, :, chosen].unflatten(2, (-1, stride))


def of_last_frames(x: Tensor, stride: int) -> Tensor:
    """What frames (B, V, T, ...) have, of the last frame of each latent frame, (B, V, t, ...)."""
    return x if stride == 1 else x[:, :, _last(x.shape[2], stride, x)]


def latent_grid(grid: ViewGrid, stride: int) -> ViewGrid:
    """The grid with a camera for every latent frame, (B, V, t), of one with a camera for every frame."""
    if stride == 1:
        return grid
    return grid.select(slice(None), _last(grid.cameras.shape[2], stride, grid.cameras.intrinsics))


def latent_index(frame_index: Tensor | None, stride: int) -> Tensor | None:
    """Places (B, t) of latent frames in their whole video, for those (B, T) of frames: that of the last frame, what is padded
    counted, divided by the stride.
    """
    if frame_index is None or stride == 1:
        return frame_index
    frames = frame_index.shape[1]
    behind = padded_frames(frames, stride) - frames
    places = frame_index[:, _last(frames, stride, frame_index)]
    return torch.cat([places[:, :-1], places[:, -1:] + behind], dim=1) // stride


def _latents(frames: int, stride: int) -> range:
    return range(latent_frames(frames, stride))


def _last(frames: int, stride: int, like: Tensor) -> Tensor:
    return _index(last_frames(_latents(frames, stride), frames, stride), like)


def _index(places: Sequence[int], like: Tensor) -> Tensor:
    """Places as an index, on the device of what is indexed."""
    return upload(torch.tensor(places), like.device)
