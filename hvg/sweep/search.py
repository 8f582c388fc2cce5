"""``hvg train --multirun sweep=optuna``: a search over overrides, judged before its first trial, shared by its workers.

Every start of the same command is a worker. The storage remembers the sweep, so workers need nothing of each other: see
``hvg.sweep.store`` for the trials and ``hvg.sweep.worker`` for what a worker does.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from hvg.cluster.jobs import Batch, Job, process_words, unused_options
from hvg.cluster.launch_options import LaunchOptions, SweepOptions
from hvg.config.composition import compose
from hvg.config.settings import RunConfig
from hvg.core.errors import ConfigError, Problem
from hvg.core.names import text_word
from hvg.sweep.space import Parameter, read_space

VALIDATION = "validation_"
DIRECTIONS: dict[str, Literal["minimize", "maximize"]] = {"validation_psnr": "maximize", "loss": "minimize"}


@dataclass(frozen=True)
class Sweep:
    """A judged sweep. words: overrides of every trial. config: one trial's. steps: of its longest trial.

    metric_every: steps between two values of the metric.
    """

    name: str
    folder: Path
    words: tuple[str, ...]
    space: tuple[Parameter, ...]
    direction: Literal["minimize", "maximize"]
    options: SweepOptions
    config: RunConfig
    steps: int
    metric_every: int

    @property
    def url(self) -> str:
        """Address of the sweep's storage."""
        return self.options.storage or default_storage(self.folder)

    def identity(self) -> dict[str, Any]:
        """Settings of the sweep that the storage keeps, as values of JSON; they have to be the same for all workers."""
        own = {
            "words": self.words,
            "space": [asdict(parameter) for parameter in self.space],
            "metric": self.options.metric,
            "direction": self.direction,
            "folder": str(self.folder),
        }
        return json.loads(json.dumps(own))

    def trial_words(self, words: Sequence[str], folder: str) -> tuple[str, ...]:
        """Words after ``hvg train`` for a trial with the values ``words``; it continues what its folder holds."""
        return (*self.words, *words, text_word("name", f"{self.name}/{folder}"), "resume=auto")


def default_storage(folder: Path) -> str:
    """The storage of a sweep that names none."""
    return f"sqlite:///{folder / 'sweep.db'}"


def judged_sweep(overrides: Sequence[str], options: SweepOptions, launch_options: LaunchOptions) -> Sweep:
    """The sweep that a command line asks for, every value of it judged before the first trial starts.

    Of a range of numbers its ends are judged, of choices each, beside the first of all others.
    Raises: ConfigError with all problems.
    """
    space, words = read_space([*overrides, *process_words(launch_options)])
    first = [parameter.word(parameter.samples()[0]) for parameter in space]  # type: ignore[arg-type]
    jobs = [first]
    for place, parameter in enumerate(space):
        others = [parameter.word(value) for value in parameter.samples()[1:]]  # type: ignore[arg-type]
        jobs += [[*first[:place], word, *first[place + 1 :]] for word in others]
    named = [] if any(word.startswith("name=") for word in words) else ["name=sweep"]
    configs, problems = [], []
    for job in jobs:
        try:
            configs.append(compose([*words, *named, *job]))
        except ConfigError as error:
            problems += error.problems
    direction = options.direction or DIRECTIONS.get(options.metric)
    problems += [problem for config in configs for problem in _problems(config, options, launch_options)]
    if direction is None:
        problems.append(
            Problem("direction", f"has to say which end of {options.metric} is better, as direction=minimize.")
        )
    if problems or direction is None:
        raise ConfigError(list(dict.fromkeys(problems)))
    training = [config.training for config in configs]
    every = [t.validate_every if options.metric.startswith(VALIDATION) else t.log_every for t in training]
    return Sweep(
        name=configs[0].name,
        folder=Path(configs[0].output) / configs[0].name,
        words=tuple(word for word in words if not word.startswith("name=")),
        space=space,
        direction=direction,
        options=options,
        config=configs[0],
        steps=max(t.steps for t in training),
        metric_every=min(every),
    )


def _problems(config: RunConfig, options: SweepOptions, launch_options: LaunchOptions) -> list[Problem]:
    """Problems for which a trial of these settings cannot be part of the sweep."""
    problems, (nodes, _) = unused_options(launch_options), config.strategy.processes
    if options.metric.startswith(VALIDATION) and not config.training.validate_every:
        message = f"is 0, so nothing logs {options.metric}; set training.validate_every, or metric=loss."
        problems.append(Problem("training.validate_every", message))
    if nodes > 1:
        problems.append(
            Problem("strategy.nodes", f"a trial trains on one node, got {nodes}; several workers take several.")
        )
    if launch_options.launcher == "torchrun":
        message = "starts no workers; choose basic, local or slurm. A trial's own processes are started by its worker."
        problems.append(Problem("launcher", message))
    return problems


def worker_batch(sweep: Sweep, overrides: Sequence[str], options: LaunchOptions) -> tuple[Batch, LaunchOptions]:
    """As many workers as ``jobs`` says, each with a command line that joins the sweep, and how to launch them."""
    given = sweep.options.model_dump(exclude_unset=True, mode="json")
    arguments = ["--multirun", *(f"{key}={_word(value)}" for key, value in given.items())]
    arguments += [*overrides, *process_words(options)]
    jobs = tuple(
        Job(
            name=f"{sweep.name} worker {number}",
            commands=(("-m", "hvg.cli", "train", *arguments),),
            log=sweep.folder / "workers" / f"{number}.log",
            cpu=sweep.config.device == "cpu",
        )
        for number in range(options.jobs or 1)
    )
    _, devices = sweep.config.strategy.processes
    # A worker is one process, whose trial starts as many as there are GPUs.
    gpus = options.gpus_per_node if options.gpus_per_node is not None or jobs[0].cpu or devices == "auto" else devices
    return Batch(name=sweep.name, folder=sweep.folder, jobs=jobs), options.model_copy(update={"gpus_per_node": gpus})


def _word(value: object) -> str:
    """A value of the options as a command line says it."""
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
