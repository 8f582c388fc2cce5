"""The command line. ``hvg COMMAND key=value ...``; every command takes Hydra's override grammar."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from hvg.errors import ConfigError, HvgError, Problem, did_you_mean

USAGE = """\
hvg COMMAND [key=value ...]

  list [KIND] [--verbose]         swappable parts; --verbose is the manual of every setting
  check [overrides]               judge a configuration and forecast its cost, without touching a weight
  show [overrides] [index= split= frame= out=]
                                  a contact sheet of a clip: images, every signal, joints drawn over the person
  prepare [overrides] [jobs=]     render the dataset and its signals to shards
  train [overrides] [--multirun]  train one model; with --multirun one per combination of comma-separated values
  launch train [overrides] launcher=basic|local|torchrun|slurm [--multirun] [--dry-run] [jobs= nodes= devices= ...]
                                  train here, side by side, under torchrun, or on Slurm; --dry-run shows the commands
  evaluate checkpoint=PATH [protocol= sampler= solver= guidance= evaluation.KEY=]
                                  score a checkpoint on the test split
  evaluate predictions=FOLDER reference=FOLDER [protocol= masks= subject= background= out=]
                                  score videos or frames that any system made, matched by name
  sample checkpoint=PATH reference=PHOTO motion=MOTION.npz camera=orbit out=FOLDER [sampler= ...]
                                  a person of your own in a motion of your own
  export checkpoint=PATH out=FOLDER [weights=ema|raw]
                                  a folder for diffusers: hvg.pipeline.HumanVideoPipeline.from_pretrained(FOLDER)
  convert body=FILE.pkl out=FILE.npz
                                  a body model of the SMPL family as plain arrays; nothing in the pickle is called
  study FOLDER [overrides] [jobs= fresh=]
                                  train and compare the arms of FOLDER/study.yaml
  compare RUN RUN ... [LABEL=RUN,RUN] [out=]
                                  evaluations side by side, with intervals and p-values; several runs of an arm are seeds
  weights [folder=DIR]            the pretrained networks that metrics need: what is there, and where to get the rest
  bench [NAME ...]                what takes how long here

Overrides are Hydra's: pose=skeleton scale=cpu seed=3 training.steps=100. Choices: `hvg list`."""


