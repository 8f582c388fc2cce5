"""The command line. ``hvg COMMAND key=value ...``; every command takes Hydra's override grammar."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Sequence
from difflib import get_close_matches
from functools import partial
from pathlib import Path
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin

from hvg.errors import ConfigError, HvgError, Problem, did_you_mean
from hvg.exit_codes import INTERRUPTED
from hvg.files import system_reason

USAGE = """\
hvg COMMAND [key=value ...]

  list [KIND|WORD] [overrides] [--verbose]
                                  swappable parts; --verbose is the manual of every setting, with the values of a run
  check [overrides] [devices= nodes= memory= bandwidth=]
                                  judge a configuration and forecast its cost on each GPU; exit code 1 if it does not fit
  show [overrides] [index= split= frame= out=]
                                  a contact sheet of a clip: images, every signal, joints drawn over the person
  prepare [overrides] [jobs=]     render the dataset and its signals to shards; pose=a,b or pose=all for several poses
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
  evaluate checkpoint=PATH [protocol= sampler= solver= guidance= evaluation.KEY= anchors=] [shift=true dataset.KEY=]
                                  score a checkpoint on the test split; with shift=true on other clips, on purpose
  evaluate predictions=FOLDER reference=FOLDER [protocol= masks= subject= background= anchors= out=]
                                  score videos or frames that any system made, matched by name
  sample checkpoint=PATH reference=PHOTO motion=MOTION.npz camera=orbit out=FOLDER [start= stride= sampler= ...]
                                  a person of your own in a motion of your own
  export checkpoint=PATH out=FOLDER [weights=ema|raw]
                                  a folder for diffusers: hvg.pipeline.HumanVideoPipeline.from_pretrained(FOLDER)
  convert body=FILE.pkl out=FILE.npz
                                  a body model of the SMPL family as plain arrays; nothing in the pickle is called
  study FOLDER [overrides] [seeds= jobs= fresh= keep=] [launcher=local|basic|torchrun|slurm ...] [--dry-run]
                                  train and compare the arms of FOLDER/study.yaml, here or as jobs of Slurm; seeds=[1] a seed
                                  at a time; keep=true also writes what seeds measured to FOLDER/results, to be committed
  study NAME ...                  the same for a study that hvg brings, from any folder: study quickstart
  study FOLDER [overrides] collect=true
                                  report on what is finished; exit code 75 while some arms are not, 1 when one failed
  study FOLDER merge=true         report on the seeds in FOLDER/results, without data, checkpoints or runs
  compare RUN RUN ... [LABEL=RUN,RUN] [out= headline=]
                                  evaluations side by side, with intervals and p-values; several runs of an arm are seeds
  weights [folder=DIR]            the pretrained networks that metrics need: what is there, and where to get the rest
  bench [NAME ...]                what takes how long here

Overrides are Hydra's: pose=skeleton scale=cpu seed=3 training.steps=100. Choices: `hvg list`."""


def main() -> None:
    """Entry point of the ``hvg`` command; errors of the user's are one message and exit code 1."""
    code = run(sys.argv[1:])
    if code == INTERRUPTED:
        # A second one while this process cleans up would end it with another exit code and a traceback.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    sys.exit(code)


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
    except OSError as error:
        # What was begun is removed where it arose; here it is told, whatever file it was.
        reason = system_reason(error)
        if reason is None:
            raise
        print(f"hvg {command}: {reason}", file=sys.stderr)
        return 1
    except KeyboardInterrupt as stop:
        told = str(stop) or AFTER_INTERRUPTION.get(command, "the same command starts anew")
        print(f"hvg {command}: interrupted; {told}", file=sys.stderr)
        return INTERRUPTED


def is_override(word: str) -> bool:
    """Whether a word sets or leaves out a key, rather than naming a folder or a part."""
    return "=" in word or word.startswith("~")


def take_options(arguments: Sequence[str], model: type) -> tuple[Any, list[str]]:
    """Splits off the ``key=value`` words that are fields of a pydantic model; returns the options and the other words.

    Raises: ConfigError when a value has the wrong type or a required one is missing.
    """
    options, others, problems = _read_options(arguments, model)
    if problems:
        raise ConfigError(problems)
    return options, others


