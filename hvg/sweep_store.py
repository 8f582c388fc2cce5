"""A sweep's storage: its trials, who trains them, and what came of each. Optuna proposes; the bookkeeping is here.

A row of Optuna's is one start of a trial. What is given back, by a signal or because its worker died, ends as FAIL, and a new
row with the same values goes on in the same run folder. What hangs together is changed under one lock, so that no trial is
started twice, nor one too many.
"""

from __future__ import annotations

import importlib.util
import json
import math
import os
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import optuna
import sqlalchemy
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances
from optuna.trial import FrozenTrial, Trial, TrialState
from sqlalchemy.exc import ArgumentError, SQLAlchemyError
from sqlalchemy.pool import NullPool

from hvg.errors import HvgError
from hvg.files import regular_file
from hvg.locks import locked
from hvg.names import as_name
from hvg.random import key_to_seed
from hvg.sweep import Sweep
from hvg.sweep_space import Choices, Parameter, space_from_plain

State = Literal["waiting", "running", "complete", "pruned", "failed"]
STATES: dict[TrialState, State] = {
    TrialState.WAITING: "waiting",
    TrialState.RUNNING: "running",
    TrialState.COMPLETE: "complete",
    TrialState.PRUNED: "pruned",
    TrialState.FAIL: "failed",
}
# A number for PostgreSQL's advisory locks: "hvg" in ASCII.
ADVISORY_LOCK = 0x687667
# Seconds that a worker waits for the others: each needs milliseconds, or a second where a search has hundreds of trials.
LONGEST_WAIT = 300.0
# One of Optuna's tables.
TABLE = "studies"
# Importance compares the best quarter with all trials; fewer say nothing.
FEWEST_FOR_IMPORTANCE = 12


class LostTrialError(Exception):
    """Another worker has taken a trial over: nothing was heard of this one for longer than the lease."""


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


def use_password(url: str) -> str:
    """A storage's address without its password, which goes to where PostgreSQL's own library looks, of workers too.

    On the command lines of workers and in scripts others could read it.
    Raises: HvgError for what is no address of SQLite or PostgreSQL, or needs a driver that is not installed.
    """
    try:
        parsed = sqlalchemy.make_url(url)
    except ArgumentError as error:
        raise HvgError(
            "storage is no address such as sqlite:///runs/sweep.db or postgresql://me@host/sweeps"
        ) from error
    kind = parsed.get_backend_name()
    if kind not in ("sqlite", "postgresql"):
        raise HvgError(f"storage has to be sqlite:///FILE or postgresql://USER@HOST/DATABASE, got {kind}")
    if kind == "sqlite" and parsed.database in (None, "", ":memory:"):
        raise HvgError("storage has to name a file, as sqlite:///runs/sweep.db: workers share it")
    if kind == "postgresql" and not importlib.util.find_spec("psycopg"):
        raise HvgError("storage=postgresql://... needs the package psycopg: pip install 'hvg[postgresql]'")
    query = dict(parsed.query)
    password = query.pop("password", parsed.password)
    if password is not None:
        os.environ["PGPASSWORD"] = str(password)
    # URL.set() keeps a password for which it is given None.
    driver = "postgresql+psycopg" if kind == "postgresql" else kind
    parts = (driver, parsed.username, None, parsed.host, parsed.port, parsed.database, query)
    return sqlalchemy.URL.create(*parts).render_as_string()


def stored_sweep(url: str, name: str | None) -> SweepRecord:
    """What a storage knows of a sweep. name: None for the only one. Raises: HvgError when there is none of that name."""
    path = _sqlite_path(url)
    if path is not None and not path.exists():
        raise HvgError(
            f"{path}: no such file; `hvg sweep report NAME` reads runs/NAME/sweep.db, or give storage=ADDRESS"
        )
    with _locked(url):
        storage = _open(url, make=False)
        names = [study.study_name for study in optuna.get_all_study_summaries(storage)]
        if name is None and len(names) == 1:
            name = names[0]
        if name not in names:
            asked = f"no sweep '{name}' in this storage" if name else "the storage has several sweeps, give a NAME"
            raise HvgError(f"{asked}; it has {', '.join(sorted(names)) or 'none'}")
        study = optuna.load_study(study_name=name, storage=storage)
        return _record(study)


