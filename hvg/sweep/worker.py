"""A worker of a sweep: claims a trial, trains it in a process of its own, reports its metric, and claims the next."""

import math
import os
import signal
import socket
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from hvg.cluster.jobs import Batch, Job
from hvg.cluster.launch import LaunchedRun, launch, refused_changes
from hvg.cluster.launch_options import LaunchOptions, SweepOptions
from hvg.config.composition import compose
from hvg.config.machine import refuse_missing
from hvg.core.errors import ConfigError, HvgError, did_you_mean
from hvg.core.exit_codes import STOPPED
from hvg.core.files import regular_file
from hvg.core.outputs import try_folder
from hvg.sweep.database import LostTrialError, use_password
from hvg.sweep.report_page import write_sweep_report
from hvg.sweep.search import VALIDATION, Sweep, judged_sweep, worker_batch
from hvg.sweep.store import OpenTrial, SweepStore
from hvg.train.metric_rows import parse_row

# Seconds between two looks at what others do, and at a trial's metrics.
PATIENCE, LOOK = 2.0, 0.5


def work(sweep: Sweep, store: SweepStore) -> int:
    """Trains trials until all of the sweep have ended; returns the exit code.

    The code is 128 plus a signal's number when that stopped the worker; its trial is saved, and another continues it at once.
    """
    worker = f"{socket.gethostname()}:{os.getpid()}"
    received: list[int] = []
    before = {
        number: signal.signal(number, lambda n, _: received.append(n)) for number in (signal.SIGTERM, signal.SIGINT)
    }
    try:
        while not received:
            trial = store.claim(worker)
            if trial is not None and received:
                trial.give_back("its worker was stopped")
            elif trial is not None:
                code = _try(sweep, trial)
                if code in STOPPED:
                    return code
            elif sweep.options.wait and store.unfinished():
                time.sleep(PATIENCE)
            else:
                return 0
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    return 128 + received[0]


def _try(sweep: Sweep, trial: OpenTrial) -> int:
    """Trains a trial, unless another worker takes it over meanwhile; returns the exit code of its training."""
    try:
        return _train(sweep, trial)
    except LostTrialError as error:
        print(error, flush=True)
        return 1


def _train(sweep: Sweep, trial: OpenTrial) -> int:
    """Trains one trial and says in the storage what came of it; returns the exit code of its training."""
    words = sweep.trial_words(trial.words, trial.folder)
    print(f"trial {trial.index}: {' '.join(trial.words)}", flush=True)
    try:
        run = LaunchedRun(words, compose(words))
        if refused := refused_changes(run):
            raise ConfigError(refused)
    except ConfigError as error:
        # Values that are right each for itself need not be so together; or its folder holds another sweep's trial.
        trial.fail("; ".join(str(problem) for problem in error.problems), again=False)
        print(f"trial {trial.index}: failed: {error}", flush=True)
        return 1
    course = MetricCourse(run.folder / "metrics.jsonl", sweep.options.metric)
    attempt = _Attempt(trial, course, sweep.options, run.config.last_step)
    batch = Batch(name=run.config.name, folder=run.folder, jobs=(run.job,))
    code = launch(batch, LaunchOptions(), tell=attempt.note, watch=attempt.watch)
    said = attempt.conclude(code)
    print(f"trial {trial.index}: {said}", flush=True)
    return code


class MetricCourse:
    """The metric of a run as it is written: (step, value), steps counted from 1."""

    def __init__(self, path: Path, metric: str) -> None:
        self._path, self._metric, self._file, self._read = path, metric, 0, 0
        self._rows: dict[int, float] = {}
        self.logged: set[str] = set()

    def new(self) -> Iterator[tuple[int, float]]:
        """Rows of the metric written since the last look, as (step, value)."""
        for row in self._new_rows():
            self.logged |= row.keys() - {"step"}
            if self._metric in row:
                # A row is numbered by its step, counted from 0.
                step = int(row["step"]) + 1
                self._rows[step] = float(row[self._metric])
                yield step, self.value(step)

    def value(self, step: int) -> float:
        """Value of the metric after ``step`` steps: a validation's, or the mean over the last tenth of the steps."""
        if self._metric.startswith(VALIDATION):
            return self._rows[step]
        recent = [value for at, value in self._rows.items() if 0.9 * step < at <= step]
        return sum(recent) / len(recent)

    def last(self) -> float | None:
        """The newest value; None before the first."""
        return self.value(max(self._rows)) if self._rows else None

    def _new_rows(self) -> list[dict[str, float]]:
        if not self._path.exists():
            return []
        with regular_file(self._path).open(errors="replace") as stream:
            # A continued run writes the file anew, without the steps that it does again.
            file = os.fstat(stream.fileno()).st_ino
            if file != self._file:
                self._file, self._read = file, 0
            stream.seek(self._read)
            text = stream.read()
        whole = text[: text.rfind("\n") + 1]
        self._read += len(whole.encode())
        return [parse_row(line, self._path) for line in whole.splitlines()]


