"""Estimate of the host memory for a request of ``hvg sample``, made before anything of its size is allocated."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from hvg.core.errors import HvgError
from hvg.media.tiles import LARGEST_SIDE
from hvg.model.trained_system import TrainedSystem
from hvg.sample.grid import CELL, MOST_VIEWS

# An x264 encoder as ``VideoWriter`` opens it, however long the video: what it takes by itself, and for each pixel of a frame,
# most of it for looking ahead. Measured with x264 164 at 64 x 64 and 768 x 768.
ENCODER_BYTES, ENCODER_BYTES_PER_PIXEL = 2_000_000, 68


@dataclass(frozen=True, kw_only=True)
class Size:
    """Size of a request. image_size: (height, width). known: views besides, whose pictures are given. refined: how many views
    a second model encodes at once; 0 where none does. grid: whether the moving picture of all of it is written, too.
    """

    views: int
    frames: int
    image_size: tuple[int, int]
    known: int = 0
    refined: int = 0
    grid: bool = False

    def __str__(self) -> str:
        height, width = self.image_size
        return f"{self.views} view(s) x {self.frames} frames of {height} x {width} pixels"


def check_memory(system: TrainedSystem, size: Size, allowed: float) -> None:
    """Raises: HvgError where the request needs more than ``allowed`` GB, with the number and what would fit."""
    needed = estimated_bytes(system, size) / 1e9
    if needed <= allowed:
        return
    views = _most(size.views, lambda count: _fits(system, replace(size, views=count), allowed))
    frames = _most(size.frames, lambda count: _fits(system, replace(size, frames=count), allowed))
    halved = next((half for half in _halves(size, system.stride) if _fits(system, half, allowed)), None)
    smaller = [f"views={views}"] * bool(views) + [f"frames={frames}"] * bool(frames)
    smaller += [] if halved is None else [f"image_size=[{halved.image_size[0]},{halved.image_size[1]}]"]
    remedy = f"{' or '.join(smaller)} would fit; " if smaller else ""
    raise HvgError(
        f"{size} need about {needed:.1f} GB of memory besides the model, and memory={allowed:g} is allowed; {remedy}if this "
        f"machine has it, give memory={int(needed) + 1}"
    )


def estimated_bytes(system: TrainedSystem, size: Size) -> int:
    """Bytes at the fullest moment, without the model and what its networks hold while they look at a window."""
    pixels, views = size.image_size[0] * size.image_size[1], size.views + size.known
    # Where some pictures are given, all have a place.
    given = 2 * 3 * 4 * views * size.frames * pixels if size.known else 0
    # What is refined is held in 8 bits; of what is encoded at once, the pictures and the same moved or cut.
    given += 3 * (views + 2 * 4 * size.refined) * size.frames * pixels if size.refined else 0
    # The tiled video, and the one with control maps.
    tiles = 2 * min(views * max(pixels, 128**2), LARGEST_SIDE**2)
    # The photo and some views above a control map, as MP4 and as WebP.
    shown = 2 * min(views, MOST_VIEWS) + 2
    tiles += 2 * min(shown * max(pixels, CELL**2), LARGEST_SIDE**2) if size.grid else 0
    encoders = ENCODER_BYTES * (views + (4 if size.grid else 2))
    encoders += ENCODER_BYTES_PER_PIXEL * (views * pixels + tiles)
    return system.sampling_bytes(views, size.frames, size.image_size) + encoders + given


def _halves(size: Size, cell: int) -> Iterator[Size]:
    """Pictures of half the size, of a quarter, and so on, in whole cells."""
    height, width = size.image_size
    while min(height, width) >= 2 * cell:
        height, width = (side // 2 // cell * cell for side in (height, width))
        yield replace(size, image_size=(height, width))


def _fits(system: TrainedSystem, size: Size, allowed: float) -> bool:
    return estimated_bytes(system, size) <= allowed * 1e9


def _most(count: int, fits: Callable[[int], bool]) -> int:
    """The largest number below ``count`` that fits; 0 where not even one does."""
    low, high = 0, count
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low
