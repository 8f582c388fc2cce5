"""Jobs: command lines that a launcher starts, and where. A training, a worker of a sweep and an arm of a study are such."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator

from hvg.bounds import Count, CountFromZero, MachineCount, ProcessCount, ProcessCountFromZero
from hvg.errors import Problem
from hvg.settings import RunConfig, Section

WORD = r"^\S+$"
# Names of Hydra's launchers -> ours that does the same.
HYDRAS = {"joblib": "local", "submitit": "slurm", "submitit_slurm": "slurm", "submitit_local": "local"}
Processes = tuple[int, int | Literal["auto"]]


class LaunchOptions(Section):
    """Where runs are started. None of it is a property of a run: its config.yaml says the same wherever it trained."""

    launcher: Literal["basic", "local", "torchrun", "slurm"] = Field(
        default="basic",
        description="basic: here, one run after another; local: here, `jobs` runs side by side; torchrun: its processes, on "
        "this machine or, with --dry-run, the line for each of several; slurm: one batch job, an array for several runs.",
    )
    jobs: ProcessCount | None = Field(
        default=None, description="Runs of a sweep at once; null: 1 under local, all that the cluster has room for."
    )
    nodes: MachineCount | None = Field(default=None, description="Short for strategy.nodes.")
    devices: ProcessCount | None = Field(default=None, description="Short for strategy.devices, those of a node.")
    rendezvous: str | None = Field(
        default=None,
        pattern=r"^[^\s:]+:\d+$",
        description="HOST:PORT where torchrun's processes of several nodes meet; a name of the first node.",
    )
    partition: str | None = Field(default=None, pattern=WORD, description="Slurm's --partition.")
    account: str | None = Field(default=None, pattern=WORD, description="Slurm's --account.")
    qos: str | None = Field(default=None, pattern=WORD, description="Slurm's --qos.")
    time: str | None = Field(
        default=None,
        pattern=r"^(\d+-)?\d+(:\d+){0,2}$",
        description="Slurm's --time of one start, as 24:00:00; a longer run goes on in the next start.",
    )
    stop_before: Count = Field(
        default=120, description="Seconds before the end of `time` in which a step is finished and saved."
    )
    requeues: CountFromZero = Field(
        default=100, description="Starts after the first, at most, that a run may ask for; 0: Slurm may not requeue it."
    )
    gpus_per_node: ProcessCountFromZero | None = Field(
        default=None,
        description="Slurm's --gpus-per-node; null: one for each process, none with device=cpu; 0 asks for none.",
    )
    cpus_per_task: ProcessCount | None = Field(default=None, description="Slurm's --cpus-per-task, cores of a process.")
    mem: str | None = Field(default=None, pattern=WORD, description="Slurm's --mem, memory of a node, as 200G.")
    extra: tuple[str, ...] = Field(
        default=(), description="Further options of sbatch, as extra=[--constraint=h100,--exclusive]."
    )
    setup: tuple[str, ...] = Field(
        default=(), description="Lines of shell before the run, as setup=['module load cuda']."
    )

    @field_validator("launcher", mode="before")
    @classmethod
    def _not_hydras(cls, name: object) -> object:
        if name in HYDRAS:
            raise ValueError(f"launcher={HYDRAS[str(name)]} does what Hydra's {name} does, without pickles")
        return name


@dataclass(frozen=True, kw_only=True)
class Job:
    """What is started together and ends by itself, such as a training.

    commands: words after ``python``, as ("-m", "hvg.cli", "train", "seed=1"), one command after another; one that failed
    does not keep those after it from starting, one that was stopped (exit code 143) does. log: the file that takes what they
    print, where they run here. processes: nodes, and processes of each, of which every one gets the command. cpu: whether they
    need no GPU.
    """

    name: str
    commands: tuple[tuple[str, ...], ...]
    log: Path
    processes: ProcessCount = (1, 1)
    cpu: bool = False


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Jobs that one command line asks for. Under Slurm one job or an array, whose script and logs lie in ``folder``/slurm."""

    name: str
    folder: Path
    jobs: tuple[Job, ...]


def processes_of(config: RunConfig) -> Processes:
    """Nodes, and processes of each, that train a run."""
    strategy = config.strategy
    return (1, 1) if strategy.name == "single" else (strategy.nodes, strategy.devices)


def process_words(options: LaunchOptions) -> list[str]:
    """``nodes`` and ``devices`` of the options as overrides of a run."""
    return [f"strategy.{key}={n}" for key in ("nodes", "devices") if (n := getattr(options, key))]


# Options that only a batch script of Slurm's holds.
SLURMS = (
    *(
        "partition",
        "account",
        "qos",
        "time",
        "stop_before",
        "requeues",
        "gpus_per_node",
        "cpus_per_task",
        "mem",
        "extra",
    ),
    "setup",
)


def unused_options(options: LaunchOptions) -> list[Problem]:
    """A problem for every option that the chosen launcher would ignore in silence."""
    message = f"is Slurm's, launcher={options.launcher} has no use for it; leave it out, or choose launcher=slurm."
    given = [name for name in SLURMS if name in options.model_fields_set and options.launcher != "slurm"]
    return [Problem(name, message) for name in given]


def launch_problems(config: RunConfig, options: LaunchOptions) -> list[Problem]:
    """Why a run cannot be started by the chosen launcher."""
    problems, (nodes, devices) = [], processes_of(config)
    asked = (options.nodes or 1) * (options.devices or 1)
    if config.strategy.name == "single" and asked > 1:
        message = "single trains on one device; choose ddp, zero1, zero2 or zero3 for more."
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
