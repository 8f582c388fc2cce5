"""Runs as their folders say they are now: what they do, how far they are, what they have logged and shown so far."""

import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar

import yaml

from hvg.config.parsing import read_yaml
from hvg.core.checkpoint import PATTERN
from hvg.core.errors import DataError, HvgError, did_you_mean
from hvg.core.files import read_text
from hvg.core.locks import worker
from hvg.core.next_commands import TRAIN
from hvg.core.outputs import LOCK
from hvg.report.figures import Points
from hvg.report.thinned import Thinned
from hvg.train.metric_rows import parse_row
from hvg.train.run_notes import (
    CONFIG,
    FAILURE,
    PROGRESS,
    RECORD,
    RunProgress,
    read_failure,
    read_progress,
    read_run_record,
)
from hvg.train.sample_files import newest_samples
from hvg.train.throughput import PREFIX

# waits: nothing has begun it. stopped: it is not finished, and no process works on it.
Status = Literal["waits", "trains", "scores", "trained", "scored", "failed", "stopped"]
GOING_ON = ("waits", "trains", "scores")
# Where a run was evaluated, as an arm of a study is.
RESULTS = "results.json"
METRICS = "metrics.jsonl"
Value = TypeVar("Value")


@dataclass(frozen=True, kw_only=True)
class RunNow:
    """A run at a moment.

    text: why it failed, or which clip it scores; "" where there is nothing to say. step: done of ``steps``, None where that is
    not known. seconds_left: of training. written: when it last logged or noted anything, seconds since 1970; None where it has
    not. newest: name -> value logged last. curves: name -> points (step, value). samples: clip -> step and video.
    """

    label: str
    folder: Path
    status: Status
    text: str
    step: int
    steps: int | None
    seconds_left: float | None
    written: float | None
    newest: Mapping[str, float]
    curves: Mapping[str, Points]
    samples: Mapping[str, tuple[int, Path]]


@dataclass
class WatchedRun:
    """A run folder that is read again and again: of metrics.jsonl only what has been added, as curves of bounded size.

    Of a file that is damaged the run's text says so; the others are read all the same.
    """

    label: str
    folder: Path
    # Which file the curves are of, how far it was read, and what is wrong with its first line that cannot be read.
    _file: tuple[int, int] = (0, 0)
    _wrong: list[str] = field(default_factory=list)
    _step: int = 0
    _newest: dict[str, float] = field(default_factory=dict)
    _curves: dict[str, Thinned] = field(default_factory=dict)

    def now(self) -> RunNow:
        """What its folder says."""
        self._read_rows()
        problems = [*self._wrong]
        failure = _read(read_failure, self.folder, problems)
        progress = _read(read_progress, self.folder, problems)
        steps = _read(steps_of, self.folder, problems)
        saved = [int(match[1]) for path in self._checkpoints() if (match := PATTERN.fullmatch(path.name))]
        begun = progress.done if progress and progress.stage == "train" else 0
        step = max(self._step, begun, *saved)
        trained = steps is not None and max(saved, default=-1) >= steps
        status, text = ("failed", failure) if failure is not None else self._status(progress, trained)
        return RunNow(
            label=self.label,
            folder=self.folder,
            status=status,
            text="; ".join(filter(None, [text, *problems])),
            step=step,
            steps=steps,
            seconds_left=self._seconds_left(steps, step) if status == "trains" else None,
            written=self._written(),
            newest=dict(self._newest),
            curves={name: curve.points for name, curve in self._curves.items()},
            samples=newest_samples(self.folder),
        )

    def _status(self, progress: RunProgress | None, trained: bool) -> tuple[Status, str]:
        """What a run that has not failed does, and what there is to say of that. trained: whether its last step is saved."""
        if worker(self.folder / LOCK) is not None:
            if progress is None or progress.stage == "train":
                return "trains", ""
            return "scores", f"clip {progress.done} of {progress.total}"
        if (self.folder / RESULTS).exists():
            return "scored", ""
        if not (self.folder / RECORD).exists():
            return "waits", ""
        return ("trained", "") if trained else ("stopped", "no process works on it; resume=auto goes on")

    def _read_rows(self) -> None:
        """Takes in the lines that were added since the last time; all of them where the file is another one.

        A run that goes on from a checkpoint writes its file anew, without what it does again.
        """
        path = self.folder / METRICS
        try:
            opened = path.open("rb")
        except FileNotFoundError:
            return
        with opened as stream:
            facts, (number, read) = os.fstat(stream.fileno()), self._file
            if facts.st_ino != number or facts.st_size < read:
                self._wrong, self._step, self._newest, self._curves, read = [], 0, {}, {}, 0
            stream.seek(read)
            for line in stream:
                # The last one may be half written.
                if not line.endswith(b"\n"):
                    break
                read += len(line)
                try:
                    self._take(parse_row(line.decode(errors="replace").rstrip("\n"), path))
                except DataError as error:
                    self._wrong = self._wrong or [str(error)]
            self._file = facts.st_ino, read

    def _take(self, row: Mapping[str, Any]) -> None:
        self._step = max(self._step, row["step"] + 1)
        for name, value in row.items():
            if name != "step":
                self._newest[name] = value
                curve = self._curves.setdefault(name, Thinned())
                # One that is none would be part of a mean.
                if math.isfinite(value):
                    curve.add(row["step"], value)

    def _checkpoints(self) -> Iterator[Path]:
        folder = self.folder / "checkpoints"
        return folder.iterdir() if folder.is_dir() else iter(())

    def _seconds_left(self, steps: int | None, step: int) -> float | None:
        """By the speed of the last row, with what saving and validating take of the time."""
        each = self._newest.get(f"{PREFIX}seconds_per_step")
        if steps is None or each is None:
            return None
        beside = sum(self._newest.get(f"{PREFIX}{name}_share", 0.0) for name in ("save", "validate"))
        return max(0, steps - step) * each / max(0.01, 1 - beside)

    def _written(self) -> float | None:
        found = []
        for name in (METRICS, PROGRESS, FAILURE, RESULTS):
            # Some of them come and go while one looks.
            with suppress(FileNotFoundError):
                found.append((self.folder / name).stat().st_mtime)
        return max(found, default=None)


