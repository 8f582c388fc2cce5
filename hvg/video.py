"""Images and videos in and out: PNG, image files, H.264 in MP4, tiled comparisons.

Frames are sRGB in [-1, 1], (T, 3, H, W), unless a function says otherwise. Files are written whole or not at all.
"""

from __future__ import annotations

import base64
import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from pathlib import Path
from types import TracebackType

import av
import numpy as np
import torch
from av.container import InputContainer
from av.video.reformatter import Colorspace
from av.video.stream import VideoStream
from PIL import Image, ImageDraw, ImageFont, ImageOps, UnidentifiedImageError
from torch import Tensor
from torch.nn.functional import interpolate, pad

from hvg.eight_bit import frames_from_uint8, frames_to_uint8
from hvg.errors import DataError
from hvg.files import regular_file, whole_file

LABEL_HEIGHT = 22
# Letters of labels, pixels: the largest that fits.
LABEL_SIZES = (14, 12, 10)
GAP = 6
# Pillow would hand others, such as EPS, to programs that interpret them.
IMAGE_FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF", "GIF")
# Most pixels of a picture or of a frame that is read, 8192 x 8192: more than cameras have. A file of some kilobytes can hold
# many times that; reading takes about ten bytes a pixel, and a photo as much again while it is made smaller.
MOST_PIXELS = 2**26
# Most pixels along a side of a tiled picture: H.264 decoders in hardware stop at 4096.
LARGEST_SIDE = 3840
# ITU-T H.273 code of BT.709 for primaries, transfer and matrix. A player guesses them from the image height otherwise,
# and shifts the colours of small videos.
BT709 = 1
_AT_MOST = f"at most {MOST_PIXELS / 1e6:.0f} million are read, to bound the memory; make the picture smaller"


def write_png(path: Path, image: Tensor) -> None:
    """Writes one image, (3, H, W) in [-1, 1]."""
    picture = _to_picture(frames_to_uint8(image))
    with whole_file(path) as partial:
        picture.save(partial, format="PNG")


def read_image(path: Path) -> tuple[Tensor, Tensor | None]:
    """An image file as (3, H, W) in [-1, 1] and its alpha as (1, H, W) in [0, 1], None where the file has none.

    Colours are returned as stored, also where alpha is 0. The file's orientation tag is applied. Grey, palette and CMYK
    become RGB, 16 bits become 8; of an animation, the first picture is taken.

    Raises: DataError naming the file when it is missing, cannot be decoded, or has more than ``MOST_PIXELS``.
    """
    pixels, alpha = read_image_8bit(path)
    return frames_from_uint8(pixels), None if alpha is None else alpha.float() / 255


def read_image_8bit(path: Path) -> tuple[Tensor, Tensor | None]:
    """As ``read_image``, with colours (3, H, W) and alpha (1, H, W) as uint8."""
    try:
        with _opened(path) as file:
            _check_pixels(path, *file.size)
            # In place, and converted only where it has to be: every copy of a large photo counts.
            ImageOps.exif_transpose(file, in_place=True)
            picture = _eight_bit(file)
            has_alpha = "A" in picture.getbands() or "transparency" in picture.info
            mode = "RGBA" if has_alpha else "RGB"
            pixels = np.array(picture if picture.mode == mode else picture.convert(mode))
    except FileNotFoundError:
        raise DataError(f"{path}: no such image file") from None
    except UnidentifiedImageError:
        raise DataError(f"{path}: not an image that can be read (PNG, JPEG and WebP can)") from None
    except (OSError, SyntaxError, ValueError) as error:
        raise DataError(f"{path}: the image cannot be read: {' '.join(str(error).split())}") from error
    channels = torch.from_numpy(pixels).movedim(-1, 0)
    return channels[:3], channels[3:] if has_alpha else None


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


def _check_pixels(path: Path, width: int, height: int) -> None:
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


