"""Starting the arms of a study: here, side by side, or as jobs of a cluster."""

from collections.abc import Callable, Sequence
from pathlib import Path

from hvg.cluster.jobs import Batch, Job
from hvg.cluster.launch import launch
from hvg.cluster.launch_options import StudyOptions
from hvg.core.exit_codes import INTERRUPTED, TERMINATED
from hvg.core.files import write_text
from hvg.core.provenance import usable_cores
from hvg.study.plan import ArmRun
from hvg.train.run_notes import FAILURE, forget_notes, read_progress

# Takes a task, its stage, what is done of how many, and a note that says how fast.
ReportProgress = Callable[[str, str, int, int, str], None]


def arm_job(runs: Sequence[ArmRun]) -> Job:
    """Arms that are started one after another: one that trains, and others that take its weights; or any one alone."""
    first = runs[0]
    return Job(
        name=first.config.name,
        commands=tuple(_command(run) for run in runs),
        log=first.folder / "log.txt",
        processes=first.config.strategy.processes,
        cpu=first.config.device == "cpu",
    )


def _command(run: ArmRun) -> tuple[str, ...]:
    if not run.is_scored:
        return ("-m", "hvg.study.arm", "--need", str(run.folder))
    trained = [] if run.trained_by is None else [str(run.trained_by.folder)]
    return ("-m", "hvg.study.arm", str(run.folder), *trained)


def _make_ready(runs: Sequence[ArmRun]) -> None:
    """Writes what each arm is to do, and removes what an earlier start said of it."""
    for run in runs:
        write_text(run.folder / "config.yaml", run.config.to_yaml())
        forget_notes(run.folder)


def run_here(name: str, runs: Sequence[ArmRun], options: StudyOptions, dry_run: bool, progress: ReportProgress) -> None:
    """Runs arms on this machine, each in processes of its own; one that ends without a word is said to have failed."""
    runs = [run for run in runs if dry_run or not run.lacks_weights()]
    if not runs:
        return
    batch = Batch(name=name, folder=runs[0].folder.parent, jobs=tuple(arm_job([run]) for run in runs))
    if dry_run:
        launch(batch, options, dry_run=True)
        return
    _make_ready(runs)
    devices = batch.jobs[0].processes[1]
    room = 1 if devices == "auto" else max(1, usable_cores() // devices)
    code = launch(
        batch,
        options.model_copy(update={"jobs": options.jobs or room}),
        tell=lambda job, code: progress(job.name, "failed", 1, 1, f"exit code {code}") if code else None,
        watch=lambda: _report(runs, progress),
    )
    if code == INTERRUPTED:
        raise KeyboardInterrupt
    if code == TERMINATED:
        raise SystemExit(code)
    for run in runs:
        if run.state().status == "unfinished":
            write_text(run.folder / FAILURE, f"the process ended early, see {run.folder / 'log.txt'}")


def _report(runs: Sequence[ArmRun], progress: ReportProgress) -> None:
    for run in runs:
        if now := read_progress(run.folder):
            progress(run.label, now.stage, now.done, now.total, now.note)


def start_arms(
    name: str, runs: Sequence[ArmRun], options: StudyOptions, dry_run: bool, progress: ReportProgress
) -> None:
    """Runs them here, or hands them to Slurm, as the options say."""
    if options.launcher == "slurm":
        submit_arms(name, runs, options, dry_run)
    else:
        run_here(name, runs, options, dry_run, progress)


def submit_arms(name: str, waiting: Sequence[ArmRun], options: StudyOptions, dry_run: bool) -> None:
    """Hands Slurm what is not done: an element of the array for each training, and what samples with it after it."""
    if not waiting:
        return
    groups: dict[Path, list[ArmRun]] = {}
    for run in waiting:
        groups.setdefault((run.trained_by or run).folder, []).append(run)
    jobs = tuple(arm_job(group) for group in groups.values())
    batch = Batch(name=name, folder=waiting[0].folder.parent, jobs=jobs)
    if not dry_run:
        _make_ready(waiting)
    launch(batch, options, dry_run=dry_run)
