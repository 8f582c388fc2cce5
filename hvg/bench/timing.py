"""Times of a call, and of two ways of doing one thing: in turns in one process, under one setting that both are seen to have."""

import statistics
import time
import timeit
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn.modules.module import register_module_forward_pre_hook

from hvg.core.errors import HvgError

# Fewer pairs than this have no spread to speak of, however long each takes.
FEWEST_PAIRS = 5


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Torch with so many threads inside, and as many as before outside."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def one_thread():
    """Torch with one thread inside."""
    return threads(1)


def median_seconds(function: Callable[[], object], runs: int) -> float:
    """Median wall time of ``runs`` calls, after one that is not counted."""
    function()
    return statistics.median(timeit.repeat(function, number=1, repeat=runs))


@dataclass(frozen=True, kw_only=True)
class Setting:
    """Arithmetic of one side, as it was seen while it ran.

    precision: of products of matrices, in words. deterministic: whether torch was told to keep to kernels that repeat their bits.
    gradients: whether they were recorded. weights: how many its network has, 0 where there is none.
    """

    precision: str
    threads: int
    device: str
    deterministic: bool
    gradients: bool
    weights: int = 0

    @property
    def words(self) -> str:
        """One line for a table."""
        count = f"{self.threads} thread{'s' if self.threads > 1 else ''}"
        return ", ".join([self.precision, count if self.device == "cpu" else self.device])


def setting_now(network: nn.Module | None = None) -> Setting:
    """The setting at this moment; of a network that is about to run, where one is given."""
    weight = None if network is None else next(network.parameters(), None)
    device = "cpu" if weight is None else weight.device.type
    kind = torch.get_default_dtype() if weight is None else weight.dtype
    cast = f"{_short(torch.get_autocast_dtype(device))} autocast" if torch.is_autocast_enabled(device) else ""
    return Setting(
        precision=cast or _short(kind),
        threads=torch.get_num_threads(),
        device=device,
        deterministic=torch.are_deterministic_algorithms_enabled(),
        gradients=torch.is_grad_enabled(),
        weights=0 if network is None else sum(x.numel() for x in network.parameters()),
    )


def _short(kind: torch.dtype) -> str:
    return {torch.bfloat16: "bf16", torch.float16: "fp16"}.get(kind, str(kind).removeprefix("torch."))


@contextmanager
def watched(network: type[nn.Module] | None) -> Iterator[list[Setting]]:
    """The settings under which networks of a class run inside, each once; of no class, the one at the beginning."""
    found: list[Setting] = [] if network else [setting_now()]

    def look(module: nn.Module, inputs: object) -> None:
        if network is not None and isinstance(module, network):
            setting = setting_now(module)
            if setting not in found:
                found.append(setting)

    hook = register_module_forward_pre_hook(look)
    try:
        yield found
    finally:
        hook.remove()


def one_setting(name: str, ours: Sequence[Setting], theirs: Sequence[Setting]) -> Setting:
    """The setting that both sides of a comparison had. Raises: HvgError where they, or the runs of one, had different ones."""
    for side, found in (("ours", ours), ("the other side", theirs)):
        if len(found) != 1:
            raise HvgError(f"{name}: {side} was seen under {len(found)} settings, not one: {list(found)}")
    if ours[0] != theirs[0]:
        mine, others = vars(ours[0]), vars(theirs[0])
        apart = [f"{key} {mine[key]} and {others[key]}" for key in mine if mine[key] != others[key]]
        raise HvgError(f"{name}: the two sides do not have one setting: {', '.join(apart)}")
    return ours[0]


@dataclass(frozen=True)
class Side:
    """One way of doing it. network: the class of what computes, which is watched; None where no network does."""

    run: Callable[[], object]
    network: type[nn.Module] | None = None


@dataclass(frozen=True, kw_only=True)
class Ratio:
    """Times of two sides that took turns. ours, theirs: medians, seconds. ratio: median of the pairs' ratios; low, high: their
    quartiles. clock: which seconds, of the processor or on the wall.
    """

    ours: float
    theirs: float
    ratio: float
    low: float
    high: float
    pairs: int
    clock: str
    setting: Setting

    @classmethod
    def of(cls, ours: Sequence[float], theirs: Sequence[float], clock: str, setting: Setting) -> "Ratio":
        """From the seconds of pairs. Raises: ValueError for none, or sides of different lengths."""
        ratios = [a / b for a, b in zip(ours, theirs, strict=True)]
        low, middle, high = statistics.quantiles(ratios, n=4) if len(ratios) > 1 else ratios * 3
        return cls(
            ours=statistics.median(ours),
            theirs=statistics.median(theirs),
            ratio=middle,
            low=low,
            high=high,
            pairs=len(ratios),
            clock=clock,
            setting=setting,
        )


def clock_for(setting: Setting) -> tuple[str, Callable[[], float]]:
    """The clock under a setting: of one thread its processor's time, which other processes change little; else the wall's."""
    if setting.device == "cpu" and setting.threads == 1:
        return "processor time", time.process_time

    def wall() -> float:
        if setting.device == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter()

    return "wall time", wall


def compare(name: str, ours: Side, theirs: Side, *, pairs: int, seconds: float) -> Ratio:
    """Times both sides in turns, after a call of each that is not counted and in which its setting is seen.

    pairs: at most; seconds: after which no more than ``FEWEST_PAIRS`` are taken. Raises: HvgError where settings differ.
    """
    seen = []
    for side in (ours, theirs):
        with watched(side.network) as found:
            side.run()
        seen.append(found)
    setting = one_setting(name, *seen)
    clock, now = clock_for(setting)
    times: tuple[list[float], list[float]] = ([], [])
    began = time.perf_counter()
    for number in range(pairs):
        if number >= FEWEST_PAIRS and time.perf_counter() - began > seconds:
            break
        # Whoever comes second finds the caches as the first one left them.
        for place in (0, 1) if number % 2 == 0 else (1, 0):
            started = now()
            (ours, theirs)[place].run()
            times[place].append(now() - started)
    return Ratio.of(*times, clock, setting)
