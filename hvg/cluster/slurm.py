"""Slurm: a batch script that a person can read, change and submit again.

It asks for a run's continuation by nothing but a command that continues from its folder, and exit code 143, with which
training ends when SIGTERM came and the step was saved.
"""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

from hvg.cluster.jobs import Batch, Job
from hvg.cluster.launch_options import LaunchOptions
from hvg.core.errors import ConfigError, HvgError, Problem
from hvg.core.exit_codes import TERMINATED
from hvg.core.files import write_text


def submit(batch: Batch, options: LaunchOptions, *, dry_run: bool = False) -> None:
    """Writes the batch's script and submits it; ``dry_run`` only prints it.

    Raises: ConfigError as ``sbatch_script``; HvgError when Slurm is missing or refuses, or still has what was submitted before.
    """
    # Beside the logs, where also the script stays as it was submitted.
    script = Path.cwd() / batch.folder / "slurm" / "job.sbatch"
    text = sbatch_script(batch, options, script)
    if dry_run:
        print(f"# {script}; submit with: sbatch {shlex.quote(str(script))}\n{text}", end="")
        return
    refuse_queued(batch.folder)
    write_text(script, text)
    try:
        done = subprocess.run(["sbatch", "--parsable", str(script)], capture_output=True, text=True)
    except FileNotFoundError as error:
        raise HvgError(f"sbatch is not on this machine; the script is ready: sbatch {script}") from error
    if done.returncode:
        raise HvgError(f"sbatch refused {script}: {done.stderr.strip()}")
    job = done.stdout.strip().partition(";")[0]
    write_text(script.parent / "job.id", f"{job}\n")
    print(f"submitted job {job}, {len(batch.jobs)} run(s): {script}")
    print(f"logs: {script.parent}/{job}{'_*' if len(batch.jobs) > 1 else ''}.log")


def refuse_queued(folder: Path) -> None:
    """Two jobs must not write the same folders at once. Raises: HvgError while Slurm has one that was submitted for it."""
    job, states = queued(folder)
    if states:
        raise HvgError(
            f"job {job}, which works in {folder}, is {', '.join(states)}: wait for it, or `scancel {job}` first"
        )


def queued(folder: Path) -> tuple[str, list[str]]:
    """The job that was last submitted for a batch's folder, "" for none, and the states of its elements while Slurm has it."""
    path = folder / "slurm" / "job.id"
    if not path.exists():
        return "", []
    job = path.read_text().strip()
    try:
        # An id that Slurm has forgotten is an error, and prints nothing.
        asked = subprocess.run(["squeue", "--noheader", "--jobs", job, "--format=%T"], capture_output=True, text=True)
    except FileNotFoundError:
        return job, [
            f"in a state that only squeue knows, which is not on this machine (when it has ended, remove {path})"
        ]
    return job, sorted(set(asked.stdout.split()))


def sbatch_script(batch: Batch, options: LaunchOptions, script: Path) -> str:
    """The batch script of one job, or of an array with one element for each of several.

    Raises: ConfigError when jobs of an array want different numbers of processes.
    """
    processes = {job.processes for job in batch.jobs}
    if len(processes) > 1:
        message = f"jobs of one array have the same size; this asks for {len(processes)}: launch them apart."
        raise ConfigError([Problem("strategy", message)])
    # What a job has for a process, srun asks for only if it is told again (since Slurm 22.05).
    cores = f"--cpus-per-task={options.cpus_per_task} " if options.cpus_per_task else ""
    lines = [
        "#!/bin/bash",
        f"# Written by hvg. Submit it again: sbatch {shlex.quote(str(script))}",
        *(f"#SBATCH {shlex.quote(option)}" for option in _sbatch_options(batch, options, script)),
        "",
        f"cd {shlex.quote(str(Path.cwd()))} || exit 1",
        *options.setup,
        *_meeting_place(batch),
        "",
        "code=0",
        "stopping=",
        "start() {",
        f'    if [ "$stopping" ] || [ "$code" = {TERMINATED} ]; then code={TERMINATED}; return; fi',
        "    # One process per device. When one ends, the others have a minute: then they wait for it in vain.",
        f'    srun {cores}--kill-on-bad-exit=0 --wait=60 {shlex.quote(sys.executable)} "$@" &',
        "    step=$!",
        "    # Slurm sends TERM to the processes; to this shell too, where it ends or moves the job. The shell outlives them",
        "    # then, and waits again: what a trap interrupts is no exit code. (srun must get no signal from here: it would kill",
        "    # them.)",
        '    while told=; wait "$step"; ended=$?; [ "$told" ]; do :; done',
        '    if [ "$ended" != 0 ]; then code=$ended; fi',
        "}",
        "trap 'told=yes stopping=yes' TERM",
        "",
        *_starts(batch),
        *_requeue(options.requeues, array=len(batch.jobs) > 1),
        'exit "$code"',
    ]
    return "\n".join(lines) + "\n"


def _sbatch_options(batch: Batch, options: LaunchOptions, script: Path) -> list[str]:
    array, (nodes, devices) = len(batch.jobs) > 1, batch.jobs[0].processes
    gpus = options.gpus_per_node
    if gpus is None:
        gpus = 0 if all(job.cpu for job in batch.jobs) else devices
    log = str(script.parent).replace("%", "%%") + ("/%A_%a.log" if array else "/%j.log")
    throttle = f"%{options.jobs}" if options.jobs else ""
    given = {
        "job-name": "hvg-" + re.sub(r"[^\w.-]", "-", batch.name),
        "array": f"0-{len(batch.jobs) - 1}{throttle}" if array else None,
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


def _meeting_place(batch: Batch) -> list[str]:
    """Lines that set where a job's processes meet; no two jobs of a node have the same port, but for bad luck."""
    if batch.jobs[0].processes == (1, 1):
        return []
    first_node = '$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)'
    return [f"export MASTER_ADDR={first_node} MASTER_PORT=$((15000 + SLURM_JOB_ID % 10000))"]


def _starts(batch: Batch) -> list[str]:
    """Lines of the script that start the job, or each element of the array."""
    if len(batch.jobs) == 1:
        return _commands(batch.jobs[0])
    cases = [
        line
        for index, job in enumerate(batch.jobs)
        for line in (f"{index}) # {job.name}", *(f"    {command}" for command in _commands(job)), "    ;;")
    ]
    return ['case "$SLURM_ARRAY_TASK_ID" in', *cases, "esac"]


def _commands(job: Job) -> list[str]:
    return [f"start {shlex.join(words)}" for words in job.commands]


def _requeue(requeues: int, array: bool) -> list[str]:
    """Lines that start a job anew when its run was stopped and saved, and is to go on."""
    if not requeues:
        return []
    # An element of an array is known by array and task: the last one's SLURM_JOB_ID is that of the whole array.
    job = "${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID" if array else "$SLURM_JOB_ID"
    return [
        f"# {TERMINATED}: stopped by SIGTERM and saved. A job that was cancelled, or that Slurm itself is requeueing, no longer",
        "# runs, and is left alone. Whatever else ends a run ends the job.",
        f'job="{job}"',
        f'if [ "$code" = {TERMINATED} ] && [ "$(squeue --noheader --jobs "$job" --format %T)" = RUNNING ]; then',
        f'    if [ "${{SLURM_RESTART_COUNT:-0}}" -lt {requeues} ]; then scontrol requeue "$job"',
        f'    else echo "stopped after {requeues} requeues; the same launch continues the run" >&2; fi',
        "fi",
    ]
