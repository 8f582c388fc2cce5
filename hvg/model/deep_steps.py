"""At which steps of sampling the whole network looks at a window, and what its deep half made there is kept for the others.

Source: DeepCache (arXiv 2312.00858), with equal intervals. We differ: what is kept is of a window, for a cell is in several of
them; an interval is of evaluations, of which some solvers make two a step.
"""

from collections.abc import Hashable, Iterator
from contextlib import contextmanager

from hvg.core.errors import HvgError
from hvg.parts.backbone import DeepFeatures


class DeepSteps:
    """Deep features of what is denoised at the evaluations of a grid, which are counted from 0 by ``begin``.

    At every ``reuse``-th all of the network looks at every window. At those between, what was denoised since then, and what the
    guidance left out, is looked at again by its shallow half alone.
    """

    def __init__(self, reuse: int, room: float = float("inf")) -> None:
        """room: GiB that features may take."""
        self.reuse, self.room = reuse, room
        self._evaluation, self._bytes = -1, 0
        self._kept: dict[Hashable, DeepFeatures] = {}

    def begin(self) -> None:
        """Another evaluation of the whole grid begins."""
        self._evaluation += 1
        if self._evaluation % self.reuse == 0:
            self._kept, self._bytes = {}, 0

    @contextmanager
    def of(self, asked: Hashable) -> Iterator[DeepFeatures | None]:
        """The features of what is asked; empty where all of the network looks at it and fills them, None where none are wanted.

        Raises: HvgError where they take more room than there is.
        """
        last = self._evaluation % self.reuse == self.reuse - 1
        if last and asked not in self._kept:
            yield None
            return
        features = self._kept.setdefault(asked, DeepFeatures())
        before = features.nbytes()
        yield features
        self._bytes += features.nbytes() - before
        if self._bytes > self.room * 2**30:
            raise HvgError(
                f"evaluation.reuse={self.reuse}: the features that steps share take more than evaluation.kept_features="
                f"{self.room:g} GiB; give more, or smaller pictures, or reuse=1"
            )
