"""A video at a steady rate: of one whose rate varies, the frames that are shown at evenly spaced moments."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np

from hvg.core.errors import DataError
from hvg.core.next_commands import CUT_OUT
from hvg.media.video import video_frames


@dataclass(frozen=True)
class SteadyVideo:
    """``picks`` (T), increasing or equal: the frame of the file, counted from 0, that is shown at each of T moments.

    rate: moments per second. length: frames of the file. size: height and width as shown, pixels.
    """

    path: Path
    rate: float
    picks: np.ndarray
    length: int
    size: tuple[int, int]

    def frames(self) -> Iterator[np.ndarray]:
        """(H, W, 3) uint8 of each moment. Raises: DataError as ``video_frames``."""
        times = np.bincount(self.picks, minlength=self.length)
        for (pixels, _), repeats in zip(video_frames(self.path), times, strict=True):
            yield from [pixels] * repeats

    @property
    def notes(self) -> list[str]:
        """What is said of a rate that varies."""
        kept = len(set(self.picks.tolist()))
        if kept == self.length:
            return []
        return [
            f"its rate varies: of {self.length} frames {kept} are shown at {len(self.picks)} even moments, "
            f"{self.rate:.4g} a second; {len(self.picks) - kept} repeat the one before"
        ]


def steady_video(
    path: Path, rate: float | None = None, progress: Callable[[int, int], None] = lambda done, total: None
) -> SteadyVideo:
    """Reads the video once. rate: frames per second, whatever the file says of it; None: its mean rate.

    Where no frame is shown half a frame too early or too late, every one is taken once. progress: is told how many frames of
    how many were read. Raises: DataError as ``video_frames``, of a file of one frame, and one that says not when they are shown.
    """
    times: list[float | None] = []
    size, claimed = (0, 0), _claimed_frames(path)
    for pixels, time in video_frames(path):
        times.append(time)
        size = (pixels.shape[0], pixels.shape[1])
        progress(len(times), max(claimed, len(times)))
    if len(times) < 2:
        raise DataError(f"{path}: has one frame; expected a video of at least two", then=CUT_OUT)
    if rate is not None:
        return SteadyVideo(path, rate, np.arange(len(times)), len(times), size)
    shown = np.array([np.nan if time is None else time for time in times])
    if not (np.diff(shown) > 0).all():
        raise DataError(f"{path}: does not say when its frames are shown; say frames_per_second=")
    mean = (len(times) - 1) / float(shown[-1] - shown[0])
    return SteadyVideo(path, mean, _picks(shown - shown[0], mean), len(times), size)


def _picks(shown: np.ndarray, rate: float) -> np.ndarray:
    """(T,) of frames that are ``shown`` (T) at these seconds, of which the first is 0."""
    moments = np.arange(len(shown)) / rate
    if np.abs(shown - moments).max() <= 0.5 / rate:
        return np.arange(len(shown))
    return np.searchsorted(shown, moments + 1e-6, side="right") - 1


def _claimed_frames(path: Path) -> int:
    """How many frames a file says that it holds; 0 where it does not, or cannot be read."""
    try:
        with av.open(str(path.resolve()), options={"protocol_whitelist": "file"}) as container:
            return next((stream.frames for stream in container.streams.video), 0)
    except (OSError, av.FFmpegError):
        return 0
