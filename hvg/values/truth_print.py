"""What true frames are known by in a record that does not hold them: whether two evaluations scored against the same."""

import hashlib
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from hvg.core.random_keys import generator

# Numbers of a sketch. Their mean square is that of all pixels, give or take a half.
SKETCH = 8
# True frames are the same where their mean square difference is less than what rounding to 8 bits does, squared levels of 255
# (58.9 dB). Programs round the last bit, by processor and version; now and then a pixel is a level brighter for it, or one of the
# rays of a pixel at an edge falls on the other side. As noise it moves a score of 30 dB by .006 dB.
SAME = 1 / 12


@dataclass(frozen=True)
class TruthPrint:
    """digest: hexadecimal, of the size of true frames, which are valid, and every value. sketch: ``SKETCH`` projections of the
    values on random signs, divided by the root of their number: the mean square difference of two sketches estimates that of
    the frames, in squared levels of 255 (Johnson and Lindenstrauss, 1984; signs: Achlioptas, 2003). Frames that are not valid
    have no part in it, so that it also says which are.
    """

    digest: str
    sketch: tuple[float, ...]

    def record(self) -> dict[str, Any]:
        """As records of evaluations have it."""
        return {"truth": self.digest, "truth_sketch": [*self.sketch]}


def print_of(shape: Sequence[int], valid: Tensor, pixels: Iterable[Tensor]) -> TruthPrint:
    """The print of true frames of ``shape`` (V, T, 3, H, W), uint8, that come some at a time, (n, 3, H, W) or (V, T, 3, H, W).

    valid: (V, T) bool.
    """
    digest = hashlib.blake2b(str(tuple(shape)).encode(), digest_size=8)
    digest.update(valid.cpu().contiguous().numpy().data)
    projected, places = torch.zeros(SKETCH, dtype=torch.float64), enumerate(valid.flatten().tolist())
    signs = _signs(math.prod(shape[-3:]))
    for x in pixels:
        some = x.cpu().contiguous()
        digest.update(some.numpy().data)
        for frame in some.flatten(0, -4):
            index, is_valid = next(places)
            if is_valid:
                projected += _signs_of_frame(index) * (signs @ (frame.flatten().float() - 127.5)).double()
    sketch = projected / math.sqrt(max(1, math.prod(shape)))
    return TruthPrint(digest.hexdigest(), tuple(round(value, 4) for value in sketch.tolist()))


@lru_cache(maxsize=1)
def _signs(count: int) -> Tensor:
    """(SKETCH, count) of -1 and 1: one for every value of a frame."""
    drawn = torch.randint(2, (SKETCH, count), generator=generator("truth_sketch", count), dtype=torch.int8)
    return 2.0 * drawn - 1.0


@lru_cache(maxsize=1024)
def _signs_of_frame(index: int) -> Tensor:
    """(SKETCH) of -1 and 1: of every frame one."""
    drawn = torch.randint(2, (SKETCH,), generator=generator("truth_sketch", "frame", index))
    return 2.0 * drawn.double() - 1.0


def is_same_truth(a: Mapping[str, Any], b: Mapping[str, Any]) -> bool:
    """Whether two clips' records are of the same true frames, but for rounding. Records of earlier versions, which say nothing of
    them, are taken to be; some say the digest alone.
    """
    if None in (a.get("truth"), b.get("truth")) or a["truth"] == b["truth"]:
        return True
    ours, theirs = a.get("truth_sketch"), b.get("truth_sketch")
    if not ours or not theirs or len(ours) != len(theirs):
        return False
    mean_square = sum((x - y) ** 2 for x, y in zip(ours, theirs, strict=True)) / len(ours)
    return mean_square <= SAME
