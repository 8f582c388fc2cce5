"""Search space of a sweep: overrides with several values, in Hydra's sweep grammar, as parameters of a search."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from hydra.core.override_parser.types import ChoiceSweep, IntervalSweep, Override, RangeSweep

from hvg.config.overrides import MOST_RUNS, parse_overrides, sweep_count
from hvg.core.errors import ConfigError, Problem

# Settings that a sweep sets itself for every trial.
RESERVED = {
    "name": "every trial has a folder of its own",
    "output": "a sweep has one folder",
    "resume": "a trial resumes",
}


@dataclass(frozen=True)
class Numbers:
    """A number in [low, high]. log: searched by its logarithm. step: distance of neighbours. whole: integers alone."""

    key: str
    low: float
    high: float
    log: bool = False
    step: float | None = None
    whole: bool = False

    def word(self, value: float) -> str:
        """The override that sets it to ``value``."""
        if self.step is not None and not self.whole:
            # Counted in decimals: three steps of 0.1 are 0.3.
            low, step = Decimal(str(self.low)), Decimal(str(self.step))
            value = float(low + round((Decimal(str(value)) - low) / step) * step)
        return f"{self.key}={int(value) if self.whole else float(value)!r}"

    def samples(self) -> tuple[float, ...]:
        """Values that stand for all others when the configurations are judged."""
        return (self.low, self.high)


@dataclass(frozen=True)
class Choices:
    """One of several values, as an override writes them."""

    key: str
    values: tuple[str, ...]

    def word(self, value: str) -> str:
        """The override that sets it to ``value``."""
        return f"{self.key}={value}"

    def samples(self) -> tuple[str, ...]:
        """Values that stand for all others when the configurations are judged."""
        return self.values


Parameter = Numbers | Choices


def read_space(overrides: Sequence[str]) -> tuple[tuple[Parameter, ...], tuple[str, ...]]:
    """The parameters that a sweep varies, and the words that all trials share.

    overrides: Hydra's grammar: ``interval(1e-4, 1e-2)``, ``tag(log, interval(1e-4, 1e-2))``, ``int(interval(1, 8))``,
    ``range(1, 9, 2)``, ``choice(a, b)`` and ``a,b``.
    Raises: ConfigError with all problems, also when nothing varies.
    """
    parsed, problems = parse_overrides(overrides)
    problems += [
        Problem(key, f"cannot be set by a sweep: {RESERVED[key]}.")
        for override in parsed
        if (key := override.key_or_group) in RESERVED and (key == "resume" or override.is_sweep_override())
    ]
    keys = [override.key_or_group for override in parsed if override.is_sweep_override()]
    given = [override.key_or_group for override in parsed]
    problems += [Problem(key, "is given twice.") for key in dict.fromkeys(keys) if given.count(key) > 1]
    parameters, fixed = [], []
    for override in parsed:
        if not override.is_sweep_override():
            fixed.append(str(override.input_line))
            continue
        parameter, found = _parameter(override)
        parameters += [parameter] if parameter else []
        problems += found
    if not keys and not problems:
        problems.append(Problem("", "nothing varies; give an override several values, as pose=bone_map,skeleton."))
    if problems:
        raise ConfigError(problems)
    return tuple(parameters), tuple(fixed)


def space_from_plain(plain: Sequence[Mapping[str, Any]]) -> tuple[Parameter, ...]:
    """The search space from the fields of its parameters, as JSON holds them."""
    return tuple(Choices(p["key"], tuple(p["values"])) if "values" in p else Numbers(**p) for p in plain)


def _parameter(override: Override) -> tuple[Parameter | None, list[Problem]]:
    key, value = override.get_key_element(), override.value()
    if isinstance(value, IntervalSweep):
        return _interval(key, value)
    if isinstance(value, RangeSweep):
        return _range(key, value, override)
    if not isinstance(value, ChoiceSweep):
        return None, [Problem(key, f"'{override.input_line}' cannot be searched; list the values, as {key}=a,b.")]
    if problems := _tag_problems(key, value):
        return None, problems
    return Choices(key, tuple(dict.fromkeys(override.sweep_string_iterator()))), []


def _interval(key: str, value: IntervalSweep) -> tuple[Parameter | None, list[Problem]]:
    low, high = value.start, value.end
    assert low is not None and high is not None
    problems = _tag_problems(key, value, ("log",))
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        problems.append(
            Problem(key, f"interval({low}, {high}) is empty or unbounded; the first bound is the lower one.")
        )
    elif "log" in value.tags and low <= 0:
        problems.append(Problem(key, f"interval({low}, {high}) has no logarithm at {low}; begin above 0."))
    if problems:
        return None, problems
    return Numbers(key, low, high, log="log" in value.tags, whole=isinstance(low, int) and isinstance(high, int)), []


def _range(key: str, value: RangeSweep, override: Override) -> tuple[Parameter | None, list[Problem]]:
    problems, count = _tag_problems(key, value), sweep_count(override)
    shown, numbers = f"range({value.start}, {value.stop}, {value.step})", value.range() if count else ()
    whole = isinstance(numbers, range)
    if not problems and not count:
        problems.append(Problem(key, f"{shown} holds no number."))
    if count > MOST_RUNS and not whole:
        problems.append(Problem(key, f"{shown} holds {count} numbers; take interval({value.start}, {value.stop})."))
    if problems:
        return None, problems
    ends = (numbers[0], numbers[-1]) if isinstance(numbers, range) else tuple(numbers)
    return Numbers(key, min(ends), max(ends), step=abs(value.step), whole=whole), []


def _tag_problems(key: str, value: Any, known: Sequence[str] = ()) -> list[Problem]:
    problems = [
        Problem(key, f"tag '{tag}' means nothing here{'; only log does' if known else ''}.")
        for tag in sorted(value.tags - set(known))
    ]
    if getattr(value, "shuffle", False):
        problems.append(Problem(key, "shuffle means nothing here: the search has an order of its own."))
    return problems
