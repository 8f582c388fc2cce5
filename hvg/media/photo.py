"""A user's photo as the reference that training showed: one person, upright, at the size that they have there."""

import math
from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import interpolate

from hvg.core.errors import DataError
from hvg.core.required import required
from hvg.media.images import image_name, read_image_8bit
from hvg.values.clip import Reference

# Mean height of the people's outlines in the synthetic reference photos, over 40 people at 64 px. At the default camera
# (3.2 m, 36 degrees) that is 0.835 of the picture, with a spread of 0.046.
OUTLINE_METRES = 1.74

# From this value on, of 255, alpha covers a pixel.
HALF = 128

# Where the person is: left, top, right, bottom edge; pixels of the upright photo.
Box = tuple[int, int, int, int]


def person_fraction(distance: float, fov_degrees: float, size: tuple[int, int]) -> float:
    """Share of the picture's height that a photo's person takes: as in training, whose cameras are ``distance`` metres away.

    size: height and width, pixels. ``fov_degrees`` spans the shorter side.
    """
    seen_metres = 2 * distance * math.tan(math.radians(fov_degrees) / 2) * size[0] / min(size)
    return min(0.95, OUTLINE_METRES / seen_metres)


def load_photo(
    source: Path | Image.Image, size: tuple[int, int], *, fraction: float, box: Box | None, background: Sequence[float]
) -> tuple[Reference, str | None]:
    """The photo's person in a picture of ``size`` (height, width), and what would make a better one, if anything.

    The person is what alpha covers, inside the box where one is given; without either the whole photo. Other aspects are
    padded, never stretched. fraction: of the picture's height, that the person takes. background: sRGB in [0, 1].

    Raises: DataError naming the file, for a box outside of the photo or around nothing, and for an empty alpha.
    """
    path, (photo, alpha) = image_name(source), read_image_8bit(source)
    if alpha is not None and bool((alpha >= HALF).all()):
        alpha = None
    if box is not None:
        check_box(path, box, (photo.shape[1], photo.shape[2]))
        photo = _cut(photo, box)
        alpha = None if alpha is None else _cut(alpha, box)
    if alpha is not None:
        outline = covered_box(path, alpha[0], "" if box is None else " inside box=")
        photo, alpha = _cut(photo, outline), _cut(alpha, outline)
    # A photo that nobody cut out has room around its person already.
    whole = alpha is None and box is None
    reference = place(photo, alpha, size, 1.0 if whole else fraction, background)
    return reference, _advice(path, alpha, box)


def _cut(picture: Tensor, box: Box) -> Tensor:
    left, top, right, bottom = box
    return picture[:, top:bottom, left:right]


def check_box(path: str, box: Box, size: tuple[int, int]) -> None:
    """Raises: DataError for a box that is not inside a photo of ``size`` (height, width)."""
    left, top, right, bottom = box
    height, width = size
    if not (0 <= left < right <= width and 0 <= top < bottom <= height):
        raise DataError(
            f"{path}: box={list(box)} is not inside the picture, which is {width} pixels wide and {height} high; "
            "expected [left, top, right, bottom]"
        )


def covered_box(path: str, alpha: Tensor, where: str = "") -> Box:
    """The box of what alpha (H, W), uint8, covers. Raises: DataError where that is nothing; where: of the picture."""
    covered = alpha >= HALF
    rows, columns = covered.any(dim=1).nonzero()[:, 0], covered.any(dim=0).nonzero()[:, 0]
    if not len(rows):
        raise DataError(f"{path}: the alpha channel covers nothing{where}; expected it to cover the person")
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def place(
    photo: Tensor, alpha: Tensor | None, size: tuple[int, int], fraction: float, background: Sequence[float]
) -> Reference:
    """The photo (3, h, w) in the middle of a picture of ``size``, its height ``fraction`` of it, or less where it is wide.

    photo, alpha: uint8.
    """
    scale = min(fraction * size[0] / photo.shape[1], size[1] / photo.shape[2])
    inner = [max(1, min(side, round(length * scale))) for side, length in zip(size, photo.shape[1:], strict=True)]
    cover = torch.ones(photo.shape[1:]) if alpha is None else alpha[0] / 255

    def shrunk(channel: Tensor) -> Tensor:
        return interpolate(channel[None, None], inner, mode="bilinear", antialias=True, align_corners=False)[0, 0]

    # Colours are averaged with their coverage, so that what lies under alpha 0 does not bleed in. A channel at a time and in
    # place, for a photo is many times as large as the picture.
    colours = [
        shrunk(channel.float().div_(127.5).sub_(1).add_(1).div_(2).mul_(cover).contiguous()) for channel in photo
    ]
    small = torch.stack([*colours, shrunk(cover.contiguous())]).clamp(0, 1)
    canvas = torch.zeros(4, *size)
    top, left = (size[0] - inner[0]) // 2, (size[1] - inner[1]) // 2
    canvas[:, top : top + inner[0], left : left + inner[1]] = small
    behind = torch.tensor(background)[:, None, None]
    frames = (canvas[:3] + (1 - canvas[3:]) * behind) * 2 - 1
    return Reference(frames=frames[None, None], alpha=canvas[None, None, 3:])


def photos_of_one(photos: Sequence[Reference]) -> Reference:
    """Several photos (R = 1 each, with alpha) of one person as one ``Reference``."""
    alpha = [required(photo.alpha, "Reference.alpha") for photo in photos]
    return Reference(frames=torch.cat([photo.frames for photo in photos], dim=1), alpha=torch.cat(alpha, dim=1))


def _advice(path: str, alpha: Tensor | None, box: Box | None) -> str | None:
    if alpha is not None:
        return None
    if box is not None:
        return (
            f"{path} has no alpha channel, so all that is inside box= counts as the person; a cut-out (PNG with alpha) "
            "works better"
        )
    return (
        f"{path} has no alpha channel, so all of it counts as the person; give a cut-out (PNG with alpha), or at least "
        "the person's box as box=[left,top,right,bottom]"
    )
