"""Results of a search so far, as plain data."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import optuna
from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances
from optuna.trial import FrozenTrial, TrialState

from hvg.core.errors import HvgError
from hvg.core.names import as_name
from hvg.sweep.space import Parameter, space_from_plain

State = Literal["waiting", "running", "complete", "pruned", "failed"]
STATES: dict[TrialState, State] = {
    TrialState.WAITING: "waiting",
    TrialState.RUNNING: "running",
    TrialState.COMPLETE: "complete",
    TrialState.PRUNED: "pruned",
    TrialState.FAIL: "failed",
}
# Importance compares the best quarter with all trials; fewer say nothing.
FEWEST_FOR_IMPORTANCE = 12


@dataclass(frozen=True)
class TrialRecord:
    """A trial of a sweep, however often it was started.

    words: overrides that set its values. values: parameter -> value, a number or what an override says. value: of the metric;
    None until it has ended, or failed. course: (step, value) while it trained. starts: how often it was started. note: why it
    failed or was stopped. seconds: that workers spent on it.
    """

    index: int
    words: tuple[str, ...]
    values: dict[str, float | str]
    state: State
    value: float | None
    course: tuple[tuple[int, float], ...]
    folder: str
    starts: int
    note: str
    seconds: float


@dataclass(frozen=True)
class SweepRecord:
    """A sweep as its storage has it. importance: parameter -> share, empty where too few trials have ended."""

    name: str
    folder: Path
    words: tuple[str, ...]
    space: tuple[Parameter, ...]
    metric: str
    direction: Literal["minimize", "maximize"]
    trials: tuple[TrialRecord, ...]
    importance: dict[str, float]

    @property
    def ranked(self) -> list[TrialRecord]:
        """Trials that trained to their end, the best first."""
        sign = 1 if self.direction == "minimize" else -1
        ended = [(trial.value, trial) for trial in self.trials if trial.state == "complete" and trial.value is not None]
        return [trial for _, trial in sorted(ended, key=lambda pair: (sign * pair[0], pair[1].index))]


def folder_name(index: int, words: Sequence[str]) -> str:
    """``<number>-<values>``: the name of a trial's run folder inside the sweep's; short, since the number tells them apart."""
    text = "-".join(_short(word) for word in words)
    return f"{index:04d}-{as_name(text)}"


def _short(word: str) -> str:
    """``learning_rate_0.0012`` of ``training.learning_rate=0.0011584434150587503``."""
    key, _, value = word.partition("=")
    if re.fullmatch(r"-?\d+\.?\d*(e-?\d+)?", value):
        value = f"{float(value):.3g}"
    return f"{key.rpartition('.')[2]}_{value}"


def read_record(study: optuna.Study) -> SweepRecord:
    """Raises: HvgError for a study that hvg did not start, or whose record is damaged."""
    stored = study.user_attrs.get("sweep")
    if stored is None:
        raise HvgError(f"'{study.study_name}' in this storage is a study of Optuna's that hvg did not start")
    try:
        return _record_of(study, stored)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise HvgError(f"sweep '{study.study_name}': its record in the storage is damaged ({error!r})") from error


def _record_of(study: optuna.Study, stored: Mapping[str, Any]) -> SweepRecord:
    space = space_from_plain(stored["space"])
    trials = read_trials(study, space)
    ended, evaluator = sum(t.state == "complete" for t in trials), PedAnovaImportanceEvaluator(target_quantile=0.25)
    return SweepRecord(
        name=study.study_name,
        folder=Path(stored["folder"]),
        words=tuple(stored["words"]),
        space=space,
        metric=stored["metric"],
        direction=stored["direction"],
        trials=trials,
        importance=get_param_importances(study, evaluator=evaluator) if ended >= FEWEST_FOR_IMPORTANCE else {},
    )


def read_trials(study: optuna.Study, space: tuple[Parameter, ...]) -> tuple[TrialRecord, ...]:
    """The trials in the order in which they were proposed."""
    rows: dict[int, list[FrozenTrial]] = {}
    for row in study.get_trials(deepcopy=False):
        if "index" in row.user_attrs:
            rows.setdefault(row.user_attrs["index"], []).append(row)
    return tuple(_trial(index, rows[index], space) for index in sorted(rows))


def _trial(index: int, rows: list[FrozenTrial], space: tuple[Parameter, ...]) -> TrialRecord:
    newest, attributes = rows[-1], rows[-1].user_attrs
    # Before a worker takes it up, a row in the queue has no values of its own yet.
    params = next((row.params for row in reversed(rows) if row.params), {})
    words = tuple(parameter.word(params[parameter.key]) for parameter in space if parameter.key in params)
    left = newest.state == TrialState.FAIL and "error" not in attributes
    starts = [row for row in rows if row.datetime_start and row.state != TrialState.WAITING]
    return TrialRecord(
        index=index,
        words=words,
        values={key: params[key] for key in (parameter.key for parameter in space) if key in params},
        state="waiting" if left else STATES[newest.state],
        value=newest.value if newest.state in (TrialState.COMPLETE, TrialState.PRUNED) else None,
        course=tuple(sorted({step: v for row in rows for step, v in row.intermediate_values.items()}.items())),
        folder=str(attributes.get("folder") or folder_name(index, words)),
        starts=len(starts),
        note=str(attributes.get("error") or attributes.get("note") or attributes.get("given_back") or ""),
        seconds=sum(row.duration.total_seconds() for row in starts if row.duration),
    )
