"""``hvg launch train``: where runs start: here one after another or side by side, under torchrun, or on Slurm.

What Slurm gets is a script that a person can read, change and submit again. It asks for a run's continuation by nothing but
``resume=auto`` and exit code 143, with which training ends when SIGTERM came and the step was saved.
"""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Literal

from pydantic import Field, NonNegativeInt, PositiveInt

from hvg.checkpoint import latest_checkpoint
from hvg.config import compose, expand_sweep, load_resolved
from hvg.errors import ConfigError, HvgError, Problem
from hvg.files import write_text
from hvg.settings import RunConfig, Section

TRAIN = (sys.executable, "-m", "hvg.cli", "train")
# Exit code of training that SIGTERM ended after a step, which is saved.
STOPPED = 128 + signal.SIGTERM
WORD = r"^\S+$"


class LaunchOptions(Section):
    """Where runs are started. None of it is a property of a run: its config.yaml says the same wherever it trained."""

    launcher: Literal["basic", "local", "torchrun", "slurm"] = Field(
        default="basic",
        description="basic: here, one run after another; local: here, `jobs` runs side by side; torchrun: its processes, on "
        "this machine or, with --dry-run, the line for each of several; slurm: one batch job, an array for a sweep.",
    )
    jobs: PositiveInt | None = Field(
        default=None, description="Runs of a sweep at once; null: 1 under local, all that the cluster has room for."
    )
    nodes: PositiveInt | None = Field(default=None, description="Short for strategy.nodes.")
    devices: PositiveInt | None = Field(default=None, description="Short for strategy.devices, those of a node.")
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
    stop_before: PositiveInt = Field(
        default=120, description="Seconds before the end of `time` in which a step is finished and saved."
    )
    requeues: NonNegativeInt = Field(
        default=100, description="Starts after the first, at most, that a run may ask for; 0: Slurm may not requeue it."
    )
    gpus_per_node: NonNegativeInt | None = Field(
        default=None,
        description="Slurm's --gpus-per-node; null: one for each process, none with device=cpu; 0 asks for none.",
    )
    cpus_per_task: PositiveInt | None = Field(default=None, description="Slurm's --cpus-per-task, cores of a process.")
    mem: str | None = Field(default=None, pattern=WORD, description="Slurm's --mem, memory of a node, as 200G.")
    extra: tuple[str, ...] = Field(
        default=(), description="Further options of sbatch, as extra=[--constraint=h100,--exclusive]."
    )
    setup: tuple[str, ...] = Field(
        default=(), description="Lines of shell before the run, as setup=['module load cuda']."
    )


@dataclass(frozen=True)
class Run:
    """One training: the words after ``hvg train``, and what they compose to."""

    words: tuple[str, ...]
    config: RunConfig

    @property
    def folder(self) -> Path:
        """Its run folder."""
        return Path(self.config.output) / self.config.name

    @property
    def processes(self) -> tuple[int, int | Literal["auto"]]:
        """Nodes, and processes of each."""
        strategy = self.config.strategy
        return (1, 1) if strategy.name == "single" else (strategy.nodes, strategy.devices)


def judged_runs(overrides: Sequence[str], options: LaunchOptions, sweep: bool) -> list[Run]:
    """The runs that a command line asks for, all judged before the first one starts; each goes on where it was interrupted.

    Raises: ConfigError with all problems of the first configuration that has any; or of all that cannot be launched so.
    """
    words = list(overrides)
    words += [f"strategy.{key}={n}" for key in ("nodes", "devices") if (n := getattr(options, key))]
    resumes = {word.partition("=")[2] for word in words if word.startswith("resume=")}
    runs = []
    for number, job in enumerate(expand_sweep(words) if sweep else [words]):
        replaced = ("resume=", "name=") if sweep else ("resume=",)
        own = [word for word in job if not word.startswith(replaced)]
        own += [f"name={_sweep_name(words, job, number)}"] if sweep else []
        runs.append(Run((*own, "resume=auto"), compose([*own, "resume=auto"])))
    problems = [problem for run in runs for problem in _problems(run, options)]
    if resumes - {"auto"}:
        message = "launched runs continue from their own folder; to start from weights use checkpoint=PATH."
        problems.append(Problem("resume", message))
    if not resumes:
        problems += [problem for run in runs if (problem := _other_run(run))]
    if problems:
        raise ConfigError(list(dict.fromkeys(problems)))
    return runs


