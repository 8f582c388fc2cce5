"""Rows of ``hvg bench peers``: what is compared, and what it needs to be measured."""

import importlib.util
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from hvg.bench.timing import Ratio, Side, compare, threads
from hvg.config.precision import Precision
from hvg.core.errors import HvgError

# A row's ratio is to stay below; of shards, which check every file and hold more than pictures.
GOAL, SHARDS_GOAL = 1.03, 1.10


@dataclass(frozen=True, kw_only=True)
class How:
    """One arithmetic for both sides of every row. pairs: of runs that take turns, at most; seconds: for a row, about."""

    precision: Precision = "32"
    threads: int = 1
    pairs: int = 11
    seconds: float = 15.0

    @contextmanager
    def arithmetic(self) -> Iterator[None]:
        """Everything inside computes so."""
        with ExitStack() as inside:
            inside.enter_context(threads(self.threads))
            inside.enter_context(torch.autocast("cpu", torch.bfloat16, enabled=self.precision == "bf16"))
            yield

    def compare(self, name: str, ours: Side, theirs: Side) -> Ratio:
        """As of ``hvg.bench.timing.compare``."""
        return compare(name, ours, theirs, pairs=self.pairs, seconds=self.seconds)


@dataclass(frozen=True, kw_only=True)
class Row:
    """One comparison. name: its group, and what tells it from the others of that. ours, theirs: in words. what: on which inputs.

    goal: what its ratio is to stay below. needs: packages that may not be there; install: the command that brings them.
    """

    name: str
    ours: str
    theirs: str
    what: str
    measure: Callable[[How], Ratio]
    goal: float = GOAL
    needs: tuple[str, ...] = ()
    install: str = ""

    @property
    def group(self) -> str:
        """The word by which ``rows=`` asks for it."""
        return self.name.partition(" ")[0]

    @property
    def missing(self) -> tuple[str, ...]:
        """Packages that it needs and that are not there."""
        return tuple(name for name in self.needs if importlib.util.find_spec(name) is None)

    @property
    def command(self) -> str:
        """What measures it where it cannot be measured here."""
        return f"{self.install} && hvg bench peers rows={self.group}"


def require_equal(name: str, ours: Tensor, theirs: Tensor, tolerance: float) -> None:
    """Raises: HvgError where the two sides do not give the same, to a share ``tolerance`` of the largest value."""
    if ours.shape != theirs.shape:
        raise HvgError(f"{name}: the two sides give other shapes, {tuple(ours.shape)} and {tuple(theirs.shape)}")
    apart = float((ours.float() - theirs.float()).abs().max() / theirs.float().abs().max().clamp_min(1e-12))
    # Not a number is not small, either.
    if not apart <= tolerance:
        raise HvgError(f"{name}: the two sides do not give the same: they are {apart:.2g} of the largest value apart")
