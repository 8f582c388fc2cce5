"""Crops of pictures: cut out, laid on a colour where a mask says so, and brought to a size."""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from hvg.core.errors import DataError
from hvg.media.folder_video import Place
from hvg.media.images import read_image_8bit
from hvg.media.video import video_frames

# How masks show people: white on black, or in the colours that matplotlib gives to numbers.
MaskKind = Literal["white", "viridis"]
# Green of the colours of viridis: 1 of 0, with which the background is drawn, and 68 or more of its upper four fifths.
_NO_PURPLE = 32
# Ratio of sides by which a picture may differ from its camera's: a rounded half of an odd side.
_SAME_ASPECT = 0.01


@dataclass(frozen=True)
class Picture:
    """A file's picture: colour (H, W, 3) uint8, alpha (H, W) uint8 or None."""

    name: str
    colour: np.ndarray
    alpha: np.ndarray | None = None


@dataclass(frozen=True)
class Crop:
    """A rectangle of a picture of ``of`` (height, width), pixels; it may lie partly outside of it."""

    left: float
    top: float
    width: float
    height: float
    of: tuple[int, int]


def read_pictures(place: Place, frames: Sequence[int]) -> Iterator[Picture]:
    """The pictures of some frames, given in increasing order. Raises: DataError."""
    if not isinstance(place, Path):
        names = list(place)
        yield from (_read(place[names[frame]]) for frame in frames)
        return
    wanted, last = set(frames), max(frames)
    for number, (pixels, _) in enumerate(video_frames(place)):
        if number in wanted:
            yield Picture(f"{place}, frame {number}", np.ascontiguousarray(pixels))
        if number == last:
            return
    raise DataError(f"{place}: ends before frame {last}")


def _read(path: Path) -> Picture:
    colour, alpha = read_image_8bit(path)
    return Picture(str(path), colour.movedim(0, -1).contiguous().numpy(), None if alpha is None else alpha[0].numpy())


def as_mask(picture: Picture, kind: MaskKind = "white") -> Picture:
    """A mask's file as a picture's alpha: its alpha where it has one, else how bright it is; of 0 and 1, 1 is the person.

    kind: ``viridis`` for one in the default colours of matplotlib, where people are no purple.
    """
    if kind == "viridis":
        return Picture(picture.name, picture.colour, np.uint8(255) * (picture.colour[..., 1] >= _NO_PURPLE))
    red, green, blue = (picture.colour[..., channel] for channel in range(3))
    cover = np.maximum(np.maximum(red, green), blue) if picture.alpha is None else picture.alpha
    return Picture(picture.name, picture.colour, cover * np.uint8(255) if cover.max() == 1 else cover)


def cut(
    pictures: Iterable[Picture],
    masks: Iterable[Picture] | None,
    crop: Crop,
    size: tuple[int, int],
    behind: Sequence[float] | None,
) -> tuple[Tensor, Tensor | None]:
    """A crop of pictures at ``size`` (height, width): (T, 3, H, W) and alpha (T, 1, H, W), uint8.

    masks: of the same frames, as of ``as_mask``; without, a picture's own alpha is taken, and none is told where no picture has
    one. behind: sRGB in [0, 1] on which what the mask covers is laid; None: the picture stays as it is, with black around it.
    """
    pairs = ((picture, None) for picture in pictures) if masks is None else zip(pictures, masks, strict=True)
    cells = [_cut(picture, mask, crop, size, behind) for picture, mask in pairs]
    covers = [cover for _, cover in cells if cover is not None]
    if covers and len(covers) < len(cells):
        raise DataError(f"{len(covers)} of {len(cells)} pictures have an alpha channel; expected it in all, or in none")
    alpha = torch.from_numpy(np.stack(covers))[:, None] if covers else None
    return torch.from_numpy(np.stack([colour for colour, _ in cells])).movedim(-1, 1).contiguous(), alpha


def _cut(
    picture: Picture, mask: Picture | None, crop: Crop, size: tuple[int, int], behind: Sequence[float] | None
) -> tuple[np.ndarray, np.ndarray | None]:
    """(H, W, 3) and (H, W) or None."""
    fill = (0, 0, 0) if behind is None else tuple(round(255 * channel) for channel in behind)
    place = _place(picture.name, picture.colour.shape[:2], crop)
    colour, cover = _region(Image.fromarray(picture.colour), place, fill), None
    shape = (picture if mask is None else mask).alpha
    if shape is not None:
        whole = Image.fromarray(shape)
        if mask is not None:
            _place(mask.name, shape.shape, crop)
        if whole.size != (picture.colour.shape[1], picture.colour.shape[0]):
            whole = whole.resize((picture.colour.shape[1], picture.colour.shape[0]), Image.Resampling.BILINEAR)
        cover = _region(whole, place, 0)
        if behind is not None:
            # Before it is made smaller, so that what lies behind does not bleed in.
            colour = Image.composite(colour, Image.new("RGB", colour.size, fill), cover)

    left, top = math.floor(place[0]), math.floor(place[1])
    inner = (place[0] - left, place[1] - top, place[2] - left, place[3] - top)

    def resized(image: Image.Image) -> np.ndarray:
        return np.array(image.resize((size[1], size[0]), Image.Resampling.BILINEAR, box=inner))

    return resized(colour), None if cover is None else resized(cover)


def _place(name: str, shape: tuple[int, ...], crop: Crop) -> tuple[float, float, float, float]:
    """Left, top, right and bottom of a crop in the pixels of a picture, which may be a smaller copy of the camera's.

    Raises: DataError for one of another aspect.
    """
    (height, width), (tall, wide) = shape[:2], crop.of
    y, x = height / tall, width / wide
    if abs(y / x - 1) > _SAME_ASPECT:
        raise DataError(
            f"{name}: is {width} x {height} pixels; expected {wide} x {tall} as its camera says, or that smaller"
        )
    return crop.left * x, crop.top * y, (crop.left + crop.width) * x, (crop.top + crop.height) * y


def _region(image: Image.Image, place: Sequence[float], fill: Any) -> Image.Image:
    """The pixels that a crop touches; ``fill`` where there are none."""
    left, top = math.floor(place[0]), math.floor(place[1])
    right, bottom = math.ceil(place[2]), math.ceil(place[3])
    if left >= 0 and top >= 0 and right <= image.width and bottom <= image.height:
        return image.crop((left, top, right, bottom))
    region = Image.new(image.mode, (right - left, bottom - top), fill)
    region.paste(image, (-left, -top))
    return region
