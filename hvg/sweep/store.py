"""A sweep's storage: its trials, who trains them, and what came of each. Optuna proposes; the bookkeeping is here.

A row of Optuna's is one start of a trial. What is given back, by a signal or because its worker died, ends as FAIL, and a new
row with the same values goes on in the same run folder. What hangs together is changed under one lock, so that no trial is
started twice, nor one too many.
"""

import math
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import FrozenTrial, Trial, TrialState

from hvg.core.errors import HvgError
from hvg.core.random_keys import key_to_seed
from hvg.sweep.database import LostTrialError, answering, locked_storage, open_storage, sqlite_path
from hvg.sweep.records import SweepRecord, folder_name, read_record, read_trials
from hvg.sweep.search import Sweep
from hvg.sweep.space import Choices, Parameter


def stored_sweep(url: str, name: str | None) -> SweepRecord:
    """Record of a sweep in a storage. name: None for the only one. Raises: HvgError if there is none of that name."""
    path = sqlite_path(url)
    if path is not None and not path.exists():
        raise HvgError(
            f"{path}: no such file; a NAME stands for runs/NAME/sweep.db", then="hvg sweep report NAME storage=ADDRESS"
        )
    with locked_storage(url):
        storage = open_storage(url, make=False)
        names = [study.study_name for study in optuna.get_all_study_summaries(storage)]
        if name is None and len(names) == 1:
            name = names[0]
        if name not in names:
            asked = f"no sweep '{name}' in this storage" if name else "the storage has several sweeps, give a NAME"
            raise HvgError(f"{asked}; it has {', '.join(sorted(names)) or 'none'}")
        study = optuna.load_study(study_name=name, storage=storage)
        return read_record(study)


class SweepStore:
    """A sweep's storage, as one of its workers sees it."""

    def __init__(self, sweep: Sweep) -> None:
        """Registers the sweep, or joins it. Raises: HvgError where its name stands for another sweep, or nothing answers."""
        self._sweep = sweep
        self._distributions = {parameter.key: _distribution(parameter) for parameter in sweep.space}
        with locked_storage(sweep.url):
            self._study = optuna.create_study(
                storage=open_storage(sweep.url),
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

    def claim(self, worker: str) -> "OpenTrial | None":
        """The next trial to train: one that was given back, or a new one; None when all have been started."""
        with locked_storage(self._sweep.url):
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
        """Number of trials that are being trained, or wait to be continued."""
        with answering(self._sweep.url):
            return sum(trial.state in ("waiting", "running") for trial in read_trials(self._study, self._sweep.space))

    def record(self) -> SweepRecord:
        """The sweep so far."""
        with answering(self._sweep.url):
            return read_record(self._study)

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
        with locked_storage(self._sweep.url):
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


def _distribution(parameter: Parameter) -> BaseDistribution:
    if isinstance(parameter, Choices):
        return CategoricalDistribution(parameter.values)
    if parameter.whole:
        step = 1 if parameter.step is None else int(parameter.step)
        return IntDistribution(int(parameter.low), int(parameter.high), log=parameter.log, step=step)
    return FloatDistribution(parameter.low, parameter.high, log=parameter.log, step=parameter.step)


def _sampler(sweep: Sweep, index: int) -> optuna.samplers.BaseSampler:
    """Optuna sampler that proposes trial ``index``: its random numbers depend on that alone, not on workers."""
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
