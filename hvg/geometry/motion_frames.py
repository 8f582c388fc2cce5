"""Choice of the frames of a motion that a video shows."""

import math
from fractions import Fraction

import torch
from torch import Tensor

from hvg.core.errors import HvgError
from hvg.geometry.motion import Motion

# Frame rate in Hz of a file that does not say its own.
ASSUMED_RATE = 30.0
# So many places are listed one by one.
FEW = 6


def motion_places(
    motion: Motion,
    frames: int | None,
    *,
    evenly: int,
    start: int = 0,
    end: int | None = None,
    stride: int | None = None,
    real_time: bool = False,
    frames_per_second: float,
) -> Tensor:
    """Places (frames,) in the motion, counted in its frames from 0; between two frames where they do not fit evenly.

    The motion is used from ``start`` to before ``end``. ``stride`` takes every so many frames, ``real_time`` the frames that
    are nearest when a video of ``frames_per_second`` shows the motion at its own speed; both to the end, unless ``frames``
    asks for fewer. With neither, ``frames`` (or ``evenly``) are spaced evenly, the first and the last one kept.

    Raises: HvgError for what the motion does not have, one line with what it has.
    """
    last = (motion.num_frames if end is None else end) - 1
    if not start <= last < motion.num_frames:
        asked = f"start={start}" + (f" end={end}" if end is not None else "")
        raise HvgError(
            f"{asked}: the motion has {motion.num_frames} frames; give 0 <= start < end <= {motion.num_frames}"
        )
    if stride and real_time:
        raise HvgError(f"stride={stride} and real_time=true both say which frames of the motion are taken; give one")
    if not stride and not real_time:
        places = torch.linspace(start, last, frames or evenly, dtype=torch.float64)
        whole = places.round()
        return torch.where((places - whole).abs() < 1e-6, whole, places)
    step = stride or _nominal((motion.frames_per_second or ASSUMED_RATE) / frames_per_second)
    # A step that is no binary fraction may fall short of the last frame by its rounding.
    there = int((last - start) / step + 1e-9) + 1
    if frames is not None and frames > there:
        how = f"stride={stride}" if stride else f"real_time=true at frames_per_second={frames_per_second:g}"
        raise HvgError(f"frames={frames}: with {how} the motion's frames {start} to {last} give {there}")
    return (start + step * torch.arange(frames or there, dtype=torch.float64)).round()


def _nominal(ratio: float) -> float:
    """The ratio of two frame rates, taking each for the round one that it stands for.

    Television runs at 1000/1001 of 24, 30 and 60 frames a second: 29.97 beside 30 would repeat a frame every 33 seconds.
    """
    simple = float(Fraction(ratio).limit_denominator(8))
    return simple if abs(ratio - simple) <= 1.5e-3 * ratio else ratio


def places_note(motion: Motion, places: Tensor, frames_per_second: float) -> str:
    """Sentence on the frames of the motion that a video takes, and its speed."""
    count, steps = len(places), places.diff()
    listed = [f"{place:.1f}".removesuffix(".0") for place in places.tolist()]
    if count <= FEW:
        which = ", ".join(listed)
    else:
        spacing = f"{float(steps.mean()):.2f}".rstrip("0").rstrip(".")
        even = "every" if bool((steps == steps[0]).all()) else "on average every"
        which = f"{listed[0]} to {listed[-1]}, {even} {spacing} frames"
    between = ", in between interpolated" if bool((places != places.round()).any()) else ""
    told = f"the video's {count} frames are {which}{between} of the motion's {motion.num_frames}"
    return f"{told} (counted from 0){_speed(motion, places, frames_per_second)}"


def _speed(motion: Motion, places: Tensor, frames_per_second: float) -> str:
    """Text on how much faster than the motion the video is."""
    passed = float(places[-1] - places[0])
    if not passed:
        return ""
    rate = motion.frames_per_second or ASSUMED_RATE
    known = (
        f"recorded at {rate:g} frames a second" if motion.frames_per_second else f"taken to be {rate:g} frames a second"
    )
    factor = (passed / rate) / ((len(places) - 1) / frames_per_second)
    if math.isclose(factor, 1, rel_tol=0.02):
        return f"; that is as fast as the motion ({known})"
    times = f"{factor:.3g} times faster" if factor > 1 else f"{1 / factor:.3g} times slower"
    return f"; that is {times} than the motion ({known}), whose speed real_time=true keeps"
