"""One view of a clip in a folder: a video file, or frames as pictures, read whole once and then held, or read again."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from hvg.core.errors import DataError
from hvg.media.images import read_image_8bit
from hvg.media.video import video_frames

# Where the pictures of a view lie: a video file, or frames by name.
Place = Path | Mapping[str, Path]


@dataclass
class Room:
    """Bytes that the pictures of a clip may still take; below 0 none of them are held."""

    bytes: int

    @property
    def is_left(self) -> bool:
        """Whether all of the clip that was read so far is held in memory."""
        return self.bytes >= 0


@dataclass(frozen=True)
class Video:
    """T frames of ``size`` (height, width); background: what transparent pictures are laid on. held: (T, 3, H, W) uint8.

    times: when each frame is shown, seconds; None of pictures, or where a video file does not say.
    """

    place: Place
    background: str | None
    length: int
    size: tuple[int, int]
    times: Sequence[float] | None
    held: Tensor | None

    def pieces(self, lengths: Sequence[int]) -> Iterator[Tensor]:
        """(t, 3, H, W) uint8 for each of the lengths, whose sum is T."""
        if self.held is not None:
            yield from self.held.split(list(lengths))
            return
        frames = (frame for frame, _ in _frames(self.place, self.background))
        for length in lengths:
            # Filled frame by frame, so that a piece is held once.
            piece = np.empty((length, *self.size, 3), np.uint8)
            for i, frame in enumerate(islice(frames, length)):
                piece[i] = frame
            yield _channels_first(piece, self.place)

    def size_text(self, count: bool = False) -> str:
        """Its size in words, with the number of frames."""
        return (f"{self.length} frames of " if count else "") + _size_text(self.size)


def survey(place: Place, background: str | None, room: Room, look: Callable[[Tensor], None] | None = None) -> Video:
    """The video after every frame was read once; held where there is room for it.

    look: is shown every frame, (3, H, W) uint8. Raises: DataError naming a file that cannot be read, or that does not fit the
    others.
    """
    held: list[np.ndarray] = []
    times: list[float | None] = []
    size = None
    for frame, time in _frames(place, background):
        size = frame.shape[:2]
        if look is not None:
            look(torch.from_numpy(frame).movedim(-1, 0))
        times.append(time)
        room.bytes -= frame.nbytes
        if room.is_left:
            held.append(frame)
        else:
            held.clear()
    if size is None:
        raise DataError(f"{place}: holds no frames")
    whole = _channels_first(np.stack(held), place) if room.is_left else None
    known = [time for time in times if time is not None]
    return Video(place, background, len(times), size, known if len(known) == len(times) else None, whole)


def _frames(place: Place, background: str | None) -> Iterator[tuple[np.ndarray, float | None]]:
    """Every frame, (H, W, 3) uint8, with when it is shown."""
    if isinstance(place, Path):
        yield from ((np.ascontiguousarray(frame), time) for frame, time in video_frames(place))
        return
    size: tuple[int, ...] = ()
    for path in place.values():
        frame = _picture(path, background)
        if size and size != frame.shape[:2]:
            raise DataError(f"{path} is {_size_text(frame.shape[:2])}, the frames before it are {_size_text(size)}")
        size = frame.shape[:2]
        yield frame, None


def _channels_first(frames: np.ndarray, place: Place) -> Tensor:
    """(T, H, W, 3) -> (T, 3, H, W): of pictures laid out so in memory as well, of a video file not.

    Torch adds up the values of a frame in the order in which they lie in memory, so the last bits of scores depend on it.
    """
    channels = torch.from_numpy(frames).movedim(-1, 1)
    return channels if isinstance(place, Path) else channels.contiguous()


def _picture(path: Path, background: str | None) -> np.ndarray:
    """(H, W, 3) uint8. Raises: DataError where it is transparent, and nothing is said to lie behind."""
    frame, alpha = read_image_8bit(path)
    if alpha is not None and bool((alpha < 255).any()):
        if background is None:
            raise DataError(f"{path} has transparent pixels; say what is behind them: background=white or black")
        share, behind = alpha.float() / 255, 255.0 if background == "white" else 0.0
        frame = (frame * share + behind * (1 - share)).round().to(torch.uint8)
    return frame.movedim(0, -1).contiguous().numpy()


def _size_text(size: tuple[int, ...]) -> str:
    return f"{size[1]} x {size[0]}"


def time_note(prediction: Video, truth: Video) -> str:
    """Note where frames of the same number are shown at different times: other frame rates, or a rate that varies.

    "" where they part by no more than half a frame of the truth, or where the files do not say. Both have T frames.
    """
    if prediction.times is None or truth.times is None or truth.length < 2:
        return ""
    made, true = (np.asarray(times) - times[0] for times in (prediction.times, truth.times))
    apart = np.flatnonzero(np.abs(made - true) > true[-1] / (truth.length - 1) / 2)
    if not len(apart):
        return ""
    first = int(apart[0])
    rates = " and ".join(f"{(truth.length - 1) / times[-1]:.4g}" for times in (made, true) if times[-1] > 0)
    return (
        f"frame {first} of the prediction is shown at {made[first]:.3g} s, that of the reference at {true[first]:.3g} s "
        f"(on average {rates} frames a second); frames are compared by their number"
    )