class SweepStore:
    """A sweep's storage, as one of its workers sees it."""

    def __init__(self, sweep: Sweep) -> None:
        """Registers the sweep, or joins it. Raises: HvgError where its name stands for another sweep, or nothing answers."""
        self._sweep = sweep
        self._distributions = {parameter.key: _distribution(parameter) for parameter in sweep.space}
        with _locked(sweep.url):
            self._study = optuna.create_study(
                storage=_open(sweep.url),
                study_name=sweep.name,
                direction=sweep.direction,
                pruner=_pruner(sweep),
                load_if_exists=True,
            )
            stored, own = self._study.user_attrs.get("sweep"), sweep.identity()
            if stored is None:
                self._study.set_user_attr("sweep", own)
            elif stored != own:
                known = stored if isinstance(stored, Mapping) else {}
                other = ", ".join(key for key in own if known.get(key) != own[key])
                raise HvgError(
                    f"the storage has a sweep '{sweep.name}' with other settings ({other}); choose another name=..., or "
                    "repeat the command that started it"
                )

    def claim(self, worker: str) -> OpenTrial | None:
        """The next trial to train: one that was given back, or a new one; None when all have been started."""
        with _locked(self._sweep.url):
            self._take_from_dead()
            self._continue_given_back()
            rows = self._study.get_trials(deepcopy=False)
            taken = {row.user_attrs["index"] for row in rows if "index" in row.user_attrs}
            waiting = any(row.state == TrialState.WAITING for row in rows)
            if not waiting and len(taken) >= self._sweep.options.trials:
                return None
            self._study.sampler = _sampler(self._sweep, len(taken))
            trial = self._study.ask(self._distributions)
            if "index" not in trial.user_attrs:
                trial.set_user_attr("index", len(taken))
            trial.set_user_attr("worker", worker)
            return OpenTrial(self._study, self._sweep, trial)

    def unfinished(self) -> int:
        """How many trials are being trained, or wait to be continued."""
        with _answering(self._sweep.url):
            return sum(trial.state in ("waiting", "running") for trial in _trials(self._study, self._sweep.space))

    def record(self) -> SweepRecord:
        """The sweep so far."""
        with _answering(self._sweep.url):
            return _record(self._study)

    def _take_from_dead(self) -> None:
        """Ends the rows of workers that were not heard of for the length of a lease."""
        now = time.time()
        for row in self._study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            assert row.datetime_start is not None
            # A worker may have died before its first sign.
            seen = row.user_attrs.get("seen", row.datetime_start.timestamp())
            if now - seen > self._sweep.options.lease:
                self._study.tell(row.number, state=TrialState.FAIL)

    def _continue_given_back(self) -> None:
        """Puts a new row in the queue for every trial whose newest row ended without a result."""
        newest: dict[int, FrozenTrial] = {}
        for row in self._study.get_trials(deepcopy=False):
            if "index" in row.user_attrs:
                newest[row.user_attrs["index"]] = row
        for row in newest.values():
            # A row that its worker ended as failed says why; one that its worker left says nothing.
            if row.state != TrialState.FAIL or "error" in row.user_attrs:
                continue
            kept = {
                key: row.user_attrs[key] for key in ("index", "folder", "failures", "deaths") if key in row.user_attrs
            }
            deaths = kept.get("deaths", 0) + ("given_back" not in row.user_attrs)
            if deaths > self._sweep.options.deaths:
                kept["error"] = f"its worker died {deaths} times; the last was {row.user_attrs.get('worker')}"
                self._study.add_trial(
                    optuna.create_trial(
                        state=TrialState.FAIL, params=row.params, distributions=row.distributions, user_attrs=kept
                    )
                )
                continue
            self._study.enqueue_trial(row.params, user_attrs=kept | {"deaths": deaths})


