"""The sentence that answers a study's question, by the metric that is to answer it and the comparison that its table shows."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from hvg.core.required import required
from hvg.report.cells import Cell, Cells, comparison_arm
from hvg.report.footnotes import why_missing
from hvg.report.number_format import format_amount
from hvg.report.results import SIGNIFICANCE, Arm, MetricInfo, Results, carries_verdict, stands_apart
from hvg.score.statistics import Interval, visible_difference

# A list that is longer names three, and counts the others.
MOST_NAMED = 4


@dataclass(frozen=True)
class Finding:
    """answer: what was found of the arms. apart: the same of what stands apart from them, the trivial predictors and the arm
    without what the others have; "" where there is none.
    """

    answer: str
    apart: str = ""

    @property
    def sentences(self) -> list[str]:
        """The finding's sentences, without empty ones."""
        return [sentence for sentence in (self.answer, self.apart) if sentence]


class _Rival(NamedTuple):
    """An arm beside the one that all are compared with. gain: its difference to it, above 0 where it is better."""

    arm: Arm
    cell: Cell
    gain: Interval | None

    @property
    def label(self) -> str:
        return self.arm["label"]


def headline(results: Results, cells: Cells) -> MetricInfo | None:
    """The metric that answers: the one that the study names; else, of those that some arm has and that say which arm is better,
    the first that looks at the person alone, else the first with values of clips, else the first.
    """
    named = results.get("headline")
    if named is not None:
        return next(metric for metric in results["metrics"] if metric["name"] == named)
    judging = [metric for metric in results["metrics"] if carries_verdict(metric)]
    found = [metric for metric in judging if any(metric["name"] in row for row in cells.values())]
    of_person = [metric for metric in found if metric.get("on_person", False)]
    of_clips = [metric for metric in found if _has_clips(metric["name"], results)]
    return next(iter([*of_person, *of_clips, *found]), None)


def _has_clips(name: str, results: Results) -> bool:
    return any(
        seed["values"][name]["per_clip"] for arm in results["arms"] for seed in arm["seeds"] if name in seed["values"]
    )


def finding(results: Results, cells: Cells) -> Finding:
    """The finding in words. Corrected p-values decide, as the table's colours; a single seed decides nothing."""
    first = comparison_arm(results)
    if first is None:
        return Finding("No arm finished, so nothing was found.")
    metric = headline(results, cells)
    if metric is None:
        return Finding("No metric is available, so nothing was found.")
    # Of this metric, another arm may be the first that has a value.
    first = next(
        (arm for arm in results["arms"] if arm["kind"] == "arm" and metric["name"] in cells[arm["name"]]), None
    )
    if first is None:
        why = why_missing(results["arms"][0], metric)
        return Finding(f"{metric['label']} was to give the answer and is not available: {why}.")
    return _compared(first, _rivals(first, metric, results, cells), metric)


def _rivals(first: Arm, metric: MetricInfo, results: Results, cells: Cells) -> list[_Rival]:
    """The other arms that have the metric, the best first; those of which no difference is known last."""
    found = []
    for arm in results["arms"]:
        cell = cells[arm["name"]].get(metric["name"])
        if arm is not first and cell is not None:
            gain = cell.difference
            found.append(_Rival(arm, cell, gain if gain is None or metric["higher_is_better"] else -gain))
    return sorted(found, key=lambda rival: float("inf") if rival.gain is None else -rival.gain.mean)


@dataclass(frozen=True)
class _Question:
    """A comparison: first arm, metric, whether all is of one seed, and number of differences not told from 0."""

    first: str
    metric: MetricInfo
    one_seed: bool
    level: int


def _compared(first: Arm, rivals: Sequence[_Rival], metric: MetricInfo) -> Finding:
    arms, others = ([rival for rival in rivals if stands_apart(rival.arm) == apart] for apart in (False, True))
    gains = [rival.gain for rival in rivals if rival.gain is not None]
    one_seed = bool(gains) and all(gain.num_seeds == 1 for gain in gains)
    level = sum(_side(rival, one_seed) == "" for rival in rivals)
    question = _Question(first["label"], metric, one_seed, level)
    if not arms:
        # Nothing but what is trained without a pose: then that is what there is to be ahead of.
        arms, others = ([rival for rival in others if rival.arm["kind"] == kind] for kind in ("arm", "baseline"))
    if arms:
        answer = "; ".join(_clauses(question, arms, _place(arms, metric))) + "."
        answer = f"One seed decides nothing about training; in these runs {answer}" if one_seed else _capital(answer)
    else:
        answer = (
            f"{first['label']} is the only arm with a value of {metric['label']}, so no arm is compared with another."
        )
    if not others:
        return Finding(answer)
    runs = " in these runs" if one_seed else ""
    return Finding(answer, f"Apart from the arms,{runs} {'; '.join(_clauses(question, others, place=''))}.")


