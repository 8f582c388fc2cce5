"""Notes on a score besides its number: definition, networks, N, seeds, floor, warnings, or why it is missing."""

import math
from collections.abc import Iterable, Iterator

from hvg.report.cells import Cell
from hvg.report.number_format import format_number, format_p
from hvg.report.results import Arm, MetricInfo, Results, why_no_value
from hvg.score.anchors import TWO_SAMPLES
from hvg.score.evaluation_record import ScoreRecord

# The least people over whom, and trainings over which, an interval holds the true difference as often as it says and is of use.
ENOUGH_PEOPLE = 4
ENOUGH_SEEDS = 3


def scores(arm: Arm, metric: str) -> Iterator[ScoreRecord]:
    """Scores of a metric, of every seed that has one."""
    return (seed["values"][metric] for seed in arm["seeds"] if metric in seed["values"])


def why_missing(arm: Arm, metric: MetricInfo) -> str:
    """Reason why an arm has no value of a metric."""
    if arm["status"] != "done":
        return why_no_value(arm)
    reasons = _once(score["unavailable"] or "the value is not finite" for score in scores(arm, metric["name"]))
    return "; ".join(reasons) or metric["unavailable"] or "this arm was not scored with it"


def facts(arm: Arm, metric: MetricInfo, cell: Cell, protocol: str) -> list[str]:
    """Everything that makes a number comparable, a line each."""
    found = list(scores(arm, metric["name"]))
    lines = [f"protocol {protocol}", *_once(score["definition"] for score in found)]
    lines += _once(f"N = {score['count']} {score['counted']}" for score in found)
    if arm["kind"] == "arm" and not arm.get("unseeded", False):
        lines += [f"seed {seed}: {format_number(value)}" for seed, value in cell.seeds.items()]
    lines += _once(f"{TWO_SAMPLES}: {format_number(score['floor'])}" for score in found if score["floor"] is not None)
    lines += networks(found)
    if cell.p is not None and cell.p_holm is not None:
        lines.append(f"difference: {format_p(cell.p)}, corrected (Holm) {format_p(cell.p_holm)}")
    return lines + _once(note for score in found for note in score["notes"])


def networks(found: Iterable[ScoreRecord]) -> list[str]:
    """``lpips_vgg sha256:...`` for every pretrained network behind the scores."""
    return _once(f"{name} {digest}" for score in found for name, digest in score["networks"].items())


def warnings(results: Results) -> list[str]:
    """Warnings on intervals; and notes of all scores, each once, with the arms it holds for where not for all."""
    notes = _gathered(
        results,
        lambda arm, metric: (
            f"{metric['label']}: {note}" for score in scores(arm, metric["name"]) for note in score["notes"]
        ),
    )
    return [*about_intervals(results), *notes]


def about_intervals(results: Results) -> Iterator[str]:
    """Too few people or seeds for what an interval says. Numbers: decision 22."""
    people = len({clip["subject"] for clip in results["clips"]})
    if 0 < people < ENOUGH_PEOPLE:
        yield (
            f"intervals over {people} people hold the true difference about 91 times in 100, not 95: {ENOUGH_PEOPLE} people "
            "are the least"
        )
    seeds = max((len(arm["seeds"]) for arm in results["arms"] if arm["kind"] == "arm"), default=0)
    if seeds == ENOUGH_SEEDS - 1:
        yield (
            f"two seeds decide next to nothing: of how trainings differ they know so little that intervals are as wide as they "
            f"have to be; {ENOUGH_SEEDS} seeds are the least"
        )


def unavailable(results: Results) -> list[str]:
    """``fvd: needs ...`` for every value that a finished arm lacks, each once, with the arms as in ``warnings``."""

    def lines(arm: Arm, metric: MetricInfo) -> Iterator[str]:
        found = list(scores(arm, metric["name"]))
        if not found or any(score["value"] is None for score in found):
            yield f"{metric['label']}: {why_missing(arm, metric)}"

    return _gathered(results, lines)


def clip_values(arm: Arm, metric: str, results: Results) -> dict[str, float]:
    """Clip id -> mean over seeds, in the order of the clips, of those that were scored."""
    values = {}
    for clip in results["clips"]:
        per_seed = [score["per_clip"].get(clip["clip_id"]) for score in scores(arm, metric)]
        found = [value for value in per_seed if value is not None and math.isfinite(value)]
        if found:
            values[clip["clip_id"]] = sum(found) / len(found)
    return values


def per_clip_metrics(results: Results) -> list[MetricInfo]:
    """The metrics that have values of single clips."""
    return [
        metric
        for metric in results["metrics"]
        if any(clip_values(arm, metric["name"], results) for arm in results["arms"])
    ]


def _gathered(results: Results, lines) -> list[str]:
    done = [arm for arm in results["arms"] if arm["status"] == "done"]
    arms_of: dict[str, list[str]] = {}
    for metric in results["metrics"]:
        for arm in done:
            for line in _once(lines(arm, metric)):
                arms_of.setdefault(line, []).append(arm["label"])
    return [line if len(labels) == len(done) else f"{line} ({', '.join(labels)})" for line, labels in arms_of.items()]


def _once(lines: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(lines))
