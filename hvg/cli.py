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
  check [overrides] [devices= nodes= memory= bandwidth=]
                                  judge a configuration and forecast its cost on each GPU; exit code 1 if it does not fit
  show [overrides] [index= split= frame= out=]
                                  a contact sheet of a clip: images, every signal, joints drawn over the person
  prepare [overrides] [jobs=]     render the dataset and its signals to shards
  prepare latents [overrides] [jobs=]
                                  and store what the codec and other frozen networks make of the training clips
  train [overrides] [--multirun]  train one model; with --multirun one per combination of comma-separated values
  train dry_run=32 [overrides]    build the job of a rank of 32 on shapes, without a GPU: what would each hold?
  launch train [overrides] launcher=basic|local|torchrun|slurm [--multirun] [--dry-run] [jobs= nodes= devices= ...]
                                  train here, side by side, under torchrun, or on Slurm; --dry-run shows the commands
  train --multirun sweep=optuna trials=40 'training.learning_rate=tag(log, interval(1e-4, 1e-2))' pose=bone_map,skeleton
                                  search; every start of the same command is a worker, and a dead one's trial is continued
  sweep report NAME [storage= output=]
                                  a sweep's best trials, parallel coordinates, importance: report.html and trials.csv
  sweep wandb --print [overrides] the same sweep as a file for `wandb sweep`
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
  study FOLDER [overrides] [jobs= fresh=] [launcher=local|basic|torchrun|slurm ...] [--dry-run]
                                  train and compare the arms of FOLDER/study.yaml, here or as jobs of Slurm
  study FOLDER [overrides] collect=true
                                  report on what is finished; exit code 75 while some arms are not, 1 when one failed
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
                f"{e['msg'].removeprefix('Value error, ')}, got {e['input']!r}"
                if e["loc"][0] in taken
                else "is required",
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
    # `hvg prepare latents synthetic` reads as `hvg prepare data.latents=cached dataset=synthetic`.
    overrides = ["data.latents=cached" if word == "latents" else word for word in overrides]
    overrides = [word if "=" in word else f"dataset={word}" for word in overrides]
    if not any(word.startswith("data.cache=") for word in overrides):
        overrides.append("data.cache=cache")
    config = compose(overrides)
    with ProgressLines() as progress:
        folder = prepare(
            [config], jobs=options.jobs, report=lambda d, n: progress.update(config.dataset.name, "prepare", d, n)
        )
    print(f"rendered to {folder}; used by every run with data.cache={config.data.cache} and the same dataset settings")
    if config.data.latents == "cached":
        print("latents lie beside it; used by runs with data.latents=cached and the same codec, weights and alignment")
    return 0


def _train(arguments: list[str]) -> int:
    from hvg.config import compose

    if any(word.startswith("dry_run=") for word in arguments):
        return _dry_run(arguments)
    launched = any(word.startswith(("launcher=", "sweep=")) for word in arguments)
    if "--multirun" in arguments or "-m" in arguments or launched:
        return _launch(["train", *arguments])
    return _train_one(compose(arguments))


def _dry_run(arguments: list[str]) -> int:
    from hvg.config import compose
    from hvg.dry_run import DryRunOptions, dry_run

    options, overrides = take_options(arguments, DryRunOptions)
    for line in dry_run(compose(overrides), options.dry_run):
        print(line, flush=True)
    return 0