class OpenTrial:
    """A trial that this process trains. Every method but ``words`` and ``folder`` may raise LostTrialError."""

    def __init__(self, study: optuna.Study, sweep: Sweep, trial: Trial) -> None:
        self._study, self._sweep, self._trial = study, sweep, trial
        self._beaten, self._reported = -math.inf, set[int]()
        self.index: int = trial.user_attrs["index"]
        self.words = tuple(p.word(trial.params[p.key]) for p in sweep.space)
        self.folder = folder_name(self.index, self.words)
        self._set("folder", self.folder)
        self.beat()

    def beat(self) -> None:
        """A sign of life, once in a tenth of the lease."""
        if time.monotonic() - self._beaten >= self._sweep.options.lease / 10:
            self._beaten = time.monotonic()
            self._set("seen", time.time())

    def report(self, step: int, value: float) -> bool:
        """Takes the metric after ``step`` steps; returns whether the trial should be stopped for it."""
        self.beat()
        # Training that was interrupted writes some steps again, to the same bits; Optuna takes each once.
        if step not in self._reported:
            self._reported.add(step)
            with _still_ours(self.index):
                self._trial.report(value, step)
        return self._trial.should_prune()

    def complete(self, value: float) -> None:
        """Ends the trial with its result."""
        self._tell(TrialState.COMPLETE, value)

    def prune(self, note: str) -> None:
        """Ends the trial as one that was not worth going on; its last report stands for it."""
        self._set("note", note)
        self._tell(TrialState.PRUNED)

    def fail(self, error: str, *, again: bool = True) -> bool:
        """Ends the trial without a result; returns whether it will be started again."""
        failures = self._trial.user_attrs.get("failures", 0) + 1
        again = again and failures <= self._sweep.options.retries
        self._set("failures", failures)
        self._set("given_back" if again else "error", error)
        self._tell(TrialState.FAIL)
        return again

    def give_back(self, reason: str) -> None:
        """Leaves the trial to the next worker, who continues it."""
        self._set("given_back", reason)
        self._tell(TrialState.FAIL)

    def _set(self, key: str, value: Any) -> None:
        with _still_ours(self.index):
            self._trial.set_user_attr(key, value)

    def _tell(self, state: TrialState, value: float | None = None) -> None:
        with _locked(self._sweep.url):
            # A row that was taken away is refused here, as everywhere.
            self._set("seen", time.time())
            self._study.tell(self._trial, value, state=state)


@contextmanager
def _still_ours(index: int) -> Iterator[None]:
    """Turns Optuna's refusal to change a row that another worker has ended into LostTrialError.

    Raises: HvgError when the storage does not answer.
    """
    try:
        yield
    except optuna.exceptions.StorageInternalError as error:
        raise HvgError(f"trial {index}: the storage failed: {error.__cause__ or error}") from error
    except optuna.exceptions.UpdateFinishedTrialError as error:
        raise LostTrialError(f"trial {index}: another worker has taken it over") from error


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


def _distribution(parameter: Parameter) -> BaseDistribution:
    if isinstance(parameter, Choices):
        return CategoricalDistribution(parameter.values)
    if parameter.whole:
        step = 1 if parameter.step is None else int(parameter.step)
        return IntDistribution(int(parameter.low), int(parameter.high), log=parameter.log, step=step)
    return FloatDistribution(parameter.low, parameter.high, log=parameter.log, step=parameter.step)


def _sampler(sweep: Sweep, index: int) -> optuna.samplers.BaseSampler:
    """What proposes trial ``index``: its random numbers are a function of that, whichever worker asks, and after what."""
    options = sweep.options
    # NumPy's older generators take 32 bits.
    seed = key_to_seed(options.search_seed, "sweep", index) % 2**32
    if options.search == "random":
        return optuna.samplers.RandomSampler(seed=seed)
    return optuna.samplers.TPESampler(n_startup_trials=options.search_startup, seed=seed)


