"""The command line. ``hvg COMMAND key=value ...``; every command takes Hydra's override grammar."""

from __future__ import annotations

import os
import select
import signal
import sys
from collections.abc import Sequence
from difflib import get_close_matches
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from hvg import __version__
from hvg.commands.help import Command, command_help, overview
from hvg.commands.words import is_override, key_of, only_options, options_and_overrides, take_flags, take_options
from hvg.core.errors import HvgError, did_you_mean
from hvg.core.exit_codes import INTERRUPTED
from hvg.core.files import system_reason

if TYPE_CHECKING:
    from hvg.config.settings import RunConfig
    from hvg.report.results import Results

# Of a command whose output nobody reads any more, as in `hvg list | head`: what a shell says where SIGPIPE ended a program.
UNREAD = 128 + signal.SIGPIPE
Flags = frozenset[str]


def main() -> None:
    """Entry point of the ``hvg`` command; errors of the user's are one message and exit code 1."""
    code = run(sys.argv[1:])
    if code == INTERRUPTED:
        # A second one while this process cleans up would end it with another exit code and a traceback.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    sys.exit(code)


def run(arguments: Sequence[str]) -> int:
    """Runs one command; returns the exit code."""
    try:
        code = _dispatch(arguments)
        # So that it fails here, not when Python ends.
        print(end="", flush=True)
        return code
    except BrokenPipeError:
        watched = select.poll()
        watched.register(sys.stdout, 0)
        # Nothing is wrong with the standard output: it was another pipe, such as that between two processes of a run.
        if not watched.poll(0):
            raise
        # What is left would be written, and refused again, when Python ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return UNREAD


