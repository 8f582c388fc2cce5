"""``hvg train`` and ``hvg launch``: one run or many, here or elsewhere, or on shapes alone."""

from hvg.commands.table import Flags
from hvg.commands.words import options_and_overrides
from hvg.config.command_options import DryRunOptions
from hvg.config.composition import compose, judge_words
from hvg.config.settings import RunConfig
from hvg.core.errors import HvgError
from hvg.core.exit_codes import INTERRUPTED

# What does the work is imported where a configuration has been judged: a wrong word is told at once.


def run(words: list[str], flags: Flags) -> int:
    """``hvg train``, in each of its forms; the exit code."""
    if flags or any(word.startswith(("launcher=", "sweep=")) for word in words):
        return launch(["train", *words], flags)
    if any(word.startswith("dry_run=") for word in words):
        return _dry_run(words)
    return _train_one(compose(words))


def launch(words: list[str], flags: Flags) -> int:
    """``hvg launch train``; the exit code."""
    from hvg.cluster.launch import launch_training
    from hvg.cluster.launch_options import LaunchOptions
    from hvg.config.overrides import expand_sweep

    if words[:1] != ["train"]:
        raise HvgError("give the command to launch", then="hvg launch train launcher=slurm --dry-run")
    words, sweep, dry_run = words[1:], "multirun" in flags, "dry-run" in flags
    if any(word.startswith("sweep=") for word in words):
        return _sweep(words, dry_run)
    options, overrides = options_and_overrides(
        words, LaunchOptions, judge=lambda words: compose(expand_sweep(words)[0] if sweep else words)
    )
    return launch_training(overrides, options, sweep=sweep, dry_run=dry_run, train=_train_one)


def _dry_run(words: list[str]) -> int:
    options, overrides = options_and_overrides(words, DryRunOptions, judge=judge_words)
    config = compose(overrides)
    from hvg.config.stages import stages_of
    from hvg.cost.dry_run import dry_run

    for stage in stages_of(config):
        if stage.label:
            print(f"stage {stage.label}", flush=True)
        for line in dry_run(stage.config, options.dry_run):
            print(line, flush=True)
    return 0


def _sweep(words: list[str], dry_run: bool) -> int:
    from hvg.cluster.launch_options import LaunchOptions, SweepOptions
    from hvg.sweep.worker import train_sweep

    options, launch_options, overrides = options_and_overrides(words, SweepOptions, LaunchOptions)
    return train_sweep(overrides, options, launch_options, dry_run=dry_run)


def _train_one(config: RunConfig) -> int:
    from torch.distributed import DistError

    from hvg.commands.progress import ProgressLines
    from hvg.train.run import is_first_process, train

    if not is_first_process():
        # One of several that train together; the first one speaks for all.
        try:
            train(config, log=lambda line: None)
        except KeyboardInterrupt:
            return INTERRUPTED
        except DistError as error:
            # Such as that the first one has ended where they were to meet.
            raise HvgError(
                f"one of the processes of {config.name} lost the others: {str(error).splitlines()[0]}"
            ) from error
        return 0
    with ProgressLines() as progress:
        train(config, lambda done: progress.update(config.name, "train", done.step, done.steps, done.note))
    return 0
