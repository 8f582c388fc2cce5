"""Moving people to one place of the picture, and back: whole pixels, so that nothing is interpolated.

A move is a change of the camera's principal point, so what is drawn through the moved cameras (joints, control maps) lies
where the moved pixels are. Undoing it returns every pixel that was still inside the picture exactly.

Source: HVG (arXiv 2602.21188), section 3.2, Efficient View Attention Layer, and section 3.3, Temporal Alignment.
"""

from dataclasses import replace

import torch
from torch import Tensor

from hvg.values.cameras import Cameras
from hvg.values.clip import ClipBatch
from hvg.values.tensors import change


def move(images: Tensor, offsets: Tensor | None, fill: float | Tensor = 0.0) -> Tensor:
    """Images (*, C, H, W) moved by ``offsets`` (*, 2), pixels (x right, y down); what was not seen before is ``fill``.

    fill: one value, or one per channel, (C). A picture moved by its own size or more is all ``fill``.
    Raises: ValueError where there are not as many offsets as pictures.
    """
    if offsets is None:
        return images
    flat, shift = images.reshape(-1, *images.shape[-3:]), offsets.reshape(-1, 2)
    if len(flat) != len(shift):
        raise ValueError(f"{len(flat)} pictures cannot be moved by {len(shift)} offsets")
    # Looked up, not cut and pasted: to slice by an offset, the host would have to wait for it.
    columns, column_seen = _origin(flat.shape[-1], shift[:, 0])
    rows, row_seen = _origin(flat.shape[-2], shift[:, 1])
    number = torch.arange(len(flat), device=flat.device)[:, None, None]
    moved = flat.movedim(1, -1)[number, rows[:, :, None], columns[:, None, :]].movedim(-1, 1)
    seen = row_seen[:, None, :, None] & column_seen[:, None, None, :]
    blank = fill.to(flat).view(-1, 1, 1) if isinstance(fill, Tensor) else flat.new_full((), fill)
    return torch.where(seen, moved, blank).contiguous().view_as(images)


def _origin(size: int, shift: Tensor) -> tuple[Tensor, Tensor]:
    """Along an axis that is moved by ``shift`` (N): where each of its places (N, size) comes from, and whether that is inside."""
    place = torch.arange(size, device=shift.device) - shift[:, None]
    return place.clamp(0, size - 1), (place >= 0) & (place < size)


def move_cameras(cameras: Cameras, offsets: Tensor | None) -> Cameras:
    """Cameras (*) whose pictures are moved by ``offsets`` (*, 2)."""
    if offsets is None:
        return cameras
    shift = torch.zeros_like(cameras.intrinsics)
    shift[..., :2, 2] = offsets.to(shift)
    return replace(cameras, intrinsics=cameras.intrinsics + shift)


def align(
    batch: ClipBatch, offsets: Tensor | None, reference_offsets: Tensor | None, background: Tensor | float
) -> ClipBatch:
    """The batch with every picture moved: frames, alpha, maps and cameras by ``offsets`` (B, V, T, 2), the reference by
    ``reference_offsets`` (B, R, 2).

    background: value of frames where nothing was seen, in [-1, 1], one or three; alpha and maps are 0 there. The driving
    video stays: it has a camera of its own.
    """
    reference = batch.reference
    if reference is not None and reference_offsets is not None:
        reference = replace(
            change(reference, ("alpha",), lambda x: move(x, reference_offsets)),
            frames=move(reference.frames, reference_offsets, background),
            cameras=reference.cameras and move_cameras(reference.cameras, reference_offsets),
        )
    if offsets is None:
        return replace(batch, reference=reference)
    moved = change(batch, ("alpha", "signals"), lambda x: move(x, offsets))
    moved = change(moved, ("frames",), lambda x: move(x, offsets, background))
    return replace(moved, cameras=move_cameras(batch.cameras, offsets), reference=reference)