def steps_of(folder: Path) -> int:
    """Steps that a run is to take: as it says itself once it has begun; before, as its settings do. Raises: DataError."""
    steps = read_run_record(folder).get("steps")
    try:
        return steps if type(steps) is int else int(read_yaml(read_text(folder / CONFIG))["training"]["steps"])
    except (yaml.YAMLError, LookupError, TypeError, ValueError) as error:
        raise DataError(f"{folder / CONFIG}: says of no number of steps ({error!r})") from error


def _read(read: Callable[[Path], Value], folder: Path, problems: list[str]) -> Value | None:
    """What is read of a run folder; None, and a problem more, where that is damaged."""
    try:
        return read(folder)
    except DataError as error:
        problems.append(str(error))
        return None


def find_runs(places: Sequence[Path]) -> dict[str, Path]:
    """Label -> run folder, of every run that is one of these places or lies in one; by their places, then by name."""
    found: dict[Path, str] = {}
    for place in places:
        for run in [place] if (place / CONFIG).exists() else sorted(_runs_below(place)):
            found.setdefault(run, run.name if run == place else run.relative_to(place).as_posix())
    labels = list(found.values())
    # Two that are called alike are called by their places.
    return {label if labels.count(label) == 1 else str(run): run for run, label in found.items()}


def refuse_without_runs(places: Sequence[Path]) -> None:
    """Raises: HvgError for a place that is not there, or holds no run."""
    for place in places:
        if not place.is_dir():
            beside = [path.name for path in place.parent.glob("*") if path.is_dir()]
            raise HvgError(f"{place}: no such folder. {did_you_mean(place.name, beside)}".strip(), then=TRAIN)
        if not find_runs([place]):
            raise HvgError(f"{place}: holds no run; the folder of one has a {CONFIG}", then=TRAIN)


def _runs_below(folder: Path) -> Iterator[Path]:
    for place, folders, names in os.walk(folder):
        if CONFIG in names:
            folders.clear()
            yield Path(place)
        folders[:] = [name for name in folders if not name.startswith(".")]
