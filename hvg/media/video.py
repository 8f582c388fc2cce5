"""Videos in and out: H.264 in MP4, animated WebP, and whatever FFmpeg reads.

Frames are sRGB in [-1, 1], (T, 3, H, W), unless a function says otherwise. Files are written whole or not at all.
"""

import base64
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, cast

import av
import numpy as np
from av.container import InputContainer
from av.video.reformatter import Colorspace
from av.video.stream import VideoStream
from torch import Tensor
from torch.nn.functional import pad

from hvg.core.eight_bit import frames_to_uint8
from hvg.core.errors import DataError
from hvg.core.files import regular_file, whole_file
from hvg.media.images import check_pixels

# ITU-T H.273 code of BT.709 for primaries, transfer and matrix. A player guesses them from the image height otherwise,
# and shifts the colours of small videos.
BT709 = 1
# x264's constant rate factor, 0 lossless to 51 worst; 18 looks like the source.
QUALITY = "18"
# WebP's, 0 to 100 best.
WEBP_QUALITY = "90"


@dataclass(frozen=True, kw_only=True)
class _Kind:
    """What FFmpeg is told of a kind of file: container and codec with their options, pixels, and whether they are BT.709."""

    container: str
    muxing: Mapping[str, str]
    codec: str
    settings: Mapping[str, str]
    pixels: str
    bt709: bool


# faststart puts the index first, so that a player shows the video before it has all of it. Without x264's macroblock tree: with
# AVX-512 it takes rows of macroblocks eight at a time, and where a picture's width is no multiple of 128 pixels what memory held
# behind a row changes the file.
_MP4 = _Kind(
    container="mp4",
    muxing={"movflags": "faststart"},
    codec="libx264",
    settings={"crf": QUALITY, "mbtree": "0"},
    pixels="yuv420p",
    bt709=True,
)
# A loop of 0 never ends. The codec makes its own YUV of colours, in the one way that WebP knows.
_WEBP = _Kind(
    container="webp",
    muxing={"loop": "0"},
    codec="libwebp_anim",
    settings={"quality": WEBP_QUALITY, "lossless": "0"},
    pixels="bgra",
    bt709=False,
)
_KINDS = {".mp4": _MP4, ".webp": _WEBP}


def write_video(path: Path, frames: Tensor, fps: float) -> None:
    """Writes (T, 3, H, W) in [-1, 1] as H.264, 4:2:0, BT.709, which every browser plays; as a picture that moves for ever where
    the name ends in ``.webp``.

    Odd sides grow by one pixel at the bottom or right (the edge is repeated), for 4:2:0 needs even sides.

    The same frames give the same bytes, every time on one machine. Another processor's instructions may encode them in other
    bytes, whose pictures look the same.

    Raises: ValueError when there is no frame or the shape is wrong.
    """
    with VideoWriter(path, fps) as video:
        video.add(frames)


class VideoWriter:
    """A context in which ``add`` encodes a video piece by piece, as ``write_video`` does, so that none is held whole.

    The file appears under its name when the context ends; where it ends with an error, the old file stays as it was.
    """

    def __init__(self, path: Path, fps: float) -> None:
        self._path, self._rate = path, Fraction(fps).limit_denominator(1001)
        self._kind = _KINDS.get(path.suffix, _MP4)
        self._open = ExitStack()

    def __enter__(self) -> "VideoWriter":
        with ExitStack() as opening:
            partial = opening.enter_context(whole_file(self._path))
            kind = self._kind
            self._container = opening.enter_context(
                av.open(str(partial), "w", format=kind.container, options=dict(kind.muxing))
            )
            # One of pictures, which the library tells by the codec.
            self._stream: Any = self._container.add_stream(kind.codec, rate=self._rate, options=dict(kind.settings))
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
            frame = frame.reformat(format=self._kind.pixels, dst_colorspace=Colorspace.ITU709)
            self._container.mux(self._stream.encode(frame))

    def _set_up(self, height: int, width: int) -> None:
        self._stream.height, self._stream.width = height, width
        self._stream.pix_fmt = self._kind.pixels
        codec = self._stream.codec_context
        if self._kind.bt709:
            codec.colorspace = codec.color_primaries = codec.color_trc = BT709
        # One thread: the file does not depend on the machine's number of cores.
        codec.thread_count = 1

    def _flush(self, kind: object, *_: object) -> None:
        """Encodes what the encoder held back for looking ahead."""
        if kind is None:
            self._container.mux(self._stream.encode())

    def __exit__(self, *error: Any) -> None:
        self._open.__exit__(*error)