def _read_options(arguments: Sequence[str], model: type) -> tuple[Any, list[str], list[Problem]]:
    """The options, None where they cannot be used; the words that are none; and what is wrong with the options."""
    import yaml

    from hvg.parsing import read_yaml, validate

    taken, others, problems = {}, [], []
    for word in arguments:
        key, equals, value = word.partition("=")
        if not equals or key not in model.model_fields:
            others.append(word)
            continue
        # Text is what it says: YAML would read 1:30:00 as a number to base 60, and a folder called 2024 as a number.
        text = _is_text(model.model_fields[key].annotation) and value != "null"
        try:
            taken[key] = None if not value else _unquoted(value) if text else read_yaml(value)
        except yaml.YAMLError as error:
            problems.append(Problem(key, f"cannot be read as a value: {error}"))
    if problems:
        return None, others, problems
    options, problems = validate(model, taken, "", "this command")
    return options, others, problems


def _is_text(annotation: Any) -> bool:
    """Whether a field holds text, a path, or one of several words, or nothing."""
    if get_origin(annotation) is Literal:
        return all(isinstance(word, str) for word in get_args(annotation))
    union = get_origin(annotation) in (Union, UnionType)
    return annotation in (str, Path, type(None)) or (union and all(map(_is_text, get_args(annotation))))


def _unquoted(text: str) -> str:
    """Text without the quotes around all of it, which Hydra's grammar takes away, too."""
    quoted = len(text) > 1 and text[0] in "'\"" and text[0] == text[-1]
    return text[1:-1] if quoted else text


def _only_options(arguments: Sequence[str], model: type) -> Any:
    """Options of a command that takes no overrides. Raises: ConfigError for any other word."""
    options, others, problems = _read_options(arguments, model)
    known = list(model.model_fields)
    problems += [Problem(_key(word), f"unknown option. {did_you_mean(_key(word), known)}") for word in others]
    if problems:
        raise ConfigError(problems)
    return options


def _key(word: str) -> str:
    return word.lstrip("+~").partition("=")[0]


def options_and_overrides(
    arguments: Sequence[str], *models: type, judge: Callable[[list[str]], object] = lambda words: None
) -> tuple[Any, ...]:
    """The options of each model, and the words that are overrides.

    judge: raises ConfigError where overrides cannot be used; it is asked where something else is wrong, too.
    Raises: ConfigError with all problems, also of a word that is neither an option nor begins with a key of the configuration.
    """
    from hvg.config import root_key, root_keys

    found: list[Any] = []
    problems: list[Problem] = []
    words = list(arguments)
    for model in models:
        options, words, more = _read_options(words, model)
        found.append(options)
        problems += more
    known = root_keys()
    unknown = [word for word in words if is_override(word) and root_key(word) not in {*known, "hydra"}]
    names = {*known, *(name for model in models for name in model.model_fields)}
    problems += [
        Problem(root_key(word), f"unknown key or option. {did_you_mean(root_key(word), names)}") for word in unknown
    ]
    if problems:
        try:
            judge([word for word in words if word not in unknown])
        except ConfigError as error:
            problems += error.problems
        raise ConfigError(problems)
    return *found, words


def _list(arguments: list[str]) -> int:
    from hvg.listing import list_command

    return list_command(arguments)


def _check(arguments: list[str]) -> int:
    from hvg.listing import check_command

    return check_command(arguments)


def _show(arguments: list[str]) -> int:
    from hvg.config import compose
    from hvg.show import ShowOptions, contact_sheet

    options, overrides = options_and_overrides(arguments, ShowOptions, judge=compose)
    print(f"wrote {contact_sheet(compose(overrides), options)}")
    return 0


def _prepare(arguments: list[str]) -> int:
    from hvg.prepare import PrepareOptions, never_stored, prepare, prepared_runs
    from hvg.progress import ProgressLines

    # `hvg prepare latents synthetic` reads as `hvg prepare data.latents=cached dataset=synthetic`.
    words = ["data.latents=cached" if word == "latents" else word for word in arguments]
    words = [word if is_override(word) else f"dataset={word}" for word in words]
    judge = partial(prepared_runs, log=lambda line: None)
    options, overrides = options_and_overrides(words, PrepareOptions, judge=judge)
    if "data.cache" not in map(_key, overrides):
        overrides.append("data.cache=cache")
    for folder, configs in prepared_runs(overrides, print).items():
        first = configs[0]
        with ProgressLines() as progress:
            prepare(configs, jobs=options.jobs, report=partial(progress.update, first.dataset.name, "prepare"))
        print(
            f"rendered to {folder}; used by every run with data.cache={first.data.cache} and the same dataset settings"
        )
        if first.data.latents == "cached":
            print(
                "latents lie beside it; used by runs with data.latents=cached and the same codec, weights and alignment"
            )
        print("".join(f"{line}\n" for line in never_stored(configs)), end="")
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

    options, overrides = options_and_overrides(arguments, DryRunOptions, judge=compose)
    for line in dry_run(compose(overrides), options.dry_run):
        print(line, flush=True)
    return 0


