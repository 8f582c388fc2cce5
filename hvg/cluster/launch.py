"""Where jobs start: here one after another or side by side, under torchrun, or on Slurm; and the jobs of ``hvg launch train``."""

import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from hvg.cluster.jobs import Batch, Job, launch_problems, process_words
from hvg.cluster.launch_options import LaunchOptions
from hvg.cluster.slurm import submit
from hvg.config.changes import earlier_config, judged_changes
from hvg.config.composition import compose
from hvg.config.machine import refuse_missing
from hvg.config.overrides import expand_sweep
from hvg.config.settings import RunConfig
from hvg.core.checkpoint import checkpoints, saved_config
from hvg.core.errors import CheckpointError, ConfigError, HvgError, Problem
from hvg.core.exit_codes import TERMINATED, ends_with_parent
from hvg.core.names import as_name
from hvg.core.outputs import try_folder


def announce(job: Job, code: int | None) -> None:
    """Prints a line when a job starts, with None for an exit code, and when it ends."""
    print(f"{job.name}: " + (f"started; {job.log}" if code is None else f"exit code {code}"), flush=True)


def launch(
    batch: Batch,
    options: LaunchOptions,
    *,
    dry_run: bool = False,
    tell: Callable[[Job, int | None], None] = announce,
    watch: Callable[[], bool | None] = lambda: None,
) -> int:
    """Starts jobs in processes of their own and waits for them, or submits them to Slurm; returns the exit code.

    The code is 1 when a job failed, and 128 plus the signal's number where one stopped this process; it is passed on, and
    what is running saves and stops. dry_run: only prints how. tell: called as ``announce``. watch: called several times a
    second while jobs run; from where it returns True they save and stop, and no more is started.
    Raises: ConfigError, HvgError for what cannot be launched so.
    """
    if options.launcher == "slurm":
        submit(batch, options, dry_run=dry_run)
        return 0
    planned = [(job, [_lines(job, words, options) for words in job.commands]) for job in batch.jobs]
    if dry_run:
        print("\n".join(_shown(job.name, nodes) for job, commands in planned for nodes in commands))
        return 0
    if any(len(nodes) > 1 for _, commands in planned for nodes in commands):
        raise HvgError("this starts processes of one machine; run what --dry-run prints, each line on its node")
    waiting = [_Started(job, [nodes[0] for nodes in commands], tell) for job, commands in planned]
    return _run_here(waiting, (options.jobs or 1) if options.launcher == "local" else 1, watch)


def _lines(job: Job, words: Sequence[str], options: LaunchOptions) -> list[list[str]]:
    """The command line of each node. Ranks are numbered by node, so the first one's process 0 speaks for all."""
    nodes, devices = job.processes
    if options.launcher != "torchrun" and job.processes == (1, 1):
        return [[sys.executable, *words]]
    # torchrun's auto would count cores where there is no GPU, Lightning's is 1 then.
    each = 1 if devices == "auto" and job.cpu else devices
    torchrun = [sys.executable, "-m", "torch.distributed.run", f"--nproc-per-node={each}"]
    if nodes == 1:
        return [[*torchrun, "--standalone", *words]]
    host, _, port = str(options.rendezvous).rpartition(":")
    meet = [f"--nnodes={nodes}", f"--master-addr={host}", f"--master-port={port}"]
    return [[*torchrun, *meet, f"--node-rank={node}", *words] for node in range(nodes)]


def _shown(name: str, nodes: Sequence[Sequence[str]]) -> str:
    """A command as one would type it, on each of its nodes."""
    places = [f", on node {node} of {len(nodes)}" for node in range(len(nodes))] if len(nodes) > 1 else [""]
    return "\n".join(f"# {name}{place}\n{shlex.join(line)}" for place, line in zip(places, nodes, strict=True))


# --- here -------------------------------------------------------------------------------------------------------------


@dataclass
class _Started:
    """A job that runs here: the command lines that are left, and the one that is running, with its process."""

    job: Job
    commands: list[list[str]]
    tell: Callable[[Job, int | None], None]
    running: list[str] = field(init=False)
    process: subprocess.Popen = field(init=False)
    failed: bool = False

    def start(self) -> None:
        """Starts the next command."""
        self.job.log.parent.mkdir(parents=True, exist_ok=True)
        self.running = self.commands.pop(0)
        with self.job.log.open("a") as stream:
            # In a group of its own: a terminal's Ctrl-C comes once, from here.
            self.process = subprocess.Popen(
                self.running,
                stdout=stream,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                # A process that nobody watches must not go on writing.
                preexec_fn=ends_with_parent(signal.SIGTERM),
            )

    def has_ended(self) -> bool:
        """Whether the job has ended; starts its next command where one is due."""
        code = self.process.poll()
        if code is None:
            return False
        self.failed |= code != 0
        if self.commands and code not in (TERMINATED, -signal.SIGTERM):
            self.start()
            return False
        self.tell(self.job, code or int(self.failed))
        return True

    def send(self, number: int) -> None:
        """Sends a signal to its processes, but not to a torchrun above them: it kills what lives 30 s later."""
        self.commands.clear()
        if "torch.distributed.run" not in self.running:
            self.process.send_signal(number)
            return
        pid = self.process.pid
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        for process in map(int, children or [pid]):
            os.kill(process, number)


