"""Images and videos in and out: PNG, image files, H.264 in MP4, tiled comparisons.

Frames are sRGB in [-1, 1], (T, 3, H, W), unless a function says otherwise. Files are written whole or not at all.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import torch
from av.video.reformatter import Colorspace
from PIL import Image, ImageDraw, ImageFont, ImageOps, UnidentifiedImageError
from torch import Tensor
from torch.nn.functional import interpolate, pad

from hvg.eight_bit import frames_from_uint8, frames_to_uint8
from hvg.errors import DataError
from hvg.files import whole_file

LABEL_HEIGHT = 22
GAP = 6
# ITU-T H.273 code of BT.709 for primaries, transfer and matrix. A player guesses them from the image height otherwise,
# and shifts the colours of small videos.
BT709 = 1


def write_png(path: Path, image: Tensor) -> None:
    """Writes one image, (3, H, W) in [-1, 1]."""
    picture = _to_picture(frames_to_uint8(image))
    with whole_file(path) as partial:
        picture.save(partial, format="PNG")


def read_image(path: Path) -> tuple[Tensor, Tensor | None]:
    """An image file as (3, H, W) in [-1, 1] and its alpha as (1, H, W) in [0, 1], None where the file has none.

    Colours are returned as stored, also where alpha is 0. The file's orientation tag is applied.

    Raises: DataError naming the file when it is missing or cannot be decoded.
    """
    try:
        with Image.open(path) as file:
            picture = ImageOps.exif_transpose(file)
            has_alpha = "A" in picture.getbands() or "transparency" in picture.info
            pixels = torch.from_numpy(np.array(picture.convert("RGBA" if has_alpha else "RGB"))).movedim(-1, 0)
    except FileNotFoundError:
        raise DataError(f"{path}: no such image file") from None
    except UnidentifiedImageError:
        raise DataError(f"{path}: not an image that can be read (PNG, JPEG and WebP can)") from None
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise DataError(f"{path}: the image cannot be read: {' '.join(str(error).split())}") from error
    return frames_from_uint8(pixels[:3]), pixels[3:].float() / 255 if has_alpha else None


def write_video(path: Path, frames: Tensor, fps: float, quality: int = 18) -> None:
    """Writes (T, 3, H, W) in [-1, 1] as H.264, 4:2:0, BT.709, which every browser plays.

    Odd sides grow by one pixel at the bottom or right (the edge is repeated), for 4:2:0 needs even sides.
    quality: x264's constant rate factor, 0 lossless to 51 worst; 18 looks like the source.

    Raises: ValueError when there is no frame or the shape is wrong.
    """
    if frames.ndim != 4 or frames.shape[1] != 3 or not len(frames):
        raise ValueError(f"a video needs frames (T, 3, H, W) with T > 0, got {tuple(frames.shape)}")
    pixels = _even(frames_to_uint8(frames)).movedim(1, -1).cpu().numpy()
    with whole_file(path) as partial:
        _encode(partial, pixels, fps, quality)


def read_video(path: Path) -> tuple[Tensor, float]:
    """All frames of a video file, (T, 3, H, W) in [-1, 1], and its mean frame rate in Hz.

    Raises: DataError naming the file when it is missing, cannot be decoded, or holds no video.
    """
    try:
        with av.open(str(path)) as container:
            if not container.streams.video:
                raise DataError(f"{path}: the file holds no video")
            rate = container.streams.video[0].average_rate
            pixels = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    except FileNotFoundError:
        raise DataError(f"{path}: no such video file") from None
    except av.FFmpegError as error:
        raise DataError(f"{path}: the video cannot be read: {error.strerror}") from error
    if not pixels or rate is None:
        raise DataError(f"{path}: the file holds no video frames")
    return frames_from_uint8(torch.from_numpy(np.stack(pixels)).movedim(-1, 1)), float(rate)


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


def _fit(frames: Tensor, size: tuple[int, int]) -> Tensor:
    """(T, 3, H, W) at another size: enlarged pixels stay sharp squares, shrinking averages."""
    if frames.shape[-2] < size[0]:
        return interpolate(frames, size, mode="nearest")
    return interpolate(frames, size, mode="bilinear", antialias=True).clamp(-1, 1)


def _label(text: str, width: int) -> Tensor:
    """Dark text on white, (3, LABEL_HEIGHT, width) in [-1, 1]; a text that is too wide ends in an ellipsis."""
    font = ImageFont.load_default(size=14)
    picture = Image.new("RGB", (width, LABEL_HEIGHT), "white")
    draw = ImageDraw.Draw(picture)
    shown = text
    while draw.textlength(shown, font=font) > width and len(shown) > 1:
        shown = shown.rstrip("…")[:-1] + "…"
    draw.text((0, LABEL_HEIGHT / 2), shown, fill=(40, 40, 40), font=font, anchor="lm")
    return frames_from_uint8(torch.from_numpy(np.array(picture)).movedim(-1, 0))


def _even(frames: Tensor) -> Tensor:
    """(T, 3, H, W) with H and W made even by repeating the last row or column."""
    height, width = frames.shape[-2:]
    return pad(frames.float(), (0, width % 2, 0, height % 2), mode="replicate").to(frames.dtype)


def _encode(path: Path, pixels: np.ndarray, fps: float, quality: int) -> None:
    """Writes (T, H, W, 3) uint8 with even H and W."""
    rate = Fraction(fps).limit_denominator(1001)
    # faststart puts the index first, so that a player shows the video before it has all of it.
    with av.open(str(path), "w", format="mp4", options={"movflags": "faststart"}) as container:
        stream = container.add_stream("libx264", rate=rate, options={"crf": str(quality)})
        stream.height, stream.width = pixels.shape[1:3]
        stream.pix_fmt = "yuv420p"
        codec = stream.codec_context
        codec.colorspace = codec.color_primaries = codec.color_trc = BT709
        # One thread: the file does not depend on the machine's number of cores.
        codec.thread_count = 1
        for image in pixels:
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
            container.mux(stream.encode(frame.reformat(format="yuv420p", dst_colorspace=Colorspace.ITU709)))
        container.mux(stream.encode())


def _to_picture(image: Tensor) -> Image.Image:
    """uint8 (3, H, W) -> a PIL image."""
    return Image.fromarray(image.movedim(0, -1).contiguous().cpu().numpy())
