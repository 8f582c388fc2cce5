"""Speed of a run and how its time is spent: values of steps, which add up, and the clock that takes them."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from typing import Any, Literal, get_args

# Names of logged quantities begin with it. They differ from run to run, where losses do not.
PREFIX = "throughput/"
# Uses of time besides computing: waiting for the next batch; saving a checkpoint; validating.
Stall = Literal["data", "save", "validate"]


@dataclass(frozen=True, kw_only=True)
class Throughput:
    """Work that training steps did, and the time they took; throughputs of several steps add up.

    images: clips x views x frames that hold something, of all processes. seconds: of the steps; data_seconds, in which
    they waited for a batch, are a part of them. save_seconds and validate_seconds lie between steps: with ``seconds`` they add up
    to wall time. flops: model FLOPs of one device; None where those of a step are unknown.
    """

    steps: int = 0
    images: float = 0.0
    flops: float | None = 0.0
    seconds: float = 0.0
    data_seconds: float = 0.0
    save_seconds: float = 0.0
    validate_seconds: float = 0.0

    def __add__(self, other: "Throughput") -> "Throughput":
        sums: dict[str, Any] = {
            field.name: _sum(getattr(self, field.name), getattr(other, field.name)) for field in fields(self)
        }
        return Throughput(**sums)

    @property
    def wall_seconds(self) -> float:
        """Seconds of the steps and of what lies between them."""
        return self.seconds + self.save_seconds + self.validate_seconds

    @property
    def steps_per_second(self) -> float:
        """Steps per second of training itself, without what lies between steps; 0 before the first step."""
        return _ratio(self.steps, self.seconds)

    @property
    def images_per_second(self) -> float:
        """Images of all processes, by the same seconds."""
        return _ratio(self.images, self.seconds)

    @property
    def tflops(self) -> float | None:
        """Model TFLOP/s of one device; None where FLOPs are unknown."""
        return None if self.flops is None or not self.steps else _ratio(self.flops, self.seconds) / 1e12

    def utilisation(self, peak: float | None) -> float | None:
        """Model FLOPs utilisation in [0, 1] of a device that does ``peak`` FLOP/s; None where either is unknown.

        Source: PaLM (arXiv 2204.02311), appendix B. Waiting for data counts against it, what lies between steps does not. A
        device that does more than its peak, which was measured while others worked, has 1.
        """
        return None if self.tflops is None or peak is None else min(1.0, 1e12 * self.tflops / peak)

    def rates(self, peak: float | None) -> dict[str, float]:
        """Name -> value, to four digits. Shares are in [0, 1]: that of data of the steps' time, the others of wall time."""
        found = {
            "seconds_per_step": _ratio(self.seconds, self.steps),
            "images_per_second": self.images_per_second,
            "data_share": _ratio(self.data_seconds, self.seconds),
            "save_share": _ratio(self.save_seconds, self.wall_seconds),
            "validate_share": _ratio(self.validate_seconds, self.wall_seconds),
            "tflops_per_device": self.tflops,
            "mfu": self.utilisation(peak),
        }
        return {name: float(f"{value:.4g}") for name, value in found.items() if value is not None}


@dataclass(frozen=True, kw_only=True)
class StepReport:
    """Report on a run after step ``step`` of ``steps``, in the stage of a label, "" where it has none.

    loss: of the newest logged step, None before it: to read it takes a GPU's queue of work to its end. recent: of the
    last few steps. total: since the process started. peak: FLOP/s of the device, None where unknown.
    """

    step: int
    steps: int
    loss: float | None
    recent: Throughput
    total: Throughput
    peak: float | None
    stage: str = ""

    @property
    def note(self) -> str:
        """One line: stage, speeds and the wait for data lately, the share of saving and validating since the start, the loss."""
        recent, total = self.recent, self.total
        utilisation = recent.utilisation(self.peak)
        parts = [
            f"{self.stage}:" if self.stage else "",
            f"{_short(recent.steps_per_second)} steps/s {_short(recent.images_per_second)} img/s",
            f"{_percent(utilisation)} MFU" if utilisation is not None else "",
            f"data {_percent(_ratio(recent.data_seconds, recent.seconds))}",
            f"save {_percent(total.save_seconds / total.wall_seconds)}" if total.save_seconds else "",
            f"validate {_percent(total.validate_seconds / total.wall_seconds)}" if total.validate_seconds else "",
            f"loss {self.loss:.3f}" if self.loss is not None else "",
        ]
        return " ".join(filter(None, parts))


class Meter:
    """Takes the time of steps. ``clock``: gives seconds; only their differences matter."""

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock = clock
        self._began: dict[Stall, float] = {}
        self.start()

    def start(self) -> None:
        """The first step begins."""
        self._spent: dict[Stall, float] = dict.fromkeys(get_args(Stall), 0.0)
        self._since = self._clock()

    def begin(self, stall: Stall) -> None:
        """From now on time goes to ``stall``, until ``end``."""
        self._began[stall] = self._clock()

    def end(self, stall: Stall) -> None:
        """Raises: KeyError where it had not begun."""
        self._spent[stall] += self._clock() - self._began.pop(stall)

    @contextmanager
    def during(self, stall: Stall) -> Iterator[None]:
        """Time inside goes to ``stall``."""
        self.begin(stall)
        try:
            yield
        finally:
            self.end(stall)

    def lap(self, *, steps: int, images: float, flops: float | None) -> Throughput:
        """All that happened since the last lap. Between laps there is no gap, so that they add up to wall time."""
        spent, since = self._spent, self._since
        self.start()
        beside = sum(seconds for stall, seconds in spent.items() if stall != "data")
        each: dict[str, Any] = {f"{stall}_seconds": seconds for stall, seconds in spent.items()}
        return Throughput(steps=steps, images=images, flops=flops, seconds=self._since - since - beside, **each)


def _sum(a: float | None, b: float | None) -> float | None:
    return None if a is None or b is None else a + b


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole else 0.0


def _short(value: float) -> str:
    """Three digits that matter, without an exponent for large numbers."""
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"
