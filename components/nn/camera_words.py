"""A camera's place and path in words, by rules (docs/camera_words.md), and the numbers that the words say."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from hvg.geometry.camera_moves import MOVES, NUM_ANGLES, camera_moves, pairs, unrest
from hvg.values.clip import ClipBatch

# To what words round, degrees and metres; degrees of unrest from which a camera is held by hand; how many moves are said.
DEGREES, METRES, HANDHELD, MOST = 5.0, 0.1, 0.3, 3
# Degrees and metres that are equally much, where not all are said.
_EQUAL = (45.0, 1.0)
# Move -> what is said of it where its number is above 0, and below.
PATH: Mapping[str, tuple[str, str]] = {
    "orbit": ("orbit right by {} degrees", "orbit left by {} degrees"),
    "rise": ("orbit up by {} degrees", "orbit down by {} degrees"),
    "pan": ("pan left by {} degrees", "pan right by {} degrees"),
    "tilt": ("tilt down by {} degrees", "tilt up by {} degrees"),
    "roll": ("roll left by {} degrees", "roll right by {} degrees"),
    "truck": ("truck right by {} metres", "truck left by {} metres"),
    "boom": ("boom up by {} metres", "boom down by {} metres"),
    "push": ("push in by {} metres", "pull back by {} metres"),
}
PLACE: Mapping[str, tuple[str, str]] = {
    "orbit": ("{} degrees to the right", "{} degrees to the left"),
    "rise": ("{} degrees higher", "{} degrees lower"),
    "pan": ("turned left by {} degrees", "turned right by {} degrees"),
    "tilt": ("turned down by {} degrees", "turned up by {} degrees"),
    "roll": ("leaning left by {} degrees", "leaning right by {} degrees"),
    "truck": ("{} metres to the right", "{} metres to the left"),
    "boom": ("{} metres higher", "{} metres lower"),
    "push": ("{} metres closer", "{} metres farther"),
}
FIRST, STILL, BY_HAND = "first view", "static", "handheld"


def told_cameras(batch: ClipBatch, stride: int, distance: float) -> tuple[Tensor, Tensor, Tensor]:
    """Of every view: where it begins, seen from the first view's first camera, and how it goes on, (B, V, 8) as of
    ``camera_moves``; and its unrest, (B, V) degrees. stride: frames that a latent frame joins, so often is the first there.
    """
    with torch.autocast(batch.cameras.world_to_camera.device.type, enabled=False), torch.no_grad():
        cameras = batch.cameras[:, :, stride - 1 :].to(torch.float32)
        first = (batch.cameras[:, :1] if batch.origin is None else batch.origin)[:, :, stride - 1].to(torch.float32)
        place = camera_moves(pairs(first, cameras[:, :, 0]), distance)
        return place, camera_moves(cameras, distance), unrest(cameras)


def said(moves: Tensor) -> Tensor:
    """The numbers (..., 8) that words say: rounded, and but for the largest few 0."""
    step = per_move(moves, DEGREES, METRES)
    rounded = (moves / step).round() * step
    size = rounded.abs() / per_move(moves, *_EQUAL)
    kept = torch.zeros_like(size, dtype=torch.bool).scatter(-1, size.topk(MOST, dim=-1).indices, True)
    return torch.where(kept, rounded, torch.zeros_like(rounded))


def sentence(path: Sequence[float], unrest: float, place: Sequence[float] | None = None) -> str:
    """What is said of a view, as "45 degrees to the left: orbit left by 45 degrees, push in by 0.5 metres, handheld".

    path, place: (8) as of ``said``. place: None where it is not told.
    """
    moved = [*_phrases(PATH, path), *([BY_HAND] if unrest >= HANDHELD else [])]
    told = ", ".join(moved) or STILL
    return told if place is None else f"{', '.join(_phrases(PLACE, place)) or FIRST}: {told}"


def longest() -> str:
    """A sentence that no other is longer than."""
    place, path = (sorted(sum(words.values(), ()), key=len)[-MOST:] for words in (PLACE, PATH))
    return f"{', '.join(place)}: {', '.join(path)}, {BY_HAND}".format(*["100.0"] * 2 * MOST)


def _phrases(words: Mapping[str, tuple[str, str]], moves: Sequence[float]) -> list[str]:
    found = []
    for number, (move, value) in enumerate(zip(MOVES, moves, strict=True)):
        amount = f"{abs(value):.0f}" if number < NUM_ANGLES else f"{abs(value):.1f}"
        if float(amount):
            # Half a turn is one to either side.
            found.append(words[move][value < 0 and not (words is PLACE and amount == "180")].format(amount))
    return found


def per_move(like: Tensor, degrees: float, metres: float) -> Tensor:
    """One number for angles, one for lengths: (8)."""
    angles = torch.arange(len(MOVES), device=like.device) < NUM_ANGLES
    return torch.where(angles, degrees, metres)
