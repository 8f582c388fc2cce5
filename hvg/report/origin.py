"""Origin of a study's numbers: commit, hardware, precision and time of every seed."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from hvg.config.precision import NAMES
from hvg.report.results import Arm, Results, SeedResult

# Digits of a commit that people read.
COMMIT_DIGITS = 8


@dataclass(frozen=True)
class Origin:
    """Commit, hardware and precision of models' training and scoring; several values are joined in one text."""

    commit: str
    hardware: str
    precision: str

    def __str__(self) -> str:
        return f"commit {self.commit}, {self.hardware}, {self.precision}"


def origins(arms: Sequence[Arm]) -> dict[int, Origin]:
    """Seed -> where its numbers are from; seeds of which that is not known are left out."""
    models: dict[int, list[SeedResult]] = {}
    for model in (model for arm in arms for model in arm["seeds"] if "measured" in model):
        models.setdefault(model["seed"], []).append(model)
    return {seed: _origin(models[seed]) for seed in sorted(models)}


def _origin(models: Sequence[SeedResult]) -> Origin:
    places = [model["measured"] for model in models if "measured" in model]
    return Origin(
        commit=_joined(f"`{short_commit(place['commit'])}`" for place in places),
        hardware=_joined(place["hardware"] for place in places),
        precision=_joined(_in_words(model.get("precision")) for model in models),
    )


def work(results: Results) -> dict[int, float]:
    """Seed -> seconds of training and scoring, one arm after another, and of what they start from; seeds of which that is not
    known are left out.
    """
    found: dict[int, float] = {}
    models = [model for arm in (*results["arms"], *results.get("needs", [])) for model in arm["seeds"]]
    for model in (model for model in models if "measured" in model):
        found[model["seed"]] = found.get(model["seed"], 0.0) + sum(model["measured"]["seconds"].values())
    return found


def measured_lines(results: Results) -> list[str]:
    """``Measured at commit ...``: a sentence for all seeds that share everything, with what each of them took."""
    seconds, shared = work(results), dict[Origin, list[int]]()
    for seed, origin in origins(results["arms"]).items():
        shared.setdefault(origin, []).append(seed)
    lines = []
    for origin, seeds in shared.items():
        took = ", ".join(duration(seconds[seed]) for seed in seeds)
        lines.append(f"{_seeds(seeds)} measured at {origin}; {took} of work.")
    return lines


def mixed_origins(arms: Sequence[Arm]) -> list[str]:
    """A note where models were not all measured by one commit, on one kind of hardware; precisions are noted elsewhere."""
    found = origins(arms)
    if len({(origin.commit, origin.hardware) for origin in found.values()}) < 2:
        return []
    places = "; ".join(f"seed {seed}: commit {origin.commit}, {origin.hardware}" for seed, origin in found.items())
    return [f"seeds were measured at different places ({places})"]


def seed_provenance(arms: Sequence[Arm], seeds: Sequence[int], precision: str) -> dict[str, Any]:
    """Record for a report of where the seeds' numbers are from. seeds: those of the study, finished or not."""
    places = {f"seed {seed}": str(origin) for seed, origin in origins(arms).items()}
    return {"seeds": list(seeds), "precision": precision, "measured": places}


def short_commit(commit: str) -> str:
    """Shortened commit, with the mark of changed files."""
    name, plus, changes = commit.partition("+")
    return f"{name[:COMMIT_DIGITS]}{plus}{changes}"


def duration(seconds: float) -> str:
    """``33 min``, ``12 s`` below two minutes, ``2.5 h`` from two hours on."""
    if seconds >= 7200:
        return f"{seconds / 3600:.1f} h"
    return f"{seconds / 60:.0f} min" if seconds >= 120 else f"{seconds:.0f} s"


def _in_words(precision: str | None) -> str:
    """``float32``, or one after another, of ``hvg.config.precision.trained_in``."""
    names: dict[str, str] = {str(name): words for name, words in NAMES.items()}
    parts = (precision or "precision not known").split(", then ")
    return ", then ".join(names.get(part, part) for part in parts)


def _seeds(seeds: Sequence[int]) -> str:
    return f"Seed {seeds[0]}" if len(seeds) == 1 else f"Seeds {', '.join(map(str, seeds))}"


def _joined(words: Iterable[str]) -> str:
    return " and ".join(dict.fromkeys(words))
