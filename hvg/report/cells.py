"""Arms against the first one: differences, intervals, p-values, and who is ahead."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeGuard

from hvg.report.number_format import format_number, format_p
from hvg.report.results import SIGNIFICANCE, Arm, MetricInfo, Results, SeedResult, carries_verdict, value_of
from hvg.score.statistics import Interval, SeedValues, holm, jackknife_difference, paired_difference, wins


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One arm under one metric.

    value: mean over seeds and clips. seeds: value of every seed. difference: to the comparison arm over the seeds and clips
    that both have, None for itself, where none is common, and where a distance between sets says nothing of its spread.
    wins: subjects on which it beats the comparison arm; None for distances between sets. p: of the difference; p_holm:
    corrected for all rows that are compared under this metric; None where the difference is of one seed, which says nothing
    of the luck of a training run. verdict: the difference as good or bad where p_holm is below ``SIGNIFICANCE``. best: the
    arm that is better than every other arm, with p-values corrected for that many comparisons below it.
    """

    value: float
    seeds: dict[int, float]
    difference: Interval | None = None
    wins: int | None = None
    p: float | None = None
    p_holm: float | None = None
    verdict: Literal["better", "worse", ""] = ""
    best: bool = False


# Arm name -> metric name -> cell.
Cells = Mapping[str, Mapping[str, Cell]]


def comparison_arm(results: Results) -> Arm | None:
    """The first arm that is done; all differences are to it. None when every arm failed."""
    return next((arm for arm in results["arms"] if _is_contender(arm)), None)


def compare(results: Results) -> Cells:
    """The cell of every arm and baseline that is done, under every metric that it has."""
    table: dict[str, dict[str, Cell]] = {arm["name"]: {} for arm in results["arms"]}
    for metric in results["metrics"]:
        arms = [arm for arm in results["arms"] if arm["status"] == "done" and _has_metric(arm, metric["name"])]
        first = next((arm for arm in arms if _is_contender(arm)), None)
        found = {arm["name"]: _difference(arm, first, metric, results) for arm in arms if first and arm is not first}
        p_values = {name: difference.p for name, (difference, _) in found.items() if _decides(difference)}
        corrected = holm(p_values)
        best = _best(arms, metric, results) if carries_verdict(metric) else None
        for arm in arms:
            difference, won = found.get(arm["name"], (None, None))
            p_holm = corrected.get(arm["name"])
            table[arm["name"]][metric["name"]] = Cell(
                **_values(arm, metric["name"]),
                difference=difference,
                wins=won if carries_verdict(metric) else None,
                p=p_values.get(arm["name"]),
                p_holm=p_holm,
                verdict=_verdict(difference, p_holm, metric["higher_is_better"]) if carries_verdict(metric) else "",
                best=arm is best,
            )
    return table


def _decides(difference: Interval | None) -> TypeGuard[Interval]:
    """Whether a difference is over several seeds: one does not show the luck of training, over any number of people."""
    return difference is not None and difference.num_seeds > 1


def _is_contender(arm: Arm) -> bool:
    return arm["kind"] == "arm" and arm["status"] == "done"


def _has_metric(arm: Arm, metric: str) -> bool:
    return any(value_of(seed, metric) is not None for seed in arm["seeds"])


def _values(arm: Arm, metric: str) -> dict[str, Any]:
    seeds = {seed["seed"]: value for seed in arm["seeds"] if (value := value_of(seed, metric)) is not None}
    return {"value": sum(seeds.values()) / len(seeds), "seeds": seeds}


def _verdict(
    difference: Interval | None, p_holm: float | None, higher_is_better: bool
) -> Literal["better", "worse", ""]:
    if difference is None or p_holm is None or p_holm >= SIGNIFICANCE:
        return ""
    return "better" if (difference.mean > 0) == higher_is_better else "worse"


def _best(arms: list[Arm], metric: MetricInfo, results: Results) -> Arm | None:
    """The arm that beats each of the others, corrected for their number; trivial baselines do not compete."""
    contenders = [arm for arm in arms if _is_contender(arm)]
    for arm in contenders:
        others = [other for other in contenders if other is not arm]
        if others and _beats_all(arm, others, metric, results):
            return arm
    return None


