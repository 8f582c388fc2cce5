"""The command line. ``hvg COMMAND key=value ...``; every command takes Hydra's override grammar."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
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
  evaluate checkpoint=PATH [sampler= solver= guidance= evaluation.KEY=]
                                  score a checkpoint on the test split
  sample checkpoint=PATH reference=PHOTO motion=MOTION.npz camera=orbit out=FOLDER [sampler= ...]
                                  a person of your own in a motion of your own
  export checkpoint=PATH out=FOLDER [weights=ema|raw]
                                  a folder for diffusers: hvg.pipeline.HumanVideoPipeline.from_pretrained(FOLDER)
  study FOLDER [overrides] [jobs= fresh=]
                                  train and compare the arms of FOLDER/study.yaml
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

    taken, others = {}, []
    for word in arguments:
        key, equals, value = word.partition("=")
        if equals and key in model.model_fields:
            taken[key] = yaml.safe_load(value) if value else None
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
    from hvg.config import compose, expand_sweep

    sweep = "--multirun" in arguments or "-m" in arguments
    overrides = [word for word in arguments if word not in ("--multirun", "-m")]
    if not sweep:
        return _train_one(compose(overrides))
    # Every combination is judged before the first one trains.
    jobs = expand_sweep(overrides)
    configs = [compose([*words, f"name={_sweep_name(overrides, words, number)}"]) for number, words in enumerate(jobs)]
    for number, config in enumerate(configs):
        print(f"[{number + 1}/{len(configs)}] {config.name}: {' '.join(jobs[number])}")
        _train_one(config)
    return 0


def _sweep_name(overrides: Sequence[str], words: Sequence[str], number: int) -> str:
    """``<name>/<number>-<what this job sets and others do not>``; a valid folder name."""
    base = next((w.partition("=")[2] for w in words if w.startswith("name=")), "multirun")
    own = [w for w in words if w not in overrides]
    text = "-".join(w.replace("=", "_").replace("/", "_") for w in own) or "run"
    return f"{base}/{number}-" + "".join(c if c.isalnum() or c in "._-" else "_" for c in text)


def _train_one(config) -> int:
    from hvg.progress import ProgressLines
    from hvg.training import run_folder, train

    with ProgressLines() as progress:
        train(config, lambda step, steps, speed, loss: progress.update(config.name, "train", step, steps, speed, loss))
    print(f"trained {config.training.steps} steps; the run is in {run_folder(config)}")
    return 0


def _evaluate(arguments: list[str]) -> int:
    from hvg.evaluation import EvaluateOptions, evaluate_checkpoint
    from hvg.progress import ProgressLines

    options, overrides = _options_and_overrides(arguments, EvaluateOptions)
    with ProgressLines() as progress:
        lines, path = evaluate_checkpoint(options, overrides, lambda d, n: progress.update("test", "evaluate", d, n))
    print("\n".join(lines))
    print(f"per-clip values: {path}")
    return 0


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
    "evaluate": _evaluate,
    "sample": _sample,
    "export": _export,
    "study": _study,
    "bench": _bench,
}

if __name__ == "__main__":
    main()