def _launch(arguments: list[str]) -> int:
    from hvg.config import compose, expand_sweep
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
    options, overrides = options_and_overrides(
        words, LaunchOptions, judge=lambda words: compose(expand_sweep(words)[0] if sweep else words)
    )
    runs = judged_runs(overrides, options, sweep, dry_run=dry_run)
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

    options, launch_options, overrides = options_and_overrides(words, SweepOptions, LaunchOptions)
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

    names = [word for word in arguments if not is_override(word)]
    options = _only_options([word for word in arguments if is_override(word)], SweepReportOptions)
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
    options, overrides = options_and_overrides(words, SweepOptions)
    print(wandb_sweep(judged_sweep(overrides, options, LaunchOptions())), end="")
    return 0


def _train_one(config) -> int:
    from hvg.progress import ProgressLines
    from hvg.training import is_first_process, train

    if not is_first_process():
        # One of several that train together; the first one speaks for all.
        try:
            train(config, log=lambda line: None)
        except KeyboardInterrupt:
            return INTERRUPTED
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
    options, overrides = options_and_overrides(arguments, EvaluateOptions)
    with ProgressLines() as progress:
        found = evaluate_checkpoint(options, overrides, lambda d, n: progress.update("test", "evaluate", d, n))
    return _scored(found)


def _evaluate_folders(arguments: list[str]) -> int:
    from hvg.folders import FolderOptions, evaluate_folders
    from hvg.progress import ProgressLines

    options, overrides = options_and_overrides(arguments, FolderOptions)
    with ProgressLines() as progress:
        found = evaluate_folders(options, overrides, lambda d, n: progress.update("folders", "score", d, n))
    return _scored(found)


def _scored(found: tuple[list[str], list[str], Path] | None) -> int:
    """Prints an evaluation, None on all ranks but the first; the exit code is 1 where something could not be scored."""
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

    options, overrides = options_and_overrides(arguments, SampleOptions)
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
    from hvg.progress import ProgressLines
    from hvg.study import StudyOptions, run_study
    from hvg.study_file import find_study, load_study, study_name
    from hvg.study_plan import plan

    dry_run = "--dry-run" in arguments
    named = [word for word in arguments if not is_override(word) and word != "--dry-run"]
    if len(named) != 1:
        raise HvgError("give one study: its folder, or the name of one that hvg brings, such as quickstart")
    folder = find_study(named[0])
    options, overrides = options_and_overrides(
        [word for word in arguments if is_override(word)],
        StudyOptions,
        judge=lambda words: plan(load_study(folder), study_name(folder), words),
    )
    with ProgressLines() as progress:
        outcome = run_study(folder, overrides, options, dry_run=dry_run, progress=progress.update)
    if outcome is None:
        return 0
    _print_found(outcome.results)
    for line in outcome.missing:
        print(line, file=sys.stderr)
    print(f"report: {outcome.report}")
    return outcome.exit_code


def _print_found(results) -> None:
    """What was found, in words, and the table."""
    from rich.console import Console

    from hvg.finding import finding
    from hvg.results import compare, table_text

    print(*finding(results, compare(results)).sentences, sep="\n", end="\n\n")
    Console(width=None if sys.stdout.isatty() else 160).print(table_text(results))


def _compare(arguments: list[str]) -> int:
    from hvg.compare import CompareOptions, compare_runs

    options, words = take_options(arguments, CompareOptions)
    results, notes = compare_runs(words, options)
    _print_found(results)
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


# What is true where a command was interrupted and did not say it itself; of others nothing stays.
AFTER_INTERRUPTION = {
    "train": "resume=auto continues what it has saved; a sweep goes on with the same command",
    "launch": "resume=auto continues what it has saved; a sweep goes on with the same command",
    "study": "the same command continues it",
    "prepare": "what is rendered is kept, and the same command continues it",
    "sample": "nothing has changed; the same command can be typed again",
}

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