def _sweep_name(overrides: Sequence[str], words: Sequence[str], number: int) -> str:
    """``<name>/<number>-<what this job sets and others do not>``; a valid folder name."""
    own = [w for w in words if w not in overrides]
    text = "-".join(w.replace("=", "_").replace("/", "_") for w in own) or "run"
    base = next((w.partition("=")[2] for w in words if w.startswith("name=")), "multirun")
    return f"{base}/{number}-" + "".join(c if c.isalnum() or c in "._-" else "_" for c in text)


def _problems(run: Run, options: LaunchOptions) -> list[Problem]:
    """Why a run cannot be started by the chosen launcher."""
    problems, (nodes, devices) = [], run.processes
    asked = (options.nodes or 1) * (options.devices or 1)
    if run.config.strategy.name == "single" and asked > 1:
        message = "single trains on one device; choose ddp, zero1, zero2 or zero3 for more."
        problems.append(Problem("strategy", message))
    if nodes > 1 and options.launcher in ("basic", "local"):
        message = f"{options.launcher} starts processes of this machine alone; choose torchrun or slurm."
        problems.append(Problem("launcher", message))
    if nodes > 1 and options.launcher == "torchrun" and not options.rendezvous:
        message = "has to say where the nodes meet, as rendezvous=first-node:29500."
        problems.append(Problem("rendezvous", message))
    if devices == "auto" and options.launcher == "slurm":
        message = "is not known before the job runs; give devices=, as many as a node has GPUs for it."
        problems.append(Problem("strategy.devices", message))
    return problems


def _other_run(run: Run) -> Problem | None:
    """A problem where the run's folder holds checkpoints of other settings: ``resume=auto`` would take them silently."""
    if latest_checkpoint(run.folder / "checkpoints") is None:
        return None
    before, now = load_resolved(run.folder / "config.yaml").resolved(), run.config.resolved()
    other = [key for key in now if key != "resume" and before.get(key) != now[key]]
    if not other:
        return None
    message = (
        f"{run.folder} holds checkpoints of a run with other settings ({', '.join(other)}); choose another name=..., "
        "or delete it, or continue it all the same with resume=auto."
    )
    return Problem("name", message)


def launch(runs: Sequence[Run], options: LaunchOptions, *, sweep: bool = False, dry_run: bool = False) -> int:
    """Starts judged runs in processes of their own, or as a job; returns the exit code. ``dry_run`` only prints how."""
    if options.launcher == "slurm":
        return _slurm(runs, options, sweep, dry_run)
    commands = [_torchrun(run, options) if options.launcher == "torchrun" else [[*TRAIN, *run.words]] for run in runs]
    if dry_run:
        for run, lines in zip(runs, commands, strict=True):
            for node, line in enumerate(lines):
                print(f"# {run.config.name}" + (f", on node {node} of {len(lines)}" if len(lines) > 1 else ""))
                print(shlex.join(line))
        return 0
    if any(len(lines) > 1 for lines in commands):
        raise HvgError("this starts processes of one machine; run what --dry-run prints, each line on its node")
    side_by_side = (options.jobs or 1) if options.launcher == "local" else 1
    return _run_here(runs, [lines[0] for lines in commands], side_by_side)


# --- here -------------------------------------------------------------------------------------------------------------