def _run_here(waiting: list[_Started], side_by_side: int, watch: Callable[[], bool | None]) -> int:
    """Runs jobs, each with its output in its log. Returns the exit code.

    SIGTERM and SIGINT are passed on; nothing more is started then, and the exit code is the signal's.
    """
    received: list[int] = []
    running: list[_Started] = []
    passed_on, failed, stopped = 0, 0, False
    before = {
        number: signal.signal(number, lambda n, _: received.append(n)) for number in (signal.SIGTERM, signal.SIGINT)
    }
    try:
        while running or (waiting and not received):
            while waiting and len(running) < side_by_side and not received:
                started = waiting.pop(0)
                started.tell(started.job, None)
                started.start()
                running.append(started)
            time.sleep(0.1)
            if watch() and not stopped:
                stopped = True
                waiting.clear()
                for started in running:
                    started.send(signal.SIGTERM)
            for number in received[passed_on:]:
                passed_on += 1
                for started in running:
                    started.send(number)
            for started in [started for started in running if started.has_ended()]:
                running.remove(started)
                failed += started.failed
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if received:
        return 128 + received[0]
    return 1 if failed else 0


# --- trainings --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class LaunchedRun:
    """One training: the words after ``hvg train``, and what they compose to."""

    words: tuple[str, ...]
    config: RunConfig

    @property
    def folder(self) -> Path:
        """Run folder of the training."""
        return Path(self.config.output) / self.config.name

    @property
    def job(self) -> Job:
        """The job that trains the run."""
        return Job(
            name=self.config.name,
            commands=(("-m", "hvg.cli", "train", *self.words),),
            log=self.folder / "launch.log",
            processes=self.config.strategy.processes,
            cpu=self.config.device == "cpu",
        )


def judged_runs(
    overrides: Sequence[str], options: LaunchOptions, sweep: bool, *, dry_run: bool = False
) -> list[LaunchedRun]:
    """The runs that a command line asks for, all judged before the first one starts; each goes on where it was interrupted.

    Raises: ConfigError with all problems of the first configuration that has any; or of all that cannot be launched so.
    HvgError where they cannot be written; dry_run: that is not tried.
    """
    words = [*overrides, *process_words(options)]
    resumes = {word.partition("=")[2] for word in words if word.startswith("resume=")}
    runs = []
    for number, job in enumerate(expand_sweep(words) if sweep else [words]):
        replaced = ("resume=", "name=") if sweep else ("resume=",)
        own = [word for word in job if not word.startswith(replaced)]
        own += [f"name={_sweep_name(words, job, number)}"] if sweep else []
        runs.append(LaunchedRun((*own, "resume=auto"), compose([*own, "resume=auto"])))
    if not dry_run:
        try_folder(training_batch(runs).folder, "output, name")
    problems = [problem for run in runs for problem in launch_problems(run.config, options)]
    if resumes - {"auto"}:
        message = "launched runs continue from their own folder; to start from weights use checkpoint=PATH."
        problems.append(Problem("resume", message))
    problems += [problem for run in runs for problem in refused_changes(run)]
    if problems:
        raise ConfigError(list(dict.fromkeys(problems)))
    return runs


def launch_training(
    overrides: Sequence[str],
    options: LaunchOptions,
    *,
    sweep: bool,
    dry_run: bool,
    train: Callable[[RunConfig], object],
) -> int:
    """Trains the runs that a command line asks for: by ``train`` in this process, or as jobs. Returns the exit code.

    Raises: as ``judged_runs`` and ``launch``; HvgError where this machine has not what a run here needs.
    """
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
        train(run.config)
    return 0


def training_batch(runs: Sequence[LaunchedRun]) -> Batch:
    """One training, or those of a sweep."""
    first, jobs = runs[0], tuple(run.job for run in runs)
    if len(runs) == 1:
        return Batch(name=first.config.name, folder=first.folder, jobs=jobs)
    return Batch(name=str(Path(first.config.name).parent), folder=first.folder.parent, jobs=jobs)


def _sweep_name(overrides: Sequence[str], words: Sequence[str], number: int) -> str:
    """``<name>/<number>-<what this job sets and others do not>``; a valid folder name."""
    own = [w for w in words if w not in overrides]
    text = "-".join(w.replace("=", "_").replace("/", "_") for w in own) or "run"
    base = next((w.partition("=")[2] for w in words if w.startswith("name=")), "multirun")
    return f"{base}/{number}-{as_name(text)}"


def refused_changes(run: LaunchedRun) -> list[Problem]:
    """Problems of going on from the newest checkpoint with these settings; the training itself checks again."""
    saved = checkpoints(run.folder / "checkpoints")
    if not saved:
        return []
    step, path = saved.popitem()
    try:
        judged_changes(earlier_config(saved_config(path), str(path)), run.config, str(path), step=step)
    except ConfigError as error:
        return list(error.problems)
    except CheckpointError:
        # The training will name it, and judge by the one before it.
        return []
    return []
