"""Slurm: a batch script that a person can read, change and submit again, filled in from ``job.sbatch``.

It asks for a run's continuation by nothing but a command that continues from its folder, and exit code 143, with which
training ends when SIGTERM came and the step was saved.
"""

import re
import shlex
import subprocess
import sys
from pathlib import Path

from hvg.cluster.jobs import Batch
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
        raise HvgError(
            "sbatch is not on this machine; the script is ready for one where it is", then=f"sbatch {script}"
        ) from error
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
            f"job {job}, which works in {folder}, is {', '.join(states)}: wait for it, or cancel it first",
            then=f"scancel {job}",
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
    # Here: commands that submit nothing need not wait for it.
    from jinja2 import Environment, PackageLoader, StrictUndefined

    templates = Environment(
        loader=PackageLoader("hvg.cluster", ""),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    templates.filters |= {"quote": shlex.quote, "typed": shlex.join}
    return templates.get_template("job.sbatch").render(
        script=str(script),
        options=_sbatch_options(batch, options, script),
        folder=str(Path.cwd()),
        setup=options.setup,
        meet=processes != {(1, 1)},
        stopped=TERMINATED,
        cores=options.cpus_per_task,
        python=sys.executable,
        array=len(batch.jobs) > 1,
        jobs=batch.jobs,
        requeues=options.requeues,
    )


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
