"""The hands and faces of filmed people, cut out of their pictures."""

from collections.abc import Iterable, Sequence
from itertools import repeat

import torch
from torch import Tensor

from hvg.data.recordings import Track
from hvg.geometry.close_ups import close_up_squares
from hvg.media.crops import Crop, Picture, as_mask, cut, read_pictures
from hvg.values.body import BodyMotion
from hvg.values.cameras import Cameras


def close_up_crops(body: BodyMotion, cameras: Cameras, close_up: str) -> list[list[Crop]]:
    """For each frame the squares of what a close-up shows of a body (B = 1) that cameras (T) see."""
    middles, sides = (x.tolist() for x in close_up_squares(body, cameras, close_up))
    return [
        [_square(x, y, side, cameras.image_size) for (x, y), side in zip(*shown, strict=True)]
        for shown in zip(middles, sides, strict=True)
    ]


def _square(x: float, y: float, side: float, size: tuple[int, int]) -> Crop:
    """The square around a place of a picture of ``size``, pixels; one of a pixel at least."""
    length = max(1.0, side)
    return Crop(x - length / 2, y - length / 2, length, length, size)


def cut_close_ups(
    track: Track,
    frames: Sequence[int],
    crops: Sequence[Sequence[Crop]],
    size: int,
    background: Sequence[float] | None,
    masked: bool,
) -> Tensor:
    """What these crops show (1, T, N, 3, size, size) uint8 in frames of a camera, whose pictures are read once each.

    crops: of each frame. background: sRGB in [0, 1]; None: what was filmed. masked: whether the track's masks are used.
    """
    masks: Iterable[Picture | None] = repeat(None, len(frames))
    if track.masks is not None and masked:
        masks = (as_mask(mask, track.masks_in) for mask in read_pictures(track.masks, frames))
    seen = zip(read_pictures(track.frames, frames), masks, crops, strict=True)
    shown = [
        torch.cat([cut([picture], mask and [mask], crop, (size, size), background)[0] for crop in own])
        for picture, mask, own in seen
    ]
    return torch.stack(shown)[None]