def _launch(arguments: list[str]) -> int:
    from hvg.here import refuse_missing
    from hvg.jobs import LaunchOptions
    from hvg.launch import judged_runs, launch, training_batch

    if not arguments or arguments[0] != "train":
        raise HvgError("give the command to launch: hvg launch train [overrides] launcher=slurm")
    flags = {"--multirun", "-m", "--dry-run"} & set(arguments)
    words = [word for word in arguments[1:] if word not in flags]
    if any(word.startswith("sweep=") for word in words):
        return _train_sweep(words, "--dry-run" in flags)
    sweep, dry_run = bool(flags & {"--multirun", "-m"}), "--dry-run" in flags
    options, overrides = take_options(words, LaunchOptions)
    runs = judged_runs(overrides, options, sweep)
    # Where several processes train, each was started by this command line: they would all go through the sweep. And DeepSpeed
    # keeps the group of a process's first run, which is gone when a second one begins.
    apart = sweep and any(run.config.strategy.name != "single" for run in runs)
    if options.launcher != "slurm" and not dry_run:
        refuse_missing([run.config for run in runs])
    if options.launcher != "basic" or dry_run or apart:
        return launch(training_batch(runs), options, dry_run=dry_run)
    for number, run in enumerate(runs):
        print(f"[{number + 1}/{len(runs)}] {run.config.name}: {' '.join(run.words)}", flush=True)
        _train_one(run.config)
    return 0


def _train_sweep(words: list[str], dry_run: bool) -> int:
    from hvg.jobs import LaunchOptions
    from hvg.sweep import SweepOptions
    from hvg.sweep_worker import train_sweep

    options, words = take_options(words, SweepOptions)
    launch_options, overrides = take_options(words, LaunchOptions)
    return train_sweep(overrides, options, launch_options, dry_run=dry_run)


def _sweep(arguments: list[str]) -> int:
    if arguments[:1] == ["report"]:
        return _sweep_report(arguments[1:])
    if arguments[:1] == ["wandb"]:
        return _sweep_wandb(arguments[1:])
    raise HvgError("give what to do: hvg sweep report NAME, or hvg sweep wandb --print [overrides]")


def _sweep_report(arguments: list[str]) -> int:
    from hvg.sweep import SweepReportOptions, default_storage
    from hvg.sweep_report import write_sweep_report
    from hvg.sweep_store import stored_sweep, use_password

    names = [word for word in arguments if "=" not in word]
    options = _only_options([word for word in arguments if "=" in word], SweepReportOptions)
    if len(names) > 1 or not (names or options.storage):
        raise HvgError("give one sweep: hvg sweep report NAME, or hvg sweep report [NAME] storage=ADDRESS")
    name = names[0] if names else None
    url = use_password(options.storage) if options.storage else default_storage(options.output / str(name))
    record = stored_sweep(url, name)
    print(f"report: {write_sweep_report(record, record.folder)}")
    return 0


def _sweep_wandb(arguments: list[str]) -> int:
    from hvg.jobs import LaunchOptions
    from hvg.sweep import SweepOptions, judged_sweep
    from hvg.sweep_wandb import wandb_sweep

    if "--print" not in arguments:
        raise HvgError("nothing is sent from here: hvg sweep wandb --print ... > sweep.yaml; wandb sweep sweep.yaml")
    words = [word for word in arguments if word not in ("--print", "--multirun", "-m")]
    options, overrides = take_options(words, SweepOptions)
    print(wandb_sweep(judged_sweep(overrides, options, LaunchOptions())), end="")
    return 0


def _train_one(config) -> int:
    from hvg.progress import ProgressLines
    from hvg.training import is_first_process, train

    if not is_first_process():
        # One of several that train together; the first one speaks for all.
        train(config, log=lambda line: None)
        return 0
    with ProgressLines() as progress:
        train(config, lambda done: progress.update(config.name, "train", done.step, done.steps, done.note))
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

    dry_run = "--dry-run" in arguments
    folders = [word for word in arguments if "=" not in word and word != "--dry-run"]
    if len(folders) != 1:
        raise HvgError("give one study folder, such as experiments/quickstart")
    options, overrides = take_options([word for word in arguments if "=" in word], StudyOptions)
    with ProgressLines() as progress:
        outcome = run_study(Path(folders[0]), overrides, options, dry_run=dry_run, progress=progress.update)
    if outcome is None:
        return 0
    Console(width=None if sys.stdout.isatty() else 160).print(table_text(outcome.results))
    for line in outcome.missing:
        print(line, file=sys.stderr)
    print(f"report: {outcome.report}")
    return outcome.exit_code


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
    "sweep": _sweep,
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
