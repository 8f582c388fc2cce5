"""Pictures in and out of files."""

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from hvg.core.eight_bit import alpha_to_uint8, frames_to_uint8
from hvg.core.errors import DataError
from hvg.core.files import regular_file, whole_file

# Pillow would hand others, such as EPS, to programs that interpret them.
IMAGE_FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF", "GIF")
# Most pixels of a picture or of a frame that is read, 8192 x 8192: more than cameras have. A file of some kilobytes can hold
# many times that; reading takes about ten bytes a pixel, and a photo as much again while it is made smaller.
MOST_PIXELS = 2**26
# Pixels along a side of a picture that moves.
LARGEST_MOVING = 1024
_AT_MOST = f"at most {MOST_PIXELS / 1e6:.0f} million are read, to bound the memory; make the picture smaller"


def write_png(path: Path, image: Tensor, alpha: Tensor | None = None) -> None:
    """Writes one image, (3, H, W) in [-1, 1], with its alpha (1, H, W) in [0, 1] if there is one."""
    pixels = frames_to_uint8(image)
    pixels = pixels if alpha is None else torch.cat([pixels, alpha_to_uint8(alpha)])
    picture = Image.fromarray(pixels.movedim(0, -1).contiguous().cpu().numpy())
    with whole_file(path) as partial:
        picture.save(partial, format="PNG")


def moving_picture(frames: Tensor, frames_per_second: float) -> tuple[bytes, tuple[int, int]]:
    """Frames (T, 3, H, W) in [-1, 1] as a GIF that plays for ever, of one as a PNG; and its width and height.

    Sides are at most ``LARGEST_MOVING`` pixels: what shows it keeps all of it in memory.
    """
    pictures = [Image.fromarray(x) for x in frames_to_uint8(frames).movedim(1, -1).contiguous().cpu().numpy()]
    for picture in pictures:
        picture.thumbnail((LARGEST_MOVING, LARGEST_MOVING))
    stream, first = io.BytesIO(), pictures[0]
    if len(pictures) == 1:
        first.save(stream, "PNG")
    else:
        first.save(stream, "GIF", save_all=True, append_images=pictures[1:], duration=1000 / frames_per_second, loop=0)
    return stream.getvalue(), first.size


def read_image_8bit(source: Path | Image.Image) -> tuple[Tensor, Tensor | None]:
    """An image file as (3, H, W) and its alpha as (1, H, W), None where the file has none; uint8.

    An open picture is read like its file.

    Colours are returned as stored, also where alpha is 0. The file's orientation tag is applied. Grey, palette and CMYK
    become RGB, 16 bits become 8; of an animation, the first picture is taken.

    Raises: DataError naming the file when it is missing, cannot be decoded, or has more than ``MOST_PIXELS``.
    """
    path = image_name(source)
    with _readable(path), source.copy() if isinstance(source, Image.Image) else _opened(source) as file:
        check_pixels(path, *file.size)
        # In place, and converted only where it has to be: every copy of a large photo counts.
        ImageOps.exif_transpose(file, in_place=True)
        picture = _eight_bit(file)
        has_alpha = "A" in picture.getbands() or "transparency" in picture.info
        mode = "RGBA" if has_alpha else "RGB"
        pixels = np.array(picture if picture.mode == mode else picture.convert(mode))
    channels = torch.from_numpy(pixels).movedim(-1, 0)
    return channels[:3], channels[3:] if has_alpha else None


def picture_size(path: Path) -> tuple[int, int]:
    """Height and width of an image file as it is shown, of which only the header is read. Raises: as ``read_image_8bit``."""
    with _readable(path), _opened(path) as file:
        width, height = file.size
        check_pixels(path, width, height)
        # Orientations from 5 on lie on their side; of a TIFF, Pillow tells the size as it is shown.
        lies = file.format != "TIFF" and file.getexif().get(ExifTags.Base.Orientation, 1) >= 5
        return (width, height) if lies else (height, width)


@contextmanager
def _readable(path: Path | str) -> Iterator[None]:
    """What Pillow says of a file that cannot be read becomes a DataError that names it."""
    try:
        yield
    except FileNotFoundError:
        raise DataError(f"{path}: no such image file") from None
    except UnidentifiedImageError:
        raise DataError(f"{path}: not an image that can be read (PNG, JPEG and WebP can)") from None
    except (OSError, SyntaxError, ValueError) as error:
        raise DataError(f"{path}: the image cannot be read: {' '.join(str(error).split())}") from error


def image_name(source: Path | Image.Image) -> str:
    """What messages call a file of a picture, or an open picture."""
    return "the image" if isinstance(source, Image.Image) else str(source)


def _opened(path: Path) -> Image.Image:
    """The picture, of which only the header is read. Raises: DataError for one that Pillow takes for a bomb."""
    with warnings.catch_warnings():
        # The limit is ours, and an error.
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        try:
            return Image.open(regular_file(path), formats=IMAGE_FORMATS)
        except Image.DecompressionBombError:
            pillows = 2 * (Image.MAX_IMAGE_PIXELS or 0) / 1e6
            raise DataError(f"{path}: has more than {pillows:.0f} million pixels; {_AT_MOST}") from None


def check_pixels(path: Path | str, width: int, height: int) -> None:
    """Raises: DataError for a picture that would take too much memory."""
    if width * height > MOST_PIXELS:
        raise DataError(f"{path}: is {width} x {height} pixels, {width * height / 1e6:.0f} million; {_AT_MOST}")


def _eight_bit(picture: Image.Image) -> Image.Image:
    """A picture of 8 bits a channel; Pillow itself clips the 16 bits of a grey one. Raises: ValueError for more bits."""
    if not picture.mode.startswith(("I", "F")):
        return picture
    grey = np.asarray(picture)
    if picture.mode == "F" or grey.min() < 0 or grey.max() > 65535:
        raise ValueError(f"its pixels are of Pillow's mode {picture.mode}; save it with 8 or 16 bits a channel")
    return Image.fromarray((np.arange(65536) / 257).round().astype(np.uint8)[grey])
