"""Pictures in 8 bits, as files hold them, on their way from files to a device: a quarter of the bytes of floats to copy.

What ``Dataset.load_part`` gives, and what a loader hands over, may be so: frames, alpha, photos, driving videos and control maps
in uint8. Whoever looks at pixels unpacks them first.
"""

from dataclasses import fields, replace
from functools import partial
from typing import TypeVar

from torch import Tensor

from hvg.core.eight_bit import alpha_from_uint8, frames_from_uint8, signal_from_uint8
from hvg.values.clip import DRIVING_FIELDS, ClipBatch, Reference
from hvg.values.tensors import change

HasPictures = TypeVar("HasPictures", ClipBatch, Reference)
# Fields of a clip or a photo that may be 8 bits -> what makes floats of them.
_FLOATS = {
    "frames": frames_from_uint8,
    **dict.fromkeys(DRIVING_FIELDS, frames_from_uint8),
    "alpha": alpha_from_uint8,
    "signals": signal_from_uint8,
}
# Fields of a clip that hold such.
PICTURES = frozenset({*_FLOATS, "reference"})


def unpacked(clip: ClipBatch) -> ClipBatch:
    """The clips with pictures in floats; what is floats already stays as it is."""
    return replace(_unpacked(clip), reference=clip.reference and _unpacked(clip.reference))


def _unpacked(value: HasPictures) -> HasPictures:
    for name in _FLOATS.keys() & {f.name for f in fields(value)}:
        value = change(value, (name,), partial(_floats, name))
    return value


def _floats(name: str, pictures: Tensor) -> Tensor:
    return pictures if pictures.is_floating_point() else _FLOATS[name](pictures)