def _pruner(sweep: Sweep) -> optuna.pruners.BasePruner:
    options, first = sweep.options, max(1, sweep.metric_every)
    waits = {"n_startup_trials": options.prune_startup, "n_warmup_steps": options.prune_after}
    pruners = {
        "none": lambda: optuna.pruners.NopPruner(),
        "median": lambda: optuna.pruners.MedianPruner(**waits),
        "percentile": lambda: optuna.pruners.PercentilePruner(options.prune_keep, **waits),
        "halving": lambda: optuna.pruners.SuccessiveHalvingPruner(min_resource=first, reduction_factor=3),
        "hyperband": lambda: optuna.pruners.HyperbandPruner(first, max(first, sweep.steps), reduction_factor=3),
    }
    return pruners[options.pruner]()


def _open(url: str, *, make: bool = True) -> optuna.storages.RDBStorage:
    """The storage, whose tables are made where they are missing and ``make`` says so; call it under the lock.

    Raises: HvgError for a database that is of something else.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    path = _sqlite_path(url)
    # A file is locked while others write; they need milliseconds each.
    arguments = {"connect_args": {"timeout": LONGEST_WAIT}} if path else {}
    engine = sqlalchemy.create_engine(url, poolclass=NullPool, **arguments)
    tables = sqlalchemy.inspect(engine).get_table_names()
    # Several programs may share a server's database, a file is one program's.
    if TABLE not in tables and (not make or (path is not None and tables)):
        raise HvgError(f"storage {url} holds no sweeps{f', but {tables[0]}' if tables else ''}")
    return optuna.storages.RDBStorage(url, engine_kwargs=arguments)


def _sqlite_path(url: str) -> Path | None:
    parsed = sqlalchemy.make_url(url)
    return Path(str(parsed.database)) if parsed.get_backend_name() == "sqlite" else None


@contextmanager
def _locked(url: str) -> Iterator[None]:
    """Inside, no other worker of the storage is inside. The lock of one that dies is free.

    Raises: HvgError when the storage does not answer.
    """
    path = _sqlite_path(url)
    if path is not None:
        if path.exists():
            regular_file(path)
        with _answering(url), locked(path.with_name(f"{path.name}.lock"), wait=LONGEST_WAIT):
            yield
        return
    with _answering(url), sqlalchemy.create_engine(url, poolclass=NullPool).connect() as connection:
        connection.execute(sqlalchemy.text("SELECT pg_advisory_lock(:key)"), {"key": ADVISORY_LOCK})
        yield


@contextmanager
def _answering(url: str) -> Iterator[None]:
    """Turns what a storage's libraries raise into one line. Raises: HvgError where the storage cannot be used."""
    try:
        yield
    except LostTrialError:
        raise
    except (SQLAlchemyError, optuna.exceptions.OptunaError, json.JSONDecodeError, RuntimeError) as error:
        # RuntimeError: tables of another version of Optuna. Its own errors come of the database's.
        cause = error.__cause__ if isinstance(error, optuna.exceptions.StorageInternalError) else error
        cause = getattr(cause, "orig", None) or cause or error
        raise HvgError(f"storage {url} cannot be used: {str(cause).strip().splitlines()[0]}") from error


def _record(study: optuna.Study) -> SweepRecord:
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
    trials = _trials(study, space)
    ended = sum(trial.state == "complete" for trial in trials)
    return SweepRecord(
        name=study.study_name,
        folder=Path(stored["folder"]),
        words=tuple(stored["words"]),
        space=space,
        metric=stored["metric"],
        direction=stored["direction"],
        trials=trials,
        importance=_importance(study) if ended >= FEWEST_FOR_IMPORTANCE else {},
    )


def _importance(study: optuna.Study) -> dict[str, float]:
    return get_param_importances(study, evaluator=PedAnovaImportanceEvaluator(target_quantile=0.25))


def _trials(study: optuna.Study, space: tuple[Parameter, ...]) -> tuple[TrialRecord, ...]:
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
