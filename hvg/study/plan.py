"""Plan of a study: its runs, every arm at every seed, checked before anything starts, and the progress of each."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from hvg.cluster.launch_options import StudyOptions
from hvg.config.changes import Change, changes, trained_settings
from hvg.config.composition import compose
from hvg.config.settings import RunConfig
from hvg.core.checkpoint import checkpoint_path, checkpoints
from hvg.core.errors import ConfigError, DataError, Problem, did_you_mean
from hvg.core.names import text_word
from hvg.parts.continued import Continued
from hvg.score.evaluation_record import EvaluationRecord, failed_metrics, finished_record
from hvg.study.needs import FOLDER, needs_of_words, with_checkpoints, without_needs, wrong_needs
from hvg.study.study_file import StudyFile
from hvg.train.run_notes import read_failure, read_progress


@dataclass(frozen=True)
class ArmState:
    """State of an arm at one seed. text: why it failed, or where it is; "" when it is done. record: its evaluation, also where
    the code of a metric failed in it.
    """

    status: Literal["done", "failed", "unfinished"]
    text: str = ""
    record: EvaluationRecord | None = None


@dataclass(frozen=True)
class ArmRun:
    """One arm at one seed, or a need of arms, which is trained and not scored.

    trained_by: the run whose weights it samples with, an arm or a need; None: it trains its own. needs: the runs without whose
    checkpoints it cannot start.
    """

    arm: str
    seed: int
    config: RunConfig
    trained_by: "ArmRun | None" = None
    needs: tuple["ArmRun", ...] = ()
    is_scored: bool = True

    @property
    def title(self) -> str:
        """What it is, and its name."""
        return f"{'arm' if self.is_scored else 'need'} {self.arm}"

    @property
    def label(self) -> str:
        """Label of the arm and seed in lines of progress."""
        return f"{self.arm if self.is_scored else self.title} (seed {self.seed})"

    @property
    def folder(self) -> Path:
        """Run folder of the arm at this seed."""
        return Path(self.config.output) / self.config.name

    @property
    def checkpoint(self) -> Path:
        """The weights of its last step."""
        return checkpoint_path(self.folder / "checkpoints", self.config.last_step)

    def is_trained(self) -> bool:
        """Whether the weights of its last step are there."""
        return self.checkpoint.exists()

    def waits_for(self) -> list["ArmRun"]:
        """The runs without whose weights it cannot start, that do not have them."""
        trainer = [] if self.trained_by is None else [self.trained_by]
        return [run for run in (*self.needs, *trainer) if not run.is_trained()]

    def lacks_weights(self) -> bool:
        """Whether a training that it starts from failed, so that it cannot start."""
        return any(run.state().status == "failed" for run in self.waits_for())

    def state(self) -> ArmState:
        """State of the arm, read from its folder; whether something works on it is not known there."""
        record = finished_record(self.folder, self.config) if self.is_scored else None
        if record is not None:
            failed = failed_metrics(record)
            return ArmState("failed" if failed else "done", "; ".join(failed), record)
        if not self.is_scored and self.is_trained():
            return ArmState("done")
        for run in self.waits_for():
            if (state := run.state()).status == "failed":
                why = "" if run.is_scored else f": {state.text}"
                return ArmState("failed", f"{run.title}, which trains for it, failed{why}")
        if (failure := read_failure(self.folder)) is not None:
            return ArmState("failed", failure)
        return ArmState("unfinished", f"not finished: {self._progress()}")

    def _progress(self) -> str:
        try:
            now = read_progress(self.folder)
        except DataError as error:
            return str(error)
        if now is not None:
            return f"{'at step' if now.stage == 'train' else 'scored clip'} {now.done} of {now.total}"
        saved = list(checkpoints(self.folder / "checkpoints"))
        return f"at step {saved[-1]} of {self.config.last_step}" if saved else "not started"


def plan(study: StudyFile, name: str, overrides: Sequence[str]) -> list[ArmRun]:
    """Every arm at every seed, composed and judged before anything runs.

    Raises: ConfigError with the problems of all arms; also where arms differ in more than ``varies``.
    """
    runs, problems = list[ArmRun](), [*_reserved(study, overrides), *wrong_needs(study, overrides)]
    for seed in study.seeds:
        arms, wrong = _of_seed(study, name, seed, overrides)
        runs, problems = runs + arms, problems + wrong
    problems = list(dict.fromkeys([*problems, *_no_headline(study, runs)]))
    for run in runs[1:]:
        problems += _differences(study, runs[0], run)
    problems += _other_weights(study, runs)
    if problems:
        raise ConfigError(problems)
    return _share_training(study, runs)


def _of_seed(study: StudyFile, name: str, seed: int, overrides: Sequence[str]) -> tuple[list[ArmRun], list[Problem]]:
    """The arms at a seed, each with its needs, and the problems of those that cannot be composed."""
    needs, arms, problems = dict[str, ArmRun](), list[ArmRun](), list[Problem]()
    for title, words in (
        *((f"need {need}", words) for need, words in study.needs.items()),
        *((f"arm {arm}", words) for arm, words in study.arms.items()),
    ):
        try:
            run = _composed(study, name, title, seed, words, overrides, needs)
        except ConfigError as error:
            problems += [replace(p, path=f"{title}: {p.path}") for p in error.problems]
            continue
        if run is not None and run.is_scored:
            arms.append(run)
        elif run is not None:
            needs[run.arm] = run
    return arms, problems


def _composed(
    study: StudyFile,
    name: str,
    title: str,
    seed: int,
    words: Sequence[str],
    overrides: Sequence[str],
    needs: Mapping[str, ArmRun],
) -> ArmRun | None:
    """The arm or need of this title; None where a need that it refers to could not be composed. needs: those before, by name.

    Raises: ConfigError.
    """
    kind, _, arm = title.partition(" ")
    is_scored = kind == "arm"
    own = (
        text_word("output", f"runs/{name}"),
        text_word("name", f"{'' if is_scored else f'{FOLDER}/'}{arm}-seed{seed}"),
        f"seed={seed}",
        "resume=auto",
    )
    base, given = (study.base, overrides) if is_scored else (without_needs(study.base), without_needs(overrides))
    said = _last_wins(*own, *base, *words, *given)
    found = needs_of_words(said)
    if not needs.keys() >= {*found}:
        return None
    kept = {need: needs[need].checkpoint for need in found}
    # What all arms are told holds for those whose system uses it.
    config = compose(with_checkpoints(said, kept), asked=with_checkpoints(words, kept))
    return ArmRun(arm, seed, config, needs=tuple(needs[need] for need in found), is_scored=is_scored)


def needs_of(runs: Iterable[ArmRun]) -> list[ArmRun]:
    """The needs of these runs and those needs' own, each once and behind its own."""
    found: dict[Path, ArmRun] = {}
    for run in runs:
        for need in (*needs_of(run.needs), *run.needs):
            found.setdefault(need.folder, need)
    return list(found.values())