def _beats_all(arm: Arm, others: list[Arm], metric: MetricInfo, results: Results) -> bool:
    found: dict[str, Interval] = {}
    for other in others:
        difference, _ = _difference(arm, other, metric, results)
        if not _decides(difference) or _verdict(difference, difference.p, metric["higher_is_better"]) != "better":
            return False
        found[other["name"]] = difference
    return max(holm({name: difference.p for name, difference in found.items()}).values()) < SIGNIFICANCE


def _difference(arm: Arm, other: Arm, metric: MetricInfo, results: Results) -> tuple[Interval | None, int | None]:
    """The difference of two arms, and the subjects on which the first is better; None where there is none of it."""
    name = metric["name"]
    own, others = _paired_seeds(arm, other, name)
    both = [*own, *others]
    if not both:
        return None, None
    subject_of = {clip["clip_id"]: clip["subject"] for clip in results["clips"]}
    clips = set.intersection(*(set(seed["values"][name]["per_clip"]) for seed in both))
    if clips:
        a, b = _clip_values(own, name, clips, len(others)), _clip_values(others, name, clips, len(own))
        won, _ = wins(a, b, subject_of, higher_is_better=metric["higher_is_better"])
        return paired_difference(a, b, subject_of, level=1 - SIGNIFICANCE), won
    if not all(name in seed.get("left_out", {}) for seed in both):
        return None, None
    values = [[seed["values"][name]["value"] for seed in seeds] for seeds in (own, others)]
    left_out = [[seed.get("left_out", {})[name] for seed in seeds] for seeds in (own, others)]
    difference = jackknife_difference(
        values[0],  # type: ignore[arg-type]  # seeds without a value are not paired
        left_out[0],
        values[1],  # type: ignore[arg-type]
        left_out[1],
        num_subjects=len(set(subject_of.values())),
        level=1 - SIGNIFICANCE,
    )
    return difference, None


def _paired_seeds(arm: Arm, other: Arm, metric: str) -> tuple[list[SeedResult], list[SeedResult]]:
    """The seeds that both finished, in the same order; one that is no training run of ours stands against all.

    Both lists are empty where nothing pairs.
    """
    own, others = (
        {seed["seed"]: seed for seed in side["seeds"] if value_of(seed, metric) is not None} for side in (arm, other)
    )
    if not own or not others:
        return [], []
    if _is_unseeded(arm) or _is_unseeded(other):
        return list(own.values()), list(others.values())
    shared = sorted(own.keys() & others.keys())
    return [own[seed] for seed in shared], [others[seed] for seed in shared]


def _is_unseeded(arm: Arm) -> bool:
    return arm["kind"] == "baseline" or arm.get("unseeded", False)


def _clip_values(seeds: list[SeedResult], metric: str, clips: set[str], num_others: int) -> SeedValues:
    """Clip id -> value of every seed; of the only one, as what stands against several seeds."""
    values = [{clip: seed["values"][metric]["per_clip"][clip] for clip in clips} for seed in seeds]
    return values[0] if len(values) == 1 and num_others > 1 else values


def is_decided(cells: Cells) -> bool:
    """Whether some difference is over several seeds, so that it has a p-value."""
    return any(cell.p is not None for row in cells.values() for cell in row.values())


def seed_range(cell: Cell) -> str:
    """``14.30–14.61``, the lowest and the highest; "" where there is one."""
    values = [format_number(value) for value in (min(cell.seeds.values()), max(cell.seeds.values()))]
    return "–".join(dict.fromkeys(values)) if len(cell.seeds) > 1 else ""


def evidence(cell: Cell) -> list[str]:
    """Evidence for a difference, in words: its corrected p-value, and on how many subjects the arm is better."""
    words = [] if cell.p_holm is None else [format_p(cell.p_holm)]
    if cell.wins is not None and cell.difference is not None:
        words.append(f"better on {cell.wins}/{cell.difference.num_subjects}")
    return words
