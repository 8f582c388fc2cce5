"""Jobs: command lines that a launcher starts, and where. A training, a worker of a sweep and an arm of a study are such."""

from dataclasses import dataclass
from pathlib import Path

from hvg.cluster.launch_options import LaunchOptions
from hvg.config.settings import RunConfig
from hvg.config.strategy_section import Processes
from hvg.core.errors import Problem


@dataclass(frozen=True, kw_only=True)
class Job:
    """Commands that are started together and end by themselves, such as a training.

    commands: words after ``python``, as ("-m", "hvg.cli", "train", "seed=1"), one command after another; one that failed
    does not keep those after it from starting, one that was stopped (exit code 143) does. log: the file that takes what they
    print, where they run here. processes: nodes, and processes of each, of which every one gets the command. cpu: whether they
    need no GPU.
    """

    name: str
    commands: tuple[tuple[str, ...], ...]
    log: Path
    processes: Processes = (1, 1)
    cpu: bool = False


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Jobs that one command line asks for. Under Slurm one job or an array, whose script and logs lie in ``folder``/slurm."""

    name: str
    folder: Path
    jobs: tuple[Job, ...]


def process_words(options: LaunchOptions) -> list[str]:
    """``nodes`` and ``devices`` of the options as overrides of a run."""
    return [f"strategy.{key}={n}" for key in ("nodes", "devices") if (n := getattr(options, key))]


# Options that other launchers know, too; the rest only a batch script of Slurm's holds.
ANY_LAUNCHERS = ("launcher", "jobs", "nodes", "devices", "rendezvous")


def unused_options(options: LaunchOptions) -> list[Problem]:
    """A problem for every option that the chosen launcher would ignore in silence."""
    message = f"is Slurm's, launcher={options.launcher} has no use for it; leave it out, or choose launcher=slurm."
    slurms = [name for name in LaunchOptions.model_fields if name not in ANY_LAUNCHERS]
    given = options.model_fields_set if options.launcher != "slurm" else ()
    return [Problem(name, message) for name in slurms if name in given]


def launch_problems(config: RunConfig, options: LaunchOptions) -> list[Problem]:
    """Problems for which the chosen launcher cannot start a run."""
    problems, (nodes, devices) = [], config.strategy.processes
    asked = (options.nodes or 1) * (options.devices or 1)
    if config.strategy.name == "single" and asked > 1:
        message = "single trains on one device; choose ddp, zero1, zero2, zero3 or fsdp for more."
        problems.append(Problem("strategy", message))
    if nodes > 1 and options.launcher in ("basic", "local"):
        message = f"{options.launcher} starts processes of this machine alone; choose torchrun or slurm."
        problems.append(Problem("launcher", message))
    if nodes > 1 and options.launcher == "torchrun" and not options.rendezvous:
        message = "has to say where the nodes meet, as rendezvous=first-node:29500."
        problems.append(Problem("rendezvous", message))
    problems += unused_options(options)
    if devices == "auto" and options.launcher == "slurm":
        message = "is not known before the job runs; give devices=, as many as a node has GPUs for it."
        problems.append(Problem("strategy.devices", message))
    return problems