def asked_runs(study: StudyFile, runs: Sequence[ArmRun], options: StudyOptions) -> list[ArmRun]:
    """The runs that are worked on: of the seeds and arms that are asked for, and the arms whose weights those take."""
    seeds, arms = options.seeds or study.seeds, options.arms or tuple(study.arms)
    asked = [run for run in runs if run.seed in seeds and run.arm in arms]
    folders = {place.folder for run in asked for place in (run, run.trained_by) if place is not None}
    return [run for run in runs if run.folder in folders]


def refuse_unknown(study: StudyFile, options: StudyOptions) -> None:
    """Raises: ConfigError for seeds and arms that are asked for and not in study.yaml."""
    asked = {"seeds": (options.seeds, study.seeds), "arms": (options.arms, tuple(study.arms))}
    problems = [
        Problem(key, f"study.yaml lists {', '.join(map(str, known))}; {name} is none of them.")
        for key, (names, known) in asked.items()
        for name in names or ()
        if name not in known
    ]
    if problems:
        raise ConfigError(problems)


def _reserved(study: StudyFile, overrides: Sequence[str]) -> list[Problem]:
    """Words that a study says itself, for every arm and seed."""
    places = {"base": study.base, "the command line": overrides} | {f"arm {a}": w for a, w in study.arms.items()}
    places |= {f"needs.{need}": words for need, words in study.needs.items()}
    said = {
        "name": "every arm has a folder of its own",
        "seed": "seeds are listed under `seeds`",
        "resume_changes": "arms that stand at different steps would differ in more than the study varies",
    }
    return [
        Problem(key, f"cannot be set in {place}: {said[key]}.")
        for place, words in places.items()
        for key in (word.lstrip("+~").partition("=")[0] for word in words)
        if key in said
    ]