def _torchrun(run: Run, options: LaunchOptions) -> list[list[str]]:
    """The command line of each node. Ranks are numbered by node, so the first one's process 0 speaks for all."""
    nodes, devices = run.processes
    torchrun = [sys.executable, "-m", "torch.distributed.run", f"--nproc-per-node={devices}"]
    train = ["-m", "hvg.cli", "train", *run.words]
    if nodes == 1:
        return [[*torchrun, "--standalone", *train]]
    host, _, port = str(options.rendezvous).rpartition(":")
    meet = [f"--nnodes={nodes}", f"--master-addr={host}", f"--master-port={port}"]
    return [[*torchrun, *meet, f"--node-rank={node}", *train] for node in range(nodes)]


def _run_here(runs: Sequence[Run], commands: Sequence[Sequence[str]], side_by_side: int) -> int:
    """Runs the commands, each with its output in ``launch.log`` of its run folder. Returns the exit code.

    SIGTERM and SIGINT are passed on; nothing more is started then, and the exit code is the signal's.
    """
    received: list[int] = []
    waiting, running, failed = list(zip(runs, commands, strict=True)), {}, 0

    def note(number: int, frame: FrameType | None) -> None:
        received.append(number)
        for process in running:
            _pass_on(process, number)

    before = {number: signal.signal(number, note) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        while running or (waiting and not received):
            while waiting and len(running) < side_by_side and not received:
                run, command = waiting.pop(0)
                log = run.folder / "launch.log"
                log.parent.mkdir(parents=True, exist_ok=True)
                print(f"{run.config.name}: started; {log}", flush=True)
                with log.open("a") as stream:
                    # In a group of its own: a terminal's Ctrl-C comes once, from here.
                    process = subprocess.Popen(command, stdout=stream, stderr=stream, start_new_session=True)
                running[process] = run
            time.sleep(0.1)
            for process in [process for process in running if process.poll() is not None]:
                run = running.pop(process)
                failed += process.returncode != 0
                print(f"{run.config.name}: exit code {process.returncode}", flush=True)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if received:
        return 128 + received[0]
    return 1 if failed else 0


def _pass_on(process: subprocess.Popen, number: int) -> None:
    """Sends a signal to a training's processes, but not to a torchrun above them: it kills what lives 30 s later."""
    if "torch.distributed.run" not in list(map(str, process.args)):  # type: ignore[arg-type]
        process.send_signal(number)
        return
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    for child in map(int, children):
        os.kill(child, number)


# --- Slurm ------------------------------------------------------------------------------------------------------------


def _slurm(runs: Sequence[Run], options: LaunchOptions, sweep: bool, dry_run: bool) -> int:
    folder = runs[0].folder.parent if sweep else runs[0].folder
    # Beside the logs, where also the script stays as it was submitted.
    script = Path.cwd() / folder / "slurm" / "job.sbatch"
    text = sbatch_script(runs, options, script, sweep)
    if dry_run:
        print(f"# {script}; submit with: sbatch {shlex.quote(str(script))}\n{text}", end="")
        return 0
    write_text(script, text)
    try:
        done = subprocess.run(["sbatch", "--parsable", str(script)], capture_output=True, text=True)
    except FileNotFoundError as error:
        raise HvgError(f"sbatch is not on this machine; the script is ready: sbatch {script}") from error
    if done.returncode:
        raise HvgError(f"sbatch refused {script}: {done.stderr.strip()}")
    job = done.stdout.strip().partition(";")[0]
    print(f"submitted job {job}, {len(runs)} run(s): {script}")
    print(f"logs: {script.parent}/{job}{'_*' if sweep else ''}.log")
    return 0


def sbatch_script(runs: Sequence[Run], options: LaunchOptions, script: Path, sweep: bool) -> str:
    """The batch script of a job with one run, or of an array with one element per run of a sweep.

    Raises: ConfigError when runs of an array want different numbers of processes.
    """
    processes = {run.processes for run in runs}
    if len(processes) > 1:
        message = f"jobs of one array have the same size; this sweep asks for {len(processes)}: launch them apart."
        raise ConfigError([Problem("strategy", message)])
    # What a job has for a process, srun asks for only if it is told again (since Slurm 22.05).
    cores = f"--cpus-per-task={options.cpus_per_task} " if options.cpus_per_task else ""
    lines = [
        "#!/bin/bash",
        f"# Written by `hvg launch`. Submit it again: sbatch {shlex.quote(str(script))}",
        *(f"#SBATCH {shlex.quote(option)}" for option in _sbatch_options(runs, options, script, sweep)),
        "",
        f"cd {shlex.quote(str(Path.cwd()))} || exit 1",
        *options.setup,
        *_choose_run(runs, sweep),
        "",
        "# One process per device. When one ends, the others have a minute: then they wait for it in vain.",
        f'srun {cores}--kill-on-bad-exit=0 --wait=60 {shlex.join(TRAIN)} "${{run[@]}}" &',
        "step=$!",
        "# Slurm sends TERM to the processes; to this shell too, where it ends or moves the job. The shell outlives them then,",
        "# and waits again: what a trap interrupts is no exit code. (srun must get no signal from here: it would kill them.)",
        "trap told=yes TERM",
        'while told=; wait "$step"; code=$?; [ "$told" ]; do :; done',
        *_requeue(options.requeues),
        'exit "$code"',
    ]
    return "\n".join(lines) + "\n"


def _sbatch_options(runs: Sequence[Run], options: LaunchOptions, script: Path, sweep: bool) -> list[str]:
    nodes, devices = runs[0].processes
    gpus = options.gpus_per_node
    if gpus is None:
        gpus = 0 if runs[0].config.device == "cpu" else devices
    name = str(Path(runs[0].config.name).parent) if sweep else runs[0].config.name
    log = str(script.parent).replace("%", "%%") + ("/%A_%a.log" if sweep else "/%j.log")
    throttle = f"%{options.jobs}" if options.jobs else ""
    given = {
        "job-name": "hvg-" + re.sub(r"[^\w.-]", "-", name),
        "array": f"0-{len(runs) - 1}{throttle}" if sweep else None,
        "nodes": nodes,
        "ntasks-per-node": devices,
        "gpus-per-node": gpus or None,
        "cpus-per-task": options.cpus_per_task,
        "mem": options.mem,
        "partition": options.partition,
        "account": options.account,
        "qos": options.qos,
        "time": options.time,
        "signal": f"TERM@{options.stop_before}",
        "output": log,
        "open-mode": "append",
    }
    flags = ["--requeue" if options.requeues else "--no-requeue", *options.extra]
    return [f"--{key}={value}" for key, value in given.items() if value is not None] + flags


def _choose_run(runs: Sequence[Run], sweep: bool) -> list[str]:
    if not sweep:
        return [f"run=({shlex.join(runs[0].words)})"]
    cases = [f"{i}) run=({shlex.join(run.words)}) ;;" for i, run in enumerate(runs)]
    return ['case "$SLURM_ARRAY_TASK_ID" in', *cases, "esac"]


def _requeue(requeues: int) -> list[str]:
    """Lines that start a job anew when its run was stopped and saved, and is to go on."""
    if not requeues:
        return []
    return [
        f"# {STOPPED}: stopped by SIGTERM and saved. A job that was cancelled, or that Slurm itself is requeueing, no longer",
        "# runs, and is left alone. Whatever else ends a run ends the job.",
        f'if [ "$code" = {STOPPED} ] && [ "$(squeue --noheader --jobs "$SLURM_JOB_ID" --format %T)" = RUNNING ]; then',
        f'    if [ "${{SLURM_RESTART_COUNT:-0}}" -lt {requeues} ]; then scontrol requeue "$SLURM_JOB_ID"',
        f'    else echo "stopped after {requeues} requeues; the same launch continues the run" >&2; fi',
        "fi",
    ]
