"""Overrides in Hydra's grammar: reading them, and the runs that a sweep of them asks for."""

import itertools
import math
import re
from collections.abc import Sequence
from fractions import Fraction
from functools import lru_cache

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, RangeSweep
from hydra.errors import HydraException

from hvg.config.settings import RENAMED
from hvg.core.errors import ConfigError, Problem

_RENAMED_KEY = re.compile(rf"^([+~]*(?:stages\.[\w-]+\.)?)({'|'.join(map(re.escape, RENAMED))})(?==|$)")
# Limit for one command line: a range says any number in a few letters.
MOST_RUNS = 10_000


def root_key(word: str) -> str:
    """The first name in an override: ``sampler`` of ``++sampler.views=4``."""
    return re.split(r"[.=/@]", word.lstrip("+~"))[0]


def expand_sweep(overrides: Sequence[str]) -> list[list[str]]:
    """Every combination of ``pose=bone_map,skeleton seed=0,1``, the last sweep varying fastest.

    Raises: ConfigError for overrides that cannot be read and for sweeps over continuous ranges (``interval``).
    """
    parsed, problems = parse_overrides(overrides)
    for override in parsed:
        if override.is_sweep_override() and not override.is_discrete_sweep():
            problems.append(Problem(override.get_key_element(), "only lists, range, choice and glob can be swept."))
    counts = {override.get_key_element(): sweep_count(override) for override in parsed if override.is_discrete_sweep()}
    problems += [Problem(key, "holds no value.") for key, count in counts.items() if not count]
    if math.prod(counts.values()) > MOST_RUNS:
        asked = " x ".join(f"{key} {count}" for key, count in counts.items())
        problems.append(
            Problem("", f"{asked} = {math.prod(counts.values())} runs are asked for; at most {MOST_RUNS} are.")
        )
    if problems:
        raise ConfigError(problems)
    return [list(combination) for combination in itertools.product(*map(_values, parsed))]


def sweep_count(override: Override) -> int:
    """Number of values in a list or range; those of a range are not made, which may be more than memory holds."""
    value = override.value()
    if not isinstance(value, RangeSweep):
        return sum(1 for _ in override.sweep_string_iterator())
    bounds = (value.start, value.stop, value.step)
    if not value.step or not all(bound is not None and math.isfinite(bound) for bound in bounds):
        return 0
    start, stop, step = (Fraction(bound) for bound in bounds if bound is not None)
    return max(0, math.ceil((stop - start) / step))


def _values(override: Override) -> list[str]:
    if not override.is_sweep_override():
        return [str(override.input_line)]
    return [f"{override.get_key_element()}={value}" for value in override.sweep_string_iterator()]


def parse_overrides(overrides: Sequence[str]) -> tuple[list[Override], list[Problem]]:
    """The overrides as Hydra's parser reads them, and a problem for each that it cannot read."""
    parsed, problems = [], []
    for text in overrides:
        try:
            parsed.append(parse_override(_RENAMED_KEY.sub(lambda found: found[1] + RENAMED[found[2]], text)))
        except HydraException as error:
            reason = str(error).splitlines()[0]
            problems.append(Problem(text, f"cannot be read as key=value: {reason}."))
    return parsed, problems


@lru_cache(maxsize=1024)
def parse_override(text: str) -> Override:
    """An override as Hydra's parser reads it. Raises: HydraException."""
    return OverridesParser.create().parse_override(text)


def text_of(override: Override) -> str:
    """The value as it was typed, where it is a number or a truth value for Hydra; else as Hydra reads it."""
    value = override.value()
    return str(override.input_line).partition("=")[2].strip() if isinstance(value, (bool, int, float)) else str(value)


def one_value_problem(override: Override) -> Problem | None:
    if override.is_sweep_override():
        return Problem(override.get_key_element(), f"several values in '{override.input_line}'; they need --multirun.")
    if override.key_or_group.split(".")[0] == "hydra" or override.key_or_group.startswith("hydra/"):
        return Problem(override.key_or_group, "Hydra's own settings have no effect on a run.")
    if override.value() == {} and not override.is_delete():
        key = override.key_or_group
        return Problem(key, f"{{}} adds nothing to what is there; ~{key} leaves it out.")
    return None