def _clauses(question: _Question, rivals: Sequence[_Rival], place: str) -> Iterator[str]:
    """Clauses on the arms better than the first arm, worse, level with it, and impossible to compare.

    place: as of ``_place``, for the first of them.
    """
    first, unit = question.first, question.metric["unit"]
    better, worse, level, unknown = (
        [rival for rival in rivals if _side(rival, question.one_seed) == side] for side in ("better", "worse", "", None)
    )
    if better:
        best, *more = better
        whom = f"every other arm, of {first}" if best.cell.best and len(rivals) > 1 else first
        yield f"{best.label} is ahead of {whom} by {_amount(best, unit)}{place}"
        if more:
            listed = _listed([f"{rival.label} by {_amount(rival, unit)}" for rival in more])
            yield f"so {'is' if len(more) == 1 else 'are'} {listed}"
        place = ""
    if worse:
        # The nearest first.
        yield f"{first} is ahead of {_listed([f'{r.label} by {_amount(r, unit)}' for r in worse], ', of ')}{place}"
        place = ""
    if level:
        names = _listed([rival.label for rival in level], last=" or ")
        yield f"nothing separates {names} from {first}{place}{_could_be_seen(question, level)}"
        place = ""
    if unknown:
        yield f"too little is known to tell {_listed([rival.label for rival in unknown])} from {first}{place}"


def _side(rival: _Rival, one_seed: bool) -> str | None:
    """``better`` or ``worse`` than the first arm, "" where nothing separates the two; None where that cannot be said.

    Of one seed by the interval over people, otherwise by the corrected p-value.
    """
    if rival.gain is None or (rival.gain.num_seeds == 1 and not one_seed):
        return None
    if not one_seed:
        return rival.cell.verdict
    return "better" if rival.gain.low > 0 else "worse" if rival.gain.high < 0 else ""


def _place(rivals: Sequence[_Rival], metric: MetricInfo) -> str:
    """Where, and on how much it rests: `` on the person (PSNR foreground; 16 people, 3 seeds)``."""
    gains = [rival.gain for rival in rivals if rival.gain is not None]
    words = [metric["label"]]
    if gains:
        people, seeds = max(gain.num_subjects for gain in gains), max(gain.num_seeds for gain in gains)
        words.append(f"{people} {'person' if people == 1 else 'people'}, {seeds} {'seed' if seeds == 1 else 'seeds'}")
    return f"{' on the person' if metric.get('on_person', False) else ''} ({'; '.join(words)})"


def _could_be_seen(question: _Question, level: Sequence[_Rival]) -> str:
    """How small a difference could have been seen, of arms that nothing separates from the first; "" where that is not known.

    Holm's method asks of the smallest p-value that is not below the limit as much as if there were only those.
    """
    gains = [rival.gain for rival in level if rival.gain is not None]
    smallest = max(visible_difference(gain, question.level, level=1 - SIGNIFICANCE) for gain in gains)
    # Pictures that are the same have no spread; one person has none that is known.
    if question.one_seed or not 0 < smallest < float("inf"):
        return ""
    unit = question.metric["unit"]
    return f", where a difference of about {smallest:.2g}{' ' + unit if unit else ''} could have been seen"


def _amount(rival: _Rival, unit: str) -> str:
    """How far it and the first arm are apart, without a sign."""
    gain = required(rival.gain, "the difference of an arm whose side is known")
    return format_amount(gain if gain.mean >= 0 else -gain, unit)


def _listed(words: Sequence[str], comma: str = ", ", last: str = " and ") -> str:
    """``a, b and c``, or ``a, b, c and 5 more``. comma: what follows the sign in it stands after ``last``, too."""
    if len(words) > MOST_NAMED:
        return f"{comma.join(words[: MOST_NAMED - 1])}{last}{len(words) - MOST_NAMED + 1} more"
    joint = last + comma.removeprefix(", ")
    return joint.join(filter(None, [comma.join(words[:-1]), words[-1]]))


def _capital(sentence: str) -> str:
    """A sentence that begins with a word of ours begins with a capital; a label stays as it is written everywhere."""
    return "N" + sentence[1:] if sentence.startswith("nothing separates") else sentence