def main() -> None:
    """Entry point of the ``hvg`` command; errors of the user's are one message and exit code 1."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: Sequence[str]) -> int:
    """Runs one command; returns the exit code."""
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(USAGE)
        return 0
    command, rest = arguments[0], list(arguments[1:])
    if command not in COMMANDS:
        print(f"hvg: no command is named '{command}'. {did_you_mean(command, COMMANDS)}", file=sys.stderr)
        return 2
    if rest and rest[0] in ("-h", "--help"):
        print(USAGE)
        return 0
    try:
        return COMMANDS[command](rest) or 0
    except HvgError as error:
        print(f"hvg {command}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"hvg {command}: interrupted; the same command continues it where it keeps checkpoints", file=sys.stderr)
        return 130


def take_options(arguments: Sequence[str], model: type) -> tuple[Any, list[str]]:
    """Splits off the ``key=value`` words that are fields of a pydantic model; returns the options and the other words.

    Raises: ConfigError when a value has the wrong type or a required one is missing.
    """
    import yaml
    from pydantic import ValidationError

    from hvg.parsing import read_yaml

    taken, others = {}, []
    for word in arguments:
        key, equals, value = word.partition("=")
        if equals and key in model.model_fields:
            # Text is what it says: YAML would read 1:30:00 as a number to base 60.
            text = model.model_fields[key].annotation in (str, str | None) and value != "null"
            try:
                taken[key] = None if not value else value if text else read_yaml(value)
            except yaml.YAMLError as error:
                raise ConfigError([Problem(key, f"cannot be read as a value: {error}")]) from error
        else:
            others.append(word)
    try:
        return model.model_validate(taken), others
    except ValidationError as error:
        problems = [
            Problem(
                ".".join(map(str, e["loc"])),
                f"{e['msg']}, got {e['input']!r}" if e["loc"][0] in taken else "is required",
            )
            for e in error.errors()
        ]
        # What is missing may have been given under a misspelt name.
        hints = {key: did_you_mean(key, list(model.model_fields)) for key in (w.partition("=")[0] for w in others)}
        problems += [Problem(key, f"unknown option. {hint}") for key, hint in hints.items() if hint]
        raise ConfigError(problems) from error


def _only_options(arguments: Sequence[str], model: type) -> Any:
    """Options of a command that takes no overrides. Raises: ConfigError for any other word."""
    options, others = take_options(arguments, model)
    unknown = [word.partition("=")[0] for word in others]
    if unknown:
        known = list(model.model_fields)
        raise ConfigError([Problem(name, f"unknown option. {did_you_mean(name, known)}") for name in unknown])
    return options


def _options_and_overrides(arguments: Sequence[str], model: type) -> tuple[Any, list[str]]:
    """Options of a command that works with a trained model, and the words that say how to sample it.

    Raises: ConfigError for a word that is neither an option nor begins with a key of the configuration.
    """
    from hvg.config import SAMPLING_KEYS, root_key, root_keys

    options, words = take_options(arguments, model)
    known = root_keys()
    unknown = [root_key(word) for word in words if root_key(word) not in known]
    if unknown:
        names = [*model.model_fields, *SAMPLING_KEYS]
        raise ConfigError([Problem(name, f"unknown option. {did_you_mean(name, names)}") for name in unknown])
    return options, words


def _list(arguments: list[str]) -> int:
    from hvg.listing import list_command

    return list_command(arguments)


def _check(arguments: list[str]) -> int:
    from hvg.listing import check_command

    return check_command(arguments)


def _show(arguments: list[str]) -> int:
    from hvg.config import compose
    from hvg.show import ShowOptions, contact_sheet

    options, overrides = take_options(arguments, ShowOptions)
    print(f"wrote {contact_sheet(compose(overrides), options)}")
    return 0


def _prepare(arguments: list[str]) -> int:
    from hvg.config import compose
    from hvg.prepare import PrepareOptions, prepare
    from hvg.progress import ProgressLines

    options, overrides = take_options(arguments, PrepareOptions)
    # `hvg prepare synthetic` reads as `hvg prepare dataset=synthetic`.
    overrides = [word if "=" in word else f"dataset={word}" for word in overrides]
    if not any(word.startswith("data.cache=") for word in overrides):
        overrides.append("data.cache=cache")
    config = compose(overrides)
    with ProgressLines() as progress:
        folder = prepare(
            [config], jobs=options.jobs, report=lambda d, n: progress.update(config.dataset.name, "render", d, n)
        )
    print(f"rendered to {folder}; used by every run with data.cache={config.data.cache} and the same dataset settings")
    return 0


def _train(arguments: list[str]) -> int:
    from hvg.config import compose

    if "--multirun" in arguments or "-m" in arguments or any(word.startswith("launcher=") for word in arguments):
        return _launch(["train", *arguments])
    return _train_one(compose(arguments))


def _launch(arguments: list[str]) -> int:
    from hvg.launch import LaunchOptions, judged_runs, launch

    if not arguments or arguments[0] != "train":
        raise HvgError("give the command to launch: hvg launch train [overrides] launcher=slurm")
    flags = {"--multirun", "-m", "--dry-run"} & set(arguments)
    words = [word for word in arguments[1:] if word not in flags]
    sweep, dry_run = bool(flags & {"--multirun", "-m"}), "--dry-run" in flags
    options, overrides = take_options(words, LaunchOptions)
    runs = judged_runs(overrides, options, sweep)
    # Where several processes train, each was started by this command line: they would all go through the sweep.
    several = sweep and any(run.processes != (1, 1) for run in runs)
    if options.launcher != "basic" or dry_run or several:
        return launch(runs, options, sweep=sweep, dry_run=dry_run)
    for number, run in enumerate(runs):
        print(f"[{number + 1}/{len(runs)}] {run.config.name}: {' '.join(run.words)}", flush=True)
        _train_one(run.config)
    return 0


def _train_one(config) -> int:
    from hvg.progress import ProgressLines
    from hvg.training import is_first_process, run_folder, train

    if not is_first_process():
        # One of several that train together; the first one speaks for all.
        train(config, log=lambda line: None)
        return 0
    with ProgressLines() as progress:
        train(config, lambda step, steps, speed, loss: progress.update(config.name, "train", step, steps, speed, loss))
    print(f"trained {config.training.steps} steps; the run is in {run_folder(config)}")
    return 0


def _evaluate(arguments: list[str]) -> int:
    from hvg.evaluation import EvaluateOptions, evaluate_checkpoint
    from hvg.progress import ProgressLines

    names = [word.partition("=")[0] for word in arguments]
    if "checkpoint" not in names and get_close_matches("predictions", names) + get_close_matches("reference", names):
        return _evaluate_folders(arguments)
    options, overrides = _options_and_overrides(arguments, EvaluateOptions)
    with ProgressLines() as progress:
        found = evaluate_checkpoint(options, overrides, lambda d, n: progress.update("test", "evaluate", d, n))
    if found is not None:
        lines, path = found
        print("\n".join(lines))
        print(f"per-clip values: {path}")
    return 0


def _evaluate_folders(arguments: list[str]) -> int:
    from hvg.folders import FolderOptions, evaluate_folders
    from hvg.progress import ProgressLines

    options, overrides = take_options(arguments, FolderOptions)
    with ProgressLines() as progress:
        found = evaluate_folders(options, overrides, lambda d, n: progress.update("folders", "score", d, n))
    if found is None:
        return 0
    lines, problems, path = found
    print("\n".join(lines))
    print(f"per-clip values: {path}")
    if problems:
        print(f"{len(problems)} not scored:", *problems, sep="\n  ", file=sys.stderr)
    return 1 if problems else 0


def _sample(arguments: list[str]) -> int:
    from hvg.generate import SampleOptions, generate
    from hvg.progress import ProgressLines

    options, overrides = _options_and_overrides(arguments, SampleOptions)
    with ProgressLines() as progress:
        for line in generate(options, overrides, lambda stage, d, n: progress.update("sample", stage, d, n)):
            print(line, flush=True)
    return 0


def _export(arguments: list[str]) -> int:
    from hvg.export import ExportOptions, export

    for line in export(_only_options(arguments, ExportOptions)):
        print(line)
    return 0


def _convert(arguments: list[str]) -> int:
    from hvg.convert import ConvertOptions, convert

    for line in convert(_only_options(arguments, ConvertOptions)):
        print(line)
    return 0


def _study(arguments: list[str]) -> int:
    from rich.console import Console

    from hvg.progress import ProgressLines
    from hvg.results import table_text
    from hvg.study import StudyOptions, run_study

    folders = [word for word in arguments if "=" not in word]
    if len(folders) != 1:
        raise HvgError("give one study folder, such as experiments/quickstart")
    options, overrides = take_options([word for word in arguments if "=" in word], StudyOptions)
    with ProgressLines() as progress:
        results, path = run_study(Path(folders[0]), overrides, options, progress=progress.update)
    Console(width=None if sys.stdout.isatty() else 160).print(table_text(results))
    for arm in results["arms"]:
        if arm["error"]:
            print(f"arm {arm['name']}: {arm['error']}", file=sys.stderr)
    print(f"report: {path}")
    return 1 if any(arm["status"] == "failed" for arm in results["arms"]) else 0


def _compare(arguments: list[str]) -> int:
    from rich.console import Console

    from hvg.compare import CompareOptions, compare_runs
    from hvg.results import table_text

    options, words = take_options(arguments, CompareOptions)
    results, notes = compare_runs(words, options)
    Console(width=None if sys.stdout.isatty() else 160).print(table_text(results))
    print("\n".join(notes))
    return 0


def _weights(arguments: list[str]) -> int:
    from hvg.weights import WeightsOptions, default_folder, weights_report

    options = _only_options(arguments, WeightsOptions)
    lines, damaged = weights_report(options.folder or default_folder())
    print("\n".join(lines))
    return 1 if damaged else 0


def _bench(arguments: list[str]) -> int:
    from hvg.bench import BENCHMARKS

    unknown = [name for name in arguments if name not in BENCHMARKS]
    if unknown:
        raise HvgError(f"no benchmark is named '{unknown[0]}'. {did_you_mean(unknown[0], BENCHMARKS)}")
    for name in arguments or BENCHMARKS:
        for line in BENCHMARKS[name]():
            print(f"{name:<12} {line}", flush=True)
    return 0


COMMANDS: dict[str, Callable[[list[str]], int]] = {
    "list": _list,
    "check": _check,
    "show": _show,
    "prepare": _prepare,
    "train": _train,
    "launch": _launch,
    "evaluate": _evaluate,
    "sample": _sample,
    "export": _export,
    "convert": _convert,
    "study": _study,
    "compare": _compare,
    "weights": _weights,
    "bench": _bench,
}

if __name__ == "__main__":
    main()