class _Attempt:
    """One training of a trial, watched."""

    def __init__(self, trial: OpenTrial, course: MetricCourse, options: SweepOptions, steps: int) -> None:
        self._trial, self._course, self._options, self._steps = trial, course, options, steps
        self._looked, self._stopped_for, self._ended = 0.0, "", ""

    def note(self, job: Job, code: int | None) -> None:
        """Takes what the launcher says of the training: nothing when it starts, then its exit code."""
        self._ended = f"exit code {code} (see {job.log}): {_last_line(job.log)}"

    def watch(self) -> bool:
        """Passes the metric on; returns whether the training should be stopped."""
        try:
            self._trial.beat()
            if time.monotonic() - self._looked >= LOOK:
                self._looked = time.monotonic()
                self._look()
        except LostTrialError:
            # Two must not train in one folder. ``conclude`` will learn of it too, when the training has stopped.
            return True
        return bool(self._stopped_for)

    def conclude(self, code: int) -> str:
        """Says in the storage what became of the trial after its training ended with ``code``; returns that in words."""
        self._look()
        if self._stopped_for:
            self._trial.prune(self._stopped_for)
            return self._stopped_for
        if code in STOPPED:
            self._trial.give_back("its worker was stopped")
            return "stopped and saved; the next worker continues it"
        if code:
            again = self._trial.fail(self._ended)
            return f"failed{', and is started again' if again else ''}: {self._ended}"
        value = self._course.last()
        if value is None:
            return self._without_metric()
        self._trial.complete(value)
        return f"{self._options.metric} {value:.6g}"

    def _look(self) -> None:
        for step, value in self._course.new():
            if self._stopped_for:
                break
            unpromising = self._trial.report(step, value)
            if not math.isfinite(value):
                self._stopped_for = f"{self._options.metric} is {value} at step {step}"
            elif unpromising and step < self._steps:
                self._stopped_for = f"stopped at step {step} by pruner={self._options.pruner}"

    def _without_metric(self) -> str:
        """Ends the whole sweep: no other trial would log it either."""
        metric, logged = self._options.metric, self._course.logged
        error = f"nothing logs '{metric}'. {did_you_mean(metric, logged)}"
        self._trial.fail(error, again=False)
        raise HvgError(f"trial {self._trial.index}: {error}")


def _last_line(log: Path) -> str:
    """Last line of a training's log that is not empty."""
    lines = log.read_text(errors="replace").split("\n") if log.exists() else []
    return next((line.strip()[:300] for line in reversed(lines) if line.strip()), "it said nothing")


def train_sweep(
    overrides: Sequence[str], options: SweepOptions, launch_options: LaunchOptions, *, dry_run: bool
) -> int:
    """``hvg train --multirun sweep=optuna``: works on a sweep here, or starts workers; returns the exit code.

    Raises: ConfigError with all problems, before the first trial; HvgError for a storage that cannot be used.
    """
    if options.storage is not None:
        options = options.model_copy(update={"storage": use_password(options.storage)})
    sweep = judged_sweep(overrides, options, launch_options)
    batch, launch_options = worker_batch(sweep, overrides, launch_options)
    if dry_run and launch_options.launcher == "basic":
        raise HvgError("--dry-run shows how workers are launched; give launcher=local or launcher=slurm")
    if dry_run:
        return launch(batch, launch_options, dry_run=True)
    try_folder(sweep.folder, "output, name")
    if launch_options.launcher != "slurm":
        refuse_missing([sweep.config])
    # Workers that are launched would otherwise all find the same fault.
    store = SweepStore(sweep)
    code = work(sweep, store) if launch_options.launcher == "basic" else launch(batch, launch_options)
    if launch_options.launcher == "slurm":
        return code
    record = store.record()
    path = write_sweep_report(record, sweep.folder)
    print(f"report: {path}", flush=True)
    return code or (1 if any(trial.state == "failed" for trial in record.trials) else 0)