def _dispatch(arguments: Sequence[str]) -> int:
    """Runs one command, and says in a line why it could not; returns the exit code."""
    name, *words = arguments or ["help"]
    if name in ("-h", "--help", "help"):
        print(overview())
        return 0
    if name == "--version":
        print(f"hvg {__version__}")
        return 0
    if name not in COMMANDS:
        print(f"hvg: no command is named '{name}'. {did_you_mean(name, COMMANDS)}", file=sys.stderr)
        return 2
    command = COMMANDS[name]
    if {"-h", "--help"} & set(words):
        print(command_help(name, command))
        return 0
    try:
        flags, words = take_flags(words, command.flags)
        return command.run(words, flags)
    except HvgError as error:
        print(f"hvg {name}: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        # What was begun is removed where it arose; here it is told, whatever file it was.
        reason = system_reason(error)
        if reason is None:
            raise
        print(f"hvg {name}: {reason}", file=sys.stderr)
        return 1
    except KeyboardInterrupt as stop:
        print(f"hvg {name}: interrupted; {str(stop) or command.interrupted}", file=sys.stderr)
        return INTERRUPTED


def _list(words: list[str], flags: Flags) -> int:
    from hvg.commands.listing import list_command

    return list_command(words, verbose="verbose" in flags)


def _check(words: list[str], flags: Flags) -> int:
    from hvg.commands.check import check_command

    return check_command(words)


def _show(words: list[str], flags: Flags) -> int:
    from hvg.commands.show import contact_sheet
    from hvg.config.command_options import ShowOptions
    from hvg.config.composition import compose, judge_words

    options, overrides = options_and_overrides(words, ShowOptions, judge=judge_words)
    print(f"wrote {contact_sheet(compose(overrides), options)}")
    return 0


def _prepare(words: list[str], flags: Flags) -> int:
    from hvg.commands.progress import ProgressLines
    from hvg.config.command_options import PrepareOptions
    from hvg.data.prepare import never_stored, prepare, prepared_runs

    # `hvg prepare latents synthetic` reads as `hvg prepare data.latents=cached dataset=synthetic`.
    words = ["data.latents=cached" if word == "latents" else word for word in words]
    words = [word if is_override(word) else f"dataset={word}" for word in words]
    judge = partial(prepared_runs, log=lambda line: None)
    options, overrides = options_and_overrides(words, PrepareOptions, judge=judge)
    if "data.cache" not in map(key_of, overrides):
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


def _train(words: list[str], flags: Flags) -> int:
    from hvg.config.composition import compose

    if flags or any(word.startswith(("launcher=", "sweep=")) for word in words):
        return _launch(["train", *words], flags)
    if any(word.startswith("dry_run=") for word in words):
        return _dry_run(words)
    return _train_one(compose(words))


def _dry_run(words: list[str]) -> int:
    from hvg.config.command_options import DryRunOptions
    from hvg.config.composition import compose, judge_words
    from hvg.cost.dry_run import dry_run

    options, overrides = options_and_overrides(words, DryRunOptions, judge=judge_words)
    for line in dry_run(compose(overrides), options.dry_run):
        print(line, flush=True)
    return 0


def _launch(words: list[str], flags: Flags) -> int:
    from hvg.cluster.launch import launch_training
    from hvg.cluster.launch_options import LaunchOptions
    from hvg.config.composition import compose
    from hvg.config.overrides import expand_sweep

    if words[:1] != ["train"]:
        raise HvgError("give the command to launch: hvg launch train [overrides] launcher=slurm")
    words, sweep, dry_run = words[1:], "multirun" in flags, "dry-run" in flags
    if any(word.startswith("sweep=") for word in words):
        return _train_sweep(words, dry_run)
    options, overrides = options_and_overrides(
        words, LaunchOptions, judge=lambda words: compose(expand_sweep(words)[0] if sweep else words)
    )
    return launch_training(overrides, options, sweep=sweep, dry_run=dry_run, train=_train_one)


def _train_sweep(words: list[str], dry_run: bool) -> int:
    from hvg.cluster.launch_options import LaunchOptions, SweepOptions
    from hvg.sweep.worker import train_sweep

    options, launch_options, overrides = options_and_overrides(words, SweepOptions, LaunchOptions)
    return train_sweep(overrides, options, launch_options, dry_run=dry_run)


def _train_one(config: RunConfig) -> int:
    from hvg.commands.progress import ProgressLines
    from hvg.train.run import is_first_process, train

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


def _sweep(words: list[str], flags: Flags) -> int:
    if words[:1] == ["report"]:
        return _sweep_report(words[1:])
    if words[:1] == ["wandb"]:
        return _sweep_wandb(words[1:], flags)
    raise HvgError("give what to do: hvg sweep report NAME, or hvg sweep wandb --print [overrides]")


def _sweep_report(words: list[str]) -> int:
    from hvg.cluster.launch_options import SweepReportOptions
    from hvg.sweep.database import use_password
    from hvg.sweep.report_page import write_sweep_report
    from hvg.sweep.search import default_storage
    from hvg.sweep.store import stored_sweep

    names = [word for word in words if not is_override(word)]
    options = only_options([word for word in words if is_override(word)], SweepReportOptions)
    if len(names) > 1 or not (names or options.storage):
        raise HvgError("give one sweep: hvg sweep report NAME, or hvg sweep report [NAME] storage=ADDRESS")
    name = names[0] if names else None
    url = use_password(options.storage) if options.storage else default_storage(options.output / str(name))
    record = stored_sweep(url, name)
    print(f"report: {write_sweep_report(record, record.folder)}")
    return 0


def _sweep_wandb(words: list[str], flags: Flags) -> int:
    from hvg.cluster.launch_options import LaunchOptions, SweepOptions
    from hvg.sweep.search import judged_sweep
    from hvg.sweep.wandb_file import wandb_sweep

    if "print" not in flags:
        raise HvgError("nothing is sent from here: hvg sweep wandb --print ... > sweep.yaml; wandb sweep sweep.yaml")
    options, overrides = options_and_overrides(words, SweepOptions)
    print(wandb_sweep(judged_sweep(overrides, options, LaunchOptions())), end="")
    return 0


def _evaluate(words: list[str], flags: Flags) -> int:
    from hvg.commands.progress import ProgressLines
    from hvg.config.command_options import EvaluateOptions
    from hvg.score.evaluation import evaluate_checkpoint

    keys = list(map(key_of, words))
    if "checkpoint" not in keys and get_close_matches("predictions", keys) + get_close_matches("reference", keys):
        return _evaluate_folders(words)
    options, overrides = options_and_overrides(words, EvaluateOptions)
    with ProgressLines() as progress:
        found = evaluate_checkpoint(options, overrides, lambda d, n: progress.update("test", "evaluate", d, n))
    return _scored(found)


def _evaluate_folders(words: list[str]) -> int:
    from hvg.commands.progress import ProgressLines
    from hvg.config.command_options import FolderOptions
    from hvg.score.folders import evaluate_folders

    options, overrides = options_and_overrides(words, FolderOptions)
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


def _sample(words: list[str], flags: Flags) -> int:
    from hvg.commands.progress import ProgressLines
    from hvg.config.command_options import SampleOptions
    from hvg.sample.generate import generate

    options, overrides = options_and_overrides(words, SampleOptions)
    with ProgressLines() as progress:
        for line in generate(options, overrides, lambda stage, d, n: progress.update("sample", stage, d, n)):
            print(line, flush=True)
    return 0


def _export(words: list[str], flags: Flags) -> int:
    from hvg.config.command_options import ExportOptions
    from hvg.sample.export import export

    print(*export(only_options(words, ExportOptions)), sep="\n")
    return 0


def _convert(words: list[str], flags: Flags) -> int:
    from hvg.commands.convert import convert
    from hvg.config.command_options import ConvertOptions

    print(*convert(only_options(words, ConvertOptions)), sep="\n")
    return 0


def _study(words: list[str], flags: Flags) -> int:
    from hvg.cluster.launch_options import StudyOptions
    from hvg.commands.progress import ProgressLines
    from hvg.study.plan import plan
    from hvg.study.run import run_study
    from hvg.study.study_file import find_study, load_study, study_name

    named = [word for word in words if not is_override(word)]
    if len(named) != 1:
        raise HvgError("give one study: its folder, or the name of one that hvg brings, such as quickstart")
    folder = find_study(named[0])
    options, overrides = options_and_overrides(
        [word for word in words if is_override(word)],
        StudyOptions,
        judge=lambda words: plan(load_study(folder), study_name(folder), words),
    )
    with ProgressLines() as progress:
        outcome = run_study(folder, overrides, options, dry_run="dry-run" in flags, progress=progress.update)
    if outcome is None:
        return 0
    _print_found(outcome.results)
    for line in outcome.missing:
        print(line, file=sys.stderr)
    print(f"report: {outcome.report}")
    return outcome.exit_code


def _print_found(results: Results) -> None:
    """Prints the finding in sentences, then the table."""
    from rich.console import Console

    from hvg.report.comparison import compare
    from hvg.report.finding import finding
    from hvg.report.tables import table_text

    print(*finding(results, compare(results)).sentences, sep="\n", end="\n\n")
    Console(width=None if sys.stdout.isatty() else 160).print(table_text(results))


def _compare(words: list[str], flags: Flags) -> int:
    from hvg.config.command_options import CompareOptions
    from hvg.report.compare_runs import compare_runs

    options, runs = take_options(words, CompareOptions)
    results, notes = compare_runs(runs, options)
    _print_found(results)
    print("\n".join(notes))
    return 0


def _weights(words: list[str], flags: Flags) -> int:
    from hvg.commands.weights import weights_report
    from hvg.config.command_options import WeightsOptions
    from hvg.parts.network_files import default_folder

    options = only_options(words, WeightsOptions)
    lines, damaged = weights_report(options.folder or default_folder())
    print("\n".join(lines))
    return 1 if damaged else 0


def _bench(words: list[str], flags: Flags) -> int:
    from hvg.commands.bench import BENCHMARKS

    unknown = [name for name in words if name not in BENCHMARKS]
    if unknown:
        raise HvgError(f"no benchmark is named '{unknown[0]}'. {did_you_mean(unknown[0], BENCHMARKS)}")
    for name in words or BENCHMARKS:
        for line in BENCHMARKS[name]():
            print(f"{name:<12} {line}", flush=True)
    return 0


CONTINUES = "resume=auto continues what it has saved; a sweep goes on with the same command"
MULTIRUN = {"-m --multirun": "One run for every combination of comma-separated values."}
DRY_RUN = {"--dry-run": "Start nothing; print the commands, or the batch script, that would be started."}
COMMANDS: dict[str, Command] = {
    "list": Command(_list, flags={"--verbose": "Every setting with its type, value and meaning."}, overrides="run"),
    "check": Command(_check, ("CheckOptions",), overrides="run"),
    "show": Command(_show, ("ShowOptions",), overrides="run"),
    "prepare": Command(
        _prepare,
        ("PrepareOptions",),
        overrides="run",
        interrupted="what is rendered is kept, and the same command continues it",
    ),
    "train": Command(
        _train,
        ("DryRunOptions", "LaunchOptions", "SweepOptions"),
        flags=MULTIRUN | DRY_RUN,
        overrides="run",
        interrupted=CONTINUES,
    ),
    "launch": Command(
        _launch, ("LaunchOptions", "SweepOptions"), MULTIRUN | DRY_RUN, overrides="run", interrupted=CONTINUES
    ),
    "sweep": Command(
        _sweep,
        ("SweepReportOptions", "SweepOptions"),
        flags={"--print": "Print the file that `wandb sweep` takes."} | MULTIRUN,
        overrides="run",
    ),
    "evaluate": Command(_evaluate, ("EvaluateOptions", "FolderOptions"), overrides="sampling"),
    "sample": Command(
        _sample,
        ("SampleOptions",),
        overrides="sampling",
        interrupted="nothing has changed; the same command can be typed again",
    ),
    "export": Command(_export, ("ExportOptions",)),
    "convert": Command(_convert, ("ConvertOptions",)),
    "study": Command(_study, ("StudyOptions",), DRY_RUN, overrides="run", interrupted="the same command continues it"),
    "compare": Command(_compare, ("CompareOptions",)),
    "weights": Command(_weights, ("WeightsOptions",)),
    "bench": Command(_bench),
}

if __name__ == "__main__":
    main()