def write_video(path: Path, frames: Tensor, fps: float, quality: int = 18) -> None:
    """Writes (T, 3, H, W) in [-1, 1] as H.264, 4:2:0, BT.709, which every browser plays.

    Odd sides grow by one pixel at the bottom or right (the edge is repeated), for 4:2:0 needs even sides.
    quality: x264's constant rate factor, 0 lossless to 51 worst; 18 looks like the source.

    The same frames give the same bytes, every time on one machine. Another processor's instructions may encode them in other
    bytes, whose pictures look the same.

    Raises: ValueError when there is no frame or the shape is wrong.
    """
    with VideoWriter(path, fps, quality) as video:
        video.add(frames)


class VideoWriter:
    """A context in which ``add`` encodes a video piece by piece, as ``write_video`` does, so that none is held whole.

    The file appears under its name when the context ends; where it ends with an error, the old file stays as it was.
    fps and quality: as in ``write_video``.
    """

    def __init__(self, path: Path, fps: float, quality: int = 18) -> None:
        self._path, self._rate, self._quality = path, Fraction(fps).limit_denominator(1001), quality
        self._open = ExitStack()

    def __enter__(self) -> VideoWriter:
        with ExitStack() as opening:
            partial = opening.enter_context(whole_file(self._path))
            # faststart puts the index first, so that a player shows the video before it has all of it.
            options = {"movflags": "faststart"}
            self._container = opening.enter_context(av.open(str(partial), "w", format="mp4", options=options))
            # Without x264's macroblock tree: with AVX-512 it takes rows of macroblocks eight at a time, and where a picture's
            # width is no multiple of 128 pixels what memory held behind a row changes the file.
            settings = {"crf": str(self._quality), "mbtree": "0"}
            self._stream = self._container.add_stream("libx264", rate=self._rate, options=settings)
            opening.push(self._flush)
            self._open = opening.pop_all()
        return self

    def add(self, frames: Tensor) -> None:
        """Appends (T, 3, H, W) in [-1, 1]; every piece has the size of the first.

        Raises: ValueError when there is no frame or the shape is wrong.
        """
        if frames.ndim != 4 or frames.shape[1] != 3 or not len(frames):
            raise ValueError(f"a video needs frames (T, 3, H, W) with T > 0, got {tuple(frames.shape)}")
        for image in _even(frames_to_uint8(frames)).movedim(1, -1).cpu().numpy():
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
            if not self._stream.codec_context.is_open:
                self._set_up(*image.shape[:2])
            frame = frame.reformat(format="yuv420p", dst_colorspace=Colorspace.ITU709)
            self._container.mux(self._stream.encode(frame))

    def _set_up(self, height: int, width: int) -> None:
        self._stream.height, self._stream.width = height, width
        self._stream.pix_fmt = "yuv420p"
        codec = self._stream.codec_context
        codec.colorspace = codec.color_primaries = codec.color_trc = BT709
        # One thread: the file does not depend on the machine's number of cores.
        codec.thread_count = 1

    def _flush(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Encodes what the encoder held back for looking ahead."""
        if kind is None:
            self._container.mux(self._stream.encode())

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.__exit__(kind, error, trace)


def read_video(path: Path) -> tuple[Tensor, float]:
    """All frames of a video file, (T, 3, H, W) in [-1, 1], and its mean frame rate in Hz.

    Frames are turned as the file says that they are to be shown.

    Raises: DataError naming the file when it is missing, cannot be decoded, or holds no video.
    """
    frames, rate = read_video_8bit(path)
    return frames_from_uint8(frames), rate


def read_video_8bit(path: Path) -> tuple[Tensor, float]:
    """As ``read_video``, with frames (T, 3, H, W) as uint8. Nothing damaged is concealed."""
    with _open_video(path) as (container, stream):
        rate = stream.average_rate
        pixels = [frame.pixels for frame in _decoded(path, container, stream)]
    if rate is None:
        raise DataError(f"{path}: the file holds no video frames")
    return torch.from_numpy(np.stack(pixels)).movedim(-1, 1), float(rate)


@dataclass(frozen=True)
class VideoFrame:
    """pixels: (H, W, 3) uint8. time: when it is shown, seconds; None where the file does not say."""

    pixels: np.ndarray
    time: float | None


def video_frames(path: Path) -> Iterator[VideoFrame]:
    """The frames of a video file in the order in which they are shown, one at a time. Raises: as of ``read_video``."""
    with _open_video(path) as (container, stream):
        yield from _decoded(path, container, stream)


@contextmanager
def _open_video(path: Path) -> Iterator[tuple[InputContainer, VideoStream]]:
    """The open file and its video. Raises: DataError for whatever is wrong with it, now or while it is decoded."""
    try:
        # An absolute path and this list keep a name that looks like an address from being opened as one.
        with av.open(str(regular_file(path).resolve()), options={"protocol_whitelist": "file"}) as container:
            if not container.streams.video:
                raise DataError(f"{path}: the file holds no video")
            stream = container.streams.video[0]
            # There is none where the library lacks the decoder, whatever its annotation says.
            if getattr(stream, "codec_context", None) is None:
                raise DataError(f"{path}: no decoder is here for its video; encode it anew, as H.264 in MP4")
            _check_pixels(path, stream.codec_context.width, stream.codec_context.height)
            # The decoder would otherwise paint over damaged blocks in silence.
            stream.codec_context.options = {"err_detect": "explode"}
            yield container, stream
    except FileNotFoundError:
        raise DataError(f"{path}: no such video file") from None
    except av.FFmpegError as error:
        raise DataError(f"{path}: the video cannot be read: {error.strerror}") from error


def _decoded(path: Path, container: InputContainer, stream: VideoStream) -> Iterator[VideoFrame]:
    shape, turns = None, 0
    for frame in container.decode(stream):
        _check_pixels(path, frame.width, frame.height)
        # As players do, and as photos are turned. Asked of the first alone: the library ties a frame that was asked to itself,
        # and hundreds of them would wait in memory for Python's collector.
        turns = _quarter_turns(path, frame) if shape is None else turns
        pixels = np.rot90(frame.to_ndarray(format="rgb24"), turns)
        if shape not in (None, pixels.shape):
            raise DataError(f"{path}: its frames have different sizes")
        shape = pixels.shape
        yield VideoFrame(pixels, frame.time)
    if shape is None:
        raise DataError(f"{path}: the file holds no video frames")


def _quarter_turns(path: Path, frame: av.VideoFrame) -> int:
    """How often a frame is to be turned counterclockwise. Raises: DataError where that does not make it what players show."""
    matrix = frame.side_data.get("DISPLAYMATRIX")
    if matrix is None:
        return 0
    a, b, _, c, d, *_ = np.frombuffer(bytes(matrix), np.int32).astype(float)
    if a * d < b * c:
        raise DataError(f"{path}: is to be shown mirrored; encode it anew as it is shown")
    quarters, rest = divmod(frame.rotation, 90)
    if rest:
        raise DataError(f"{path}: is to be shown turned by {frame.rotation} degrees; expected quarter turns")
    return quarters


def video_data_uri(path: Path) -> str:
    """The MP4 file as a ``data:`` address, so that a page can hold it. Raises: DataError when the file is missing."""
    if not path.is_file():
        raise DataError(f"{path}: no such video file")
    return "data:video/mp4;base64," + base64.b64encode(path.read_bytes()).decode("ascii")


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
    factor = max(1, -(-min_cell_height // height))
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


def _cell_size(groups: Sequence[Mapping[str, Tensor]], min_cell_height: int) -> tuple[tuple[int, int], int]:
    """Height and width of a cell, and in how many columns the groups come near to 16:9 with few empty places."""
    height, width = next(iter(groups[0].values())).shape[-2:]
    factor = max(1, -(-min_cell_height // height))
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


def _even(frames: Tensor) -> Tensor:
    """(T, 3, H, W) with H and W made even by repeating the last row or column."""
    height, width = frames.shape[-2:]
    return pad(frames.float(), (0, width % 2, 0, height % 2), mode="replicate").to(frames.dtype)


def _to_picture(image: Tensor) -> Image.Image:
    """uint8 (3, H, W) -> a PIL image."""
    return Image.fromarray(image.movedim(0, -1).contiguous().cpu().numpy())