def video_frames(path: Path) -> Iterator[tuple[np.ndarray, float | None]]:
    """The frames of a video file in the order in which they are shown, one at a time: (H, W, 3) uint8, with when it is
    shown, seconds, None where the file does not say.

    Frames are turned as the file says that they are to be shown. Nothing damaged is concealed.

    Raises: DataError naming the file when it is missing, cannot be decoded, or holds no video.
    """
    try:
        # An absolute path and this list keep a name that looks like an address from being opened as one.
        with av.open(str(regular_file(path).resolve()), options={"protocol_whitelist": "file"}) as container:
            yield from _decoded(path, container)
    except FileNotFoundError:
        raise DataError(f"{path}: no such video file") from None
    except av.FFmpegError as error:
        raise DataError(f"{path}: the video cannot be read: {error.strerror}") from error


def _decoded(path: Path, container: InputContainer) -> Iterator[tuple[np.ndarray, float | None]]:
    if not container.streams.video:
        raise DataError(f"{path}: the file holds no video")
    stream = container.streams.video[0]
    # There is none where the library lacks the decoder, whatever its annotation says.
    if getattr(stream, "codec_context", None) is None:
        raise DataError(f"{path}: no decoder is here for its video; encode it anew, as H.264 in MP4")
    check_pixels(path, stream.codec_context.width, stream.codec_context.height)
    # The decoder would otherwise paint over damaged blocks in silence.
    stream.codec_context.options = {"err_detect": "explode"}
    shape, turns = None, 0
    for frame in _whole_stream(path, container, stream):
        check_pixels(path, frame.width, frame.height)
        # As players do, and as photos are turned. Asked of the first alone: the library ties a frame that was asked to itself,
        # and hundreds of them would wait in memory for Python's collector.
        turns = _quarter_turns(path, frame) if shape is None else turns
        pixels = np.rot90(frame.to_ndarray(format="rgb24"), turns)
        if shape not in (None, pixels.shape):
            raise DataError(f"{path}: its frames have different sizes")
        shape = pixels.shape
        yield pixels, frame.time
    if shape is None:
        raise DataError(f"{path}: the file holds no video frames")


def _whole_stream(path: Path, container: InputContainer, stream: VideoStream) -> Iterator[av.VideoFrame]:
    """The frames of a stream. Raises: DataError, after the last, where the file ends before it says that it does.

    The library reads such a file (Matroska and WebM) as if it ended there. Sound may last longer than pictures, so what counts
    is the end of all streams.
    """
    ended = 0.0
    for packet in container.demux():
        if packet.pts is not None and packet.time_base is not None:
            ended = max(ended, float((packet.pts + (packet.duration or 0)) * packet.time_base))
        if packet.stream.index == stream.index:
            yield from cast(list[av.VideoFrame], packet.decode())
    if container.duration is None:
        return
    lasts, begins = container.duration / av.time_base, (container.start_time or 0) / av.time_base
    # The last frame's own duration need not be told.
    tolerance = max(0.1, 3 / float(stream.average_rate or 30))
    if ended - begins < lasts - tolerance:
        raise DataError(
            f"{path}: ends after {ended - begins:.2f} s, and says that it lasts {lasts:.2f} s: it was cut off"
        )


def _quarter_turns(path: Path, frame: av.VideoFrame) -> int:
    """Counterclockwise quarter turns to apply to a frame.

    Raises: DataError where quarter turns do not make it what players show.
    """
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


def video_length(path: Path) -> int:
    """Frames of a video file, counted without decoding any. Raises: DataError, as ``video_frames``."""
    try:
        with av.open(str(regular_file(path).resolve()), options={"protocol_whitelist": "file"}) as container:
            if not container.streams.video:
                raise DataError(f"{path}: the file holds no video")
            # The last packet of a stream is empty; it flushes the decoder.
            return sum(packet.size > 0 for packet in container.demux(container.streams.video[0]))
    except FileNotFoundError:
        raise DataError(f"{path}: no such video file") from None
    except av.FFmpegError as error:
        raise DataError(f"{path}: the video cannot be read: {error.strerror}") from error


def video_data_uri(path: Path) -> str:
    """The MP4 file as a ``data:`` address, so that a page can hold it. Raises: DataError when the file is missing."""
    if not path.is_file():
        raise DataError(f"{path}: no such video file")
    return "data:video/mp4;base64," + base64.b64encode(path.read_bytes()).decode("ascii")


def _even(frames: Tensor) -> Tensor:
    """(T, 3, H, W) with H and W made even by repeating the last row or column."""
    height, width = frames.shape[-2:]
    return pad(frames.float(), (0, width % 2, 0, height % 2), mode="replicate").to(frames.dtype)
