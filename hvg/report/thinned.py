"""Curves of bounded size, however long the run."""

from collections.abc import Sequence

# Points of a curve, at most: more than a chart has pixels for a dot each.
POINTS = 400


class Thinned:
    """A curve that takes points one by one and holds at most ``most``, the means of neighbours, all of equally many.

    When there are too many each takes in the one behind it, so that the whole is always about evenly resolved.
    """

    def __init__(self, most: int = POINTS) -> None:
        self._most, self._each = most, 1
        # Of each point: how many it is the mean of, and their sums of x and y.
        self._sums: list[tuple[int, float, float]] = []

    def add(self, x: float, y: float) -> None:
        """Takes a point; x has to rise."""
        if self._sums and self._sums[-1][0] < self._each:
            self._sums[-1] = _joined(self._sums[-1], (1, x, y))
            return
        if len(self._sums) == self._most:
            self._each *= 2
            self._sums = [_joined(*self._sums[i : i + 2]) for i in range(0, self._most, 2)]
            self.add(x, y)
            return
        self._sums.append((1, x, y))

    @property
    def points(self) -> Sequence[tuple[float, float]]:
        """The curve (x, y), in the order of x."""
        return [(round(x / count, 1), y / count) for count, x, y in self._sums]


def _joined(*sums: tuple[int, float, float]) -> tuple[int, float, float]:
    count, x, y = map(sum, zip(*sums, strict=True))
    return int(count), x, y
