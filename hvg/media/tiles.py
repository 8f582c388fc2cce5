"""Pictures and videos beside each other, with labels."""

import math
import textwrap
from collections.abc import Mapping, Sequence
from functools import lru_cache

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor
from torch.nn.functional import interpolate

from hvg.core.eight_bit import frames_from_uint8

LABEL_HEIGHT = 22
# Letters of labels, pixels: the largest that fits.
LABEL_SIZES = (14, 12, 10)
# Of a letter in a text, about, pixels.
LETTER_WIDTH = 8
GAP = 6
# Most pixels along a side of a tiled picture: H.264 decoders in hardware stop at 4096.
LARGEST_SIDE = 3840


def tile_columns(columns: Mapping[str, Tensor], min_cell_height: int = 128) -> Tensor:
    """One video with a labelled column per entry and a row per view, (T, 3, H', W') in [-1, 1] on white.

    Every entry is (V, T, 3, H, W) in [-1, 1]. The largest V and T rule: missing views stay white, a shorter entry holds
    its last frame (a photo stands still). Cells take the size of the last entry, enlarged by a whole factor to at least
    ``min_cell_height`` without interpolation, so that pixels stay visible.

    Raises: ValueError when there is no entry.
    """
    if not columns:
        raise ValueError("nothing to tile")
    num_views = max(len(video) for video in columns.values())
    num_frames = max(video.shape[1] for video in columns.values())
    height, width = list(columns.values())[-1].shape[-2:]
    factor = enlargement(height, min_cell_height)
    height, width = height * factor, width * factor
    canvas = torch.ones(
        num_frames, 3, GAP + LABEL_HEIGHT + num_views * (height + GAP), GAP + len(columns) * (width + GAP)
    )
    for column, (label, video) in enumerate(columns.items()):
        left = GAP + column * (width + GAP)
        canvas[:, :, GAP : GAP + LABEL_HEIGHT, left : left + width] = _label(label, width)
        held = torch.arange(num_frames).clamp_max(video.shape[1] - 1)
        for view, frames in enumerate(video.detach().float().cpu()[:, held]):
            top = GAP + LABEL_HEIGHT + view * (height + GAP)
            canvas[:, :, top : top + height, left : left + width] = _fit(frames, (height, width))
    return canvas


def over_text(picture: Tensor, text: str) -> Tensor:
    """A picture (3, H, W) in [-1, 1] with lines of text below it, on white."""
    width = picture.shape[-1]
    lines = textwrap.wrap(text, max(10, width // LETTER_WIDTH)) or [""]
    written = [torch.cat([torch.ones(3, LABEL_HEIGHT, GAP), _label(x, width - GAP)], dim=-1) for x in lines]
    return torch.cat([picture, *written], dim=-2)


def tile_groups(groups: Sequence[Mapping[str, Tensor]], min_cell_height: int = 128) -> Tensor:
    """One video of labelled videos, (T, 3, H', W') in [-1, 1] on white, about as wide as a screen.

    groups: label -> (T, 3, H, W) in [-1, 1], all of one size and equally many in each; those of a group stand side by
    side. Cells are enlarged as in ``tile_columns``, and shrunk where the whole would exceed ``LARGEST_SIDE``.

    Raises: ValueError when there is nothing to tile.
    """
    if not groups or not groups[0]:
        raise ValueError("nothing to tile")
    size, columns = _cell_size(groups, min_cell_height)
    pitch = _pitch(size, len(groups[0]))
    rows = -(-len(groups) // columns)
    num_frames = len(next(iter(groups[0].values())))
    canvas = torch.ones(num_frames, 3, GAP + rows * pitch[0], GAP + columns * pitch[1])
    for number, group in enumerate(groups):
        top = GAP + number // columns * pitch[0]
        for place, (label, frames) in enumerate(group.items()):
            left = GAP + number % columns * pitch[1] + place * (size[1] + GAP)
            canvas[:, :, top : top + LABEL_HEIGHT, left : left + size[1]] = _label(label, size[1])
            below = top + LABEL_HEIGHT
            canvas[:, :, below : below + size[0], left : left + size[1]] = _fit(frames.detach().float().cpu(), size)
    return canvas


def enlargement(height: int, least: int) -> int:
    """The whole factor that makes pictures of a height, pixels, at least so high."""
    return max(1, -(-least // height))


def _cell_size(groups: Sequence[Mapping[str, Tensor]], min_cell_height: int) -> tuple[tuple[int, int], int]:
    """Height and width of a cell, and in how many columns the groups come near to 16:9 with few empty places."""
    height, width = next(iter(groups[0].values())).shape[-2:]
    factor = enlargement(height, min_cell_height)
    height, width, members, count = height * factor, width * factor, len(groups[0]), len(groups)

    def whole(columns: int, size: tuple[int, int]) -> tuple[int, int]:
        pitch = _pitch(size, members)
        return GAP + -(-count // columns) * pitch[0], GAP + columns * pitch[1]

    def cost(columns: int) -> float:
        tall, wide = whole(columns, (height, width))
        return abs(math.log(wide / tall * 9 / 16)) + 1 - count / (columns * -(-count // columns))

    columns = min(range(1, count + 1), key=cost)
    # Labels and gaps keep their size.
    sides = zip(whole(columns, (height, width)), whole(columns, (0, 0)), strict=True)
    shrink = min(1.0, *((LARGEST_SIDE - fixed) / (side - fixed) for side, fixed in sides))
    return (max(1, int(height * shrink)), max(1, int(width * shrink))), columns


def _pitch(size: tuple[int, int], members: int) -> tuple[int, int]:
    """Height and width that a group of so many cells takes with its gaps; groups of several stand apart."""
    return LABEL_HEIGHT + size[0] + GAP, members * (size[1] + GAP) + (2 * GAP if members > 1 else 0)


def _fit(frames: Tensor, size: tuple[int, int]) -> Tensor:
    """(T, 3, H, W) at another size: enlarged pixels stay sharp squares, shrinking averages."""
    if frames.shape[-2:] == size:
        return frames
    if frames.shape[-2] < size[0]:
        return interpolate(frames, size, mode="nearest")
    return interpolate(frames, size, mode="bilinear", antialias=True).clamp(-1, 1)


@lru_cache(maxsize=256)
def _label(text: str, width: int) -> Tensor:
    """Dark text on white, (3, LABEL_HEIGHT, width) in [-1, 1]; one that is too wide is smaller, and then ends in an ellipsis."""
    picture = Image.new("RGB", (width, LABEL_HEIGHT), "white")
    draw = ImageDraw.Draw(picture)
    font = next(
        (font for font in map(ImageFont.load_default, LABEL_SIZES) if draw.textlength(text, font=font) <= width), None
    )
    font = font or ImageFont.load_default(LABEL_SIZES[-1])
    shown = text
    while draw.textlength(shown, font=font) > width and len(shown) > 1:
        shown = shown.rstrip("…")[:-1] + "…"
    draw.text((0, LABEL_HEIGHT / 2), shown, fill=(40, 40, 40), font=font, anchor="lm")
    return frames_from_uint8(torch.from_numpy(np.array(picture)).movedim(-1, 0))
