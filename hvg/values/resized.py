"""Clips whose pictures have another size: the largest middle part of the wanted aspect, made smaller; never stretched.

Cameras go with their pictures, so what is drawn through them lies where it lay. The part is cut at whole pixels, the same one
for every frame: a video does not begin to move.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from hvg.values.buckets import Picture, centre_crop
from hvg.values.cameras import Cameras
from hvg.values.clip import ClipBatch, Reference
from hvg.values.packed import unpacked
from hvg.values.tensors import change


def resize_clip(clip: ClipBatch, size: Picture, codes: Mapping[str, Sequence[int]] | None = None) -> ClipBatch:
    """The clip (B = 1) with frames, alpha, maps, photo and driving video of ``size``; itself where all have that already.

    codes: key of a control map -> channels of which no mean is a value, as of a body part: a pixel has what lies at its centre.
    Pixels are averaged over the area that a new one covers (bilinear, antialiased), so 8 bits do not hold them. Encoded
    pictures (latents) cannot follow. Raises: ValueError for a clip that carries some.
    """
    pictures = (clip.driving, clip.reference and clip.reference.frames)
    if clip.cameras.image_size == size and all(x is None or x.shape[-2:] == size for x in pictures):
        return clip
    clip = unpacked(clip)
    photo = clip.reference and _resize_photo(clip.reference, size)
    driving = None if clip.driving is None else resized(clip.driving, size)
    clip = replace(clip, reference=photo, driving=driving)
    if clip.cameras.image_size == size:
        return clip
    if clip.latents is not None or clip.features:
        raise ValueError("pictures that are encoded already cannot be resized")
    signals, clip = clip.signals, change(clip, ("frames", "alpha", "signals"), lambda x: resized(x, size))
    clip = replace(clip, signals=with_codes(signals, clip.signals, codes or {}))
    origin = clip.origin and _resize_cameras(clip.origin, size)
    return replace(clip, cameras=_resize_cameras(clip.cameras, size), origin=origin)


def with_codes(
    signals: Mapping[str, Tensor], smaller: Mapping[str, Tensor], codes: Mapping[str, Sequence[int]]
) -> dict[str, Tensor]:
    """The smaller maps with the channels ``codes`` from the maps that they were made of. codes: as of ``resize_clip``."""
    made = dict(smaller)
    for key in made.keys() & codes.keys():
        channels = [*codes[key]]
        made[key] = made[key].clone()
        made[key][..., channels, :, :] = _at_centres(signals[key][..., channels, :, :], made[key].shape[-2:])
    return made


def _at_centres(pictures: Tensor, size: Sequence[int]) -> Tensor:
    """Pictures (*, C, H, W) at ``size``: of the part that ``resize_clip`` shows, the values at the centres of the new pixels."""
    height, width = size
    top, left, inner = centre_crop((pictures.shape[-2], pictures.shape[-1]), (height, width))
    rows, columns = (
        ((torch.arange(new) + 0.5) * old / new).long() + first
        for new, old, first in zip((height, width), inner, (top, left), strict=True)
    )
    return pictures[..., rows, :][..., columns]


def _resize_photo(photo: Reference, size: Picture) -> Reference:
    cameras = photo.cameras and _resize_cameras(photo.cameras, size)
    return replace(change(photo, ("frames", "alpha"), lambda x: resized(x, size)), cameras=cameras)


def _resize_cameras(cameras: Cameras, size: Picture) -> Cameras:
    top, left, inner = centre_crop(cameras.image_size, size)
    return cameras if cameras.image_size == size else cameras.cropped(top, left, inner).resized(size)


def resized(pictures: Tensor, size: Picture) -> Tensor:
    """Pictures (*, C, H, W) at ``size``; themselves where they have it."""
    height, width = pictures.shape[-2:]
    if (height, width) == size:
        return pictures
    top, left, inner = centre_crop((height, width), size)
    cut = pictures[..., top : top + inner[0], left : left + inner[1]]
    flat = cut.reshape(-1, *cut.shape[-3:])
    small = interpolate(flat, size, mode="bilinear", antialias=True, align_corners=False)
    return small.unflatten(0, pictures.shape[:-3])
