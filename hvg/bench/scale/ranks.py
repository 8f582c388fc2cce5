"""How a step changes with the number of GPUs under every strategy, where each stops scaling, and why."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import get_args

from hvg.bench.scale.links import Machine, StepTime, step_time
from hvg.config.settings import RunConfig
from hvg.cost.forecast import Counts, Forecast, divide

RANKS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096)
# A strategy scales while a GPU computes for this share of a step, and while one more doubling takes this share off its memory.
ENOUGH, LESS_MEMORY = 0.8, 0.02


@dataclass(frozen=True)
class AtRanks:
    """A step on so many GPUs. growing: of a batch that grows with them. fixed: of one that is shared out; None where there are
    more GPUs than clips.
    """

    ranks: int
    forecast: Forecast
    growing: StepTime
    fixed: StepTime | None


@dataclass(frozen=True)
class Limit:
    """Where a strategy stops scaling. fits: fewest GPUs on each of which a step fits; None: none. growing, fixed: most GPUs at
    which it scales, and why no more.
    """

    strategy: str
    fits: int | None
    growing: tuple[int, str]
    fixed: tuple[int, str]


def strategies(config: RunConfig) -> list[str]:
    """Every strategy of several GPUs that there is."""
    known = get_args(type(config.strategy).model_fields["name"].annotation)
    return [name for name in known if name != "single"]


def over_ranks(
    counts: Counts, config: RunConfig, strategy: str, machine: Machine, clips: int, ranks: Sequence[int] = RANKS
) -> list[AtRanks]:
    """A strategy's step on every number of GPUs. clips: of the batch that is shared out."""
    chosen = config.strategy.model_copy(update={"name": strategy, "offload": "none"})
    changed, found = config.model_copy(update={"strategy": chosen}), []
    counted = config.data.batch_size * config.training.accumulate
    for number in ranks:
        forecast = divide(counts, changed, number)
        # Each has whole clips, so that the fullest decides.
        share = -(-clips // number) / counted
        fixed = step_time(forecast, chosen, machine, share) if number <= clips else None
        found.append(AtRanks(number, forecast, step_time(forecast, chosen, machine), fixed))
    return found


def limit(strategy: str, found: Sequence[AtRanks], machine: Machine, clips: int) -> Limit:
    """Where it stops, from its steps in the order of their ranks."""
    fitting = [x.ranks for x in found if x.forecast.total is None or x.forecast.total <= 1e9 * machine.memory]
    growing = _last([(x.ranks, x.growing) for x in found], machine, "")
    shared = [(x.ranks, x.fixed) for x in found if x.fixed is not None]
    fixed = _last(shared, machine, f"a batch of {clips} clips feeds no more; frames or views would have to be divided")
    return Limit(strategy, min(fitting, default=None), growing, fixed)


def _last(steps: Sequence[tuple[int, StepTime]], machine: Machine, ends: str) -> tuple[int, str]:
    """Most ranks up to which every step scales, and what stops it. ends: why there are no more steps."""
    last = steps[0][0]
    for ranks, step in steps:
        if step.efficiency < ENOUGH:
            return last, _why(ranks, step, machine)
        last = ranks
    return last, ends or f"nothing up to there: {_hidden(steps[-1][1])}"


def _why(ranks: int, step: StepTime, machine: Machine) -> str:
    link = (
        f"{machine.bandwidth(ranks):g} GB/s {'inside a machine' if ranks <= machine.per_node else 'between machines'}"
    )
    return (
        f"on {ranks} GPUs communication takes {_seconds(step.communication)} at {link}, of which a backward pass of "
        f"{_seconds(step.backward)} hides too little: {step.communication / step.compute:.2g} times the {_seconds(step.compute)} "
        "of compute"
    )


def _hidden(step: StepTime) -> str:
    return f"communication takes {_seconds(step.communication)}, a backward pass that may hide it {_seconds(step.backward)}"


def _seconds(value: float) -> str:
    return f"{value:.2g} s" if value >= 1 else f"{1e3 * value:.2g} ms"


def memory_stops(found: Sequence[AtRanks]) -> int:
    """Ranks from which on more GPUs leave a GPU's memory as it is."""
    sizes = [(x.ranks, x.forecast.total or 0) for x in found]
    for (ranks, before), (_, after) in pairwise(sizes):
        if after > (1 - LESS_MEMORY) * before:
            return ranks
    return sizes[-1][0]