def _no_headline(study: StudyFile, runs: Sequence[ArmRun]) -> list[Problem]:
    """Problem of a headline metric that is not in a protocol."""
    return [
        Problem(
            "headline",
            f"protocol {protocol.name} has no metric '{study.headline}'. {did_you_mean(study.headline, protocol.metrics)}",
            "hvg list metric",
        )
        for protocol in (run.config.protocol for run in runs)
        if study.headline is not None and study.headline not in protocol.metrics
    ]


def _other_weights(study: StudyFile, runs: Sequence[ArmRun]) -> list[Problem]:
    """Problems of arms that take another one's weights, and could not be scored with them."""
    configs = {run.arm: run.config for run in runs if run.seed == study.seeds[0]}
    problems = []
    for arm, other in study.weights.items():
        if other in study.weights:
            problems.append(Problem(f"weights.{arm}", f"arm {other} trains nothing itself; name the arm that trains."))
        elif arm in configs and other in configs:
            found = [change for change in changes(configs[other], configs[arm]) if _of_weights(change)]
            problems += [Problem(f"weights.{arm}", f"arm {other} is not trained so: {change}.") for change in found]
    return problems


def _of_weights(change: Change) -> bool:
    """Whether a change makes weights others, apart from whose errors the bodies have."""
    root = change.path.partition(".")[0]
    return change.continued not in (Continued.SAMPLING, Continued.FREE) and root not in ("fit", "name", "device")


def _share_training(study: StudyFile, runs: Sequence[ArmRun]) -> list[ArmRun]:
    """The runs, each with the first need or arm that trains the same, or as the arm whose weights the study gives it."""
    named, trainers = {(run.arm, run.seed): run for run in runs}, {}
    for run in (*needs_of(runs), *runs):
        if not (run.is_scored and run.arm in study.weights):
            trainers.setdefault(_training(run), run)
    found = [(run, trainers[_training(named[study.weights.get(run.arm, run.arm), run.seed])]) for run in runs]
    return [run if trainer is run else _with_weights_of(trainer, run) for run, trainer in found]


def _with_weights_of(trainer: ArmRun, run: ArmRun) -> ArmRun:
    """A run that takes another one's weights; a need, it also starts from."""
    waits = not trainer.is_scored and not any(need is trainer for need in run.needs)
    return replace(run, trained_by=trainer, needs=(*run.needs, trainer) if waits else run.needs)


def _training(run: ArmRun) -> str:
    return json.dumps(trained_settings(run.config), sort_keys=True)


def _last_wins(*overrides: str) -> list[str]:
    """Overrides where a later word for the same key replaces an earlier one: arm over base, command line over all."""
    return list({word.lstrip("+~").partition("=")[0]: word for word in overrides}.values())


def _differences(study: StudyFile, first: ArmRun, run: ArmRun) -> list[Problem]:
    """Problems of a run that differs from the first in what the study does not vary."""
    a, b = first.config.resolved(), run.config.resolved()
    # What only one of them has, the system decides, which differs then.
    keys = [key for key in a if a[key] != b.get(key, a[key]) and key not in {*study.varies, "name", "seed"}]
    return [
        Problem(
            f"arm {run.arm}", f"differs from arm {first.arm} in '{key}', which the study does not list under varies"
        )
        for key in keys
    ]
