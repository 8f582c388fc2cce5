"""Predictors that learn nothing about pose: what every arm has to beat before its number means something."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from hvg.core.errors import DataError
from hvg.parts.as_seen import as_seen
from hvg.parts.scene import Alignment
from hvg.values.clip import ClipBatch, Reference
from hvg.values.moved import move


def in_place(
    predict: Callable[[ClipBatch], Tensor], alignment: Alignment, background: Sequence[float]
) -> Callable[[ClipBatch], Tensor]:
    """The predictor with people where a model of this alignment sees them; its frames are moved back.

    A mean over pictures in which people stand anywhere would be weaker than what a model is told. background: sRGB in [0, 1].
    """

    def moved(batch: ClipBatch) -> Tensor:
        frames, offsets = predict(as_seen(batch, alignment, background)), alignment.offsets(batch)
        return move(frames, None if offsets is None else -offsets, frames.new_tensor(background) * 2 - 1)

    return moved


def copy_reference(batch: ClipBatch) -> Tensor:
    """The first reference photo in every view and frame, (B, V, T, 3, H, W) in [-1, 1], at the cameras' image size.

    Raises: DataError when the batch has no reference.
    """
    if batch.reference is None:
        raise DataError(f"clip '{batch.clip_id[0]}' has no reference image to copy")
    _, views, frames = batch.grid
    return photo_of(batch.reference, batch.cameras.image_size)[:, None, None].expand(-1, views, frames, -1, -1, -1)


def photo_of(reference: Reference, size: tuple[int, int]) -> Tensor:
    """The first photo, (B, 3, H, W) in [-1, 1], at a size (height, width)."""
    photo = reference.frames[:, 0]
    if photo.shape[-2:] == size:
        return photo
    return torch.nn.functional.interpolate(photo, size=size, mode="bilinear", antialias=True).clamp(-1, 1)


class MeanImage:
    """The mean of the training images, over all views or for every view index; one running sum per view.

    The second is worth its name where view i is about the same camera in every clip, as on the synthetic orbit.
    """

    def __init__(self) -> None:
        self._sums: Tensor | None = None
        self._counts = torch.zeros(1, dtype=torch.float64)

    def add(self, batch: ClipBatch) -> None:
        """Adds training clips, all with the same number of views; padded frames are left out.

        Raises: DataError when the batch has no frames; ValueError when the number of views or the image size changed.
        """
        if batch.frames is None:
            raise DataError(f"clip '{batch.clip_id[0]}' has no frames to average")
        valid = torch.ones(batch.grid, dtype=torch.bool) if batch.valid is None else batch.valid
        weight = valid.to(batch.frames.device, torch.float64)
        sums = torch.einsum("bvtchw,bvt->vchw", batch.frames.double(), weight).cpu()
        counts = weight.sum(dim=(0, 2)).cpu()
        if self._sums is not None and self._sums.shape != sums.shape:
            raise ValueError(f"views and image size changed from {tuple(self._sums.shape)} to {tuple(sums.shape)}")
        self._sums = sums if self._sums is None else self._sums + sums
        self._counts = self._counts + counts

    def mean(self, *, per_view: bool) -> Tensor:
        """The mean image, (1, 3, H, W) in [-1, 1]; or that of every view index, (V, 3, H, W).

        Raises: ValueError when nothing was added, or no frame of a view.
        """
        counts = self._counts if per_view else self._counts.sum(dim=0, keepdim=True)
        if self._sums is None or not counts.all():
            raise ValueError("the mean image has seen no training frame, or none of one of the views")
        sums = self._sums if per_view else self._sums.sum(dim=0, keepdim=True)
        return (sums / counts[:, None, None, None]).float()

    def predict(self, batch: ClipBatch, *, per_view: bool) -> Tensor:
        """The mean image, or each view's own, in every frame: (B, V, T, 3, H, W) in [-1, 1].

        Raises: as of ``mean``; ValueError when, per view, the number of views differs from training.
        """
        clips, views, frames = batch.grid
        image = self.mean(per_view=per_view)
        if per_view and len(image) != views:
            raise ValueError(f"the mean was taken over {len(image)} views, the clip has {views}")
        image = image[:, None].to(batch.cameras.world_to_camera.device)
        return image.expand(clips, views, frames, *image.shape[-3:])
