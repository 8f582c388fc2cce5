"""A clip that is too large to be held: its files are read again, piece by piece along time, whenever it is looked at."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from hvg.values.scored_clip import ScoredClip
from hvg.values.tensors import change
from hvg.values.truth_print import TruthPrint

# Bytes of 8-bit pictures, of all views and of prediction, truth and mask together, above which a clip is not held whole,
# and of a piece of one that is not. Metrics take several times that while they look at a piece.
HELD_BYTES = 2**28
# A piece has a multiple of so many frames where that fits, so that networks see the frames of one view in the same groups
# as in a clip that is held: their numbers are the same to the last bit.
FRAMES_TOGETHER = 16
# Fields that have an axis of time.
_IN_TIME = ("prediction", "truth", "valid", "alpha")


def frames_in_piece(bytes_per_frame: int) -> int:
    """Number of frames in a piece. bytes_per_frame: of all views, of all that is read."""
    fit = max(1, HELD_BYTES // bytes_per_frame)
    return fit // FRAMES_TOGETHER * FRAMES_TOGETHER or fit


@dataclass(frozen=True, kw_only=True)
class LongClip:
    """A clip too large to hold in memory: its facts, and how it is read; every frame of it is valid.

    grid: (V, T). size: (height, width) of the truth. truth_print, note: as of ``ScoredClip``. read: ``read(views)`` opens the
    files of these views and gives the clip in pieces, in order.
    """

    clip_id: str
    subject: str
    grid: tuple[int, int]
    size: tuple[int, int]
    truth_print: TruthPrint
    note: str
    read: Callable[[Sequence[int]], Iterator[ScoredClip]]

    def pieces(self, before: int = 0, views: Sequence[int] | None = None) -> Iterator[ScoredClip]:
        """All frames in order. before: so many frames of the piece before come first in each piece but the first."""
        last: ScoredClip | None = None
        for piece in self.read(range(self.grid[0]) if views is None else views):
            joined = piece if last is None else join([last, piece])
            yield joined
            last = _last_frames(joined, before) if before else None

    def require(self, names: Iterable[str]) -> None:
        """Raises: NotAvailable naming the fields that the clip does not hold."""
        asked = list(names)
        if asked:
            next(self.read([0])).require(asked)

    def map(self, change: Callable[[ScoredClip], ScoredClip]) -> "LongClip":
        """The same clip with every piece changed."""
        return replace(self, read=lambda views: map(change, self.read(views)))

    def to(self, device: torch.device | str) -> "LongClip":
        """The same clip, whose pieces are moved to a device."""
        return self.map(lambda piece: piece.to(device))

    def whole(self) -> ScoredClip:
        """All of it at once, for what cannot look at pieces; takes the memory of all its frames, twice."""
        return join(list(self.pieces()))


def join(pieces: Sequence[ScoredClip]) -> ScoredClip:
    """Pieces of one clip, one after another in time."""
    held = [name for name in _IN_TIME if getattr(pieces[0], name) is not None]
    return replace(pieces[0], **{name: _joined([getattr(piece, name) for piece in pieces]) for name in held})


def _joined(parts: Sequence[Tensor]) -> Tensor:
    """(V, T, ...) along time, laid out in memory as the parts are: the last bits of sums depend on it."""
    if parts[0].ndim == 5 and parts[0].stride(2) == 1:
        return torch.cat([part.movedim(2, -1) for part in parts], dim=1).movedim(-1, 2)
    return torch.cat(list(parts), dim=1)


def _last_frames(clip: ScoredClip, count: int) -> ScoredClip:
    # Copied, or the whole piece would stay in memory with its end.
    return change(clip, _IN_TIME, lambda x: x[:, -count:].clone())
