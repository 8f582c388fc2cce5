"""What this machine can run of it: real steps along each axis, their tensors' bytes, and what a rank of a few sends."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from hvg.bench.job import Job
from hvg.bench.scale.growth import Point
from hvg.bench.timing import one_thread
from hvg.config.settings import RunConfig
from hvg.cost.dry_run import holdings
from hvg.cost.forecast import divide, forecast

# Seconds for which each step is repeated.
REPEAT = 2.0


@dataclass(frozen=True)
class MeasuredStep:
    """A step that was taken. expected: seconds by its FLOPs, at the speed of all of them. memory, forecast: bytes."""

    point: Point
    seconds: float
    expected: float
    memory: int
    forecast: int


@dataclass(frozen=True)
class MeasuredRank:
    """What a rank of real objects on shapes sent and held, and what was forecast; bytes."""

    strategy: str
    ranks: int
    sent: int
    sent_forecast: int
    peak: int
    peak_forecast: int


def measured_steps(
    points: Sequence[Point], repeat: float = REPEAT, report: Callable[[int, int], None] = lambda done, total: None
) -> list[MeasuredStep]:
    """Each point's step with random weights on this machine, one thread. Speed is fitted: the one number that is not counted."""
    taken: list[tuple[Point, float, int]] = []
    # Each point once, whatever axes it is on.
    known: dict[str, tuple[float, int]] = {}
    with one_thread():
        for done, point in enumerate(points, start=1):
            key = point.config.to_yaml()
            if key not in known:
                known[key] = _step(point.config, repeat)
            taken.append((point, *known[key]))
            report(done, len(points))
    flops = [_flops(point) for point, *_ in taken]
    speed = sum(flops) / sum(seconds for _, seconds, _ in taken)
    return [
        MeasuredStep(point, seconds, count / speed, memory, divide(point.counts, point.config, 1).total or 0)
        for (point, seconds, memory), count in zip(taken, flops, strict=True)
    ]


def _step(config: RunConfig, repeat: float) -> tuple[float, int]:
    """Seconds of a step, and most bytes alive in it."""
    job = Job(config, torch.device("cpu"), repeat)
    batch = job.batch((config.data.views, config.data.frames), config.data.batch_size, latents=False)
    step = job.step()
    return job.seconds(lambda: step(batch)), job.alive(batch)


def _flops(point: Point) -> int:
    flops = point.counts.flops
    if flops is None:
        raise ValueError("the FLOPs of a step are unknown")
    return flops.total


def measured_ranks(
    config: RunConfig,
    strategies: Sequence[str],
    ranks: Sequence[int],
    report: Callable[[int, int], None] = lambda done, total: None,
) -> list[MeasuredRank]:
    """What the first rank of so many sends and holds, built and stepped on shapes as ``hvg train dry_run=`` does."""
    found, asked = [], [(name, number) for name in strategies for number in ranks]
    for done, (name, number) in enumerate(asked, start=1):
        chosen = config.strategy.model_copy(update={"name": name, "offload": "none"})
        changed = config.model_copy(update={"strategy": chosen})
        real, told = holdings(changed, 0, number), forecast(changed, number)
        found.append(MeasuredRank(name, number, real.sent, told.traffic.bytes, real.peak, told.total or 0))
        report(done, len(asked))
    return found
