"""Studies: arms that differ in one thing, trained and scored alike, and what came of it.

Every arm and seed is a job of its own; a study that was stopped continues arm by arm. Budgets are steps, never seconds; data
order, seeds and sampling noise are equal across arms. Arms that differ only in how they sample share one training: the first
of them trains, the others take its weights.
"""

import os
import shutil
import sys
import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

from hvg.cluster.jobs import launch_problems, process_words
from hvg.cluster.launch_options import StudyOptions
from hvg.cluster.slurm import queued, refuse_queued
from hvg.config.changes import changes, earlier_config
from hvg.config.machine import refuse_missing
from hvg.core import shipped
from hvg.core.errors import ConfigError, HvgError, Problem
from hvg.core.files import read_text, write_text
from hvg.core.outputs import held_folder, try_folder
from hvg.core.provenance import usable_cores
from hvg.data.prepare import prepare
from hvg.parts.continued import Continued
from hvg.report.results import Results
from hvg.report.study_report import write_report
from hvg.report.tables import results_markdown, write_results
from hvg.study.arm_results import drawn_otherwise, study_results
from hvg.study.cost import seed_cost
from hvg.study.kept_seeds import keep_seed, kept_folder, read_kept
from hvg.study.merged_seeds import merged, settings_since, shown_in
from hvg.study.plan import ArmRun, ArmState, plan
from hvg.study.start import ReportProgress, run_here, submit_arms
from hvg.study.study_file import StudyFile, load_study, study_name
from hvg.study.videos import study_clips


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """Outcome of a study.

    missing: a line for every arm and seed that is not finished. exit_code: 0 when all are; 1 when one failed; 75, come
    again later, when none failed and some are unfinished.
    """

    results: Results
    report: Path
    missing: tuple[str, ...]
    exit_code: int


def run_study(
    folder: Path,
    overrides: Sequence[str],
    options: StudyOptions,
    *,
    dry_run: bool = False,
    progress: ReportProgress = lambda *_: None,
) -> Outcome | None:
    """Runs what is not done yet, and writes results.json and report.html. None where that happens elsewhere: under Slurm, and
    with ``dry_run``, which only prints what would be started.

    ``progress(arm, stage, done, total, note)`` is called as work proceeds; the note says how fast it trains.
    Raises: ConfigError, HvgError for what cannot be run so; KeyboardInterrupt, SystemExit(143) when a signal came, and the
    arms have saved.
    """
    study, name = load_study(folder), study_name(folder)
    if (options.keep or options.merge) and shipped.INSTALLED and folder.resolve() in shipped.studies().values():
        message = f"works beside study.yaml, here in the installed package; copy {folder}, and give the copy's path."
        raise ConfigError([Problem("keep" if options.keep else "merge", message)])
    if options.merge:
        return _merge(study, folder, overrides, options)
    runs = _judged(study, name, overrides, options)
    output = runs[0].folder.parent
    if options.collect:
        try_folder(output, "output")
        return _collect(study, folder, runs, overrides, options, progress, {})
    with nullcontext() if dry_run else held_folder(output, "output"):
        seconds = _run(study, folder, runs, options, dry_run, progress)
        return None if seconds is None else _collect(study, folder, runs, overrides, options, progress, seconds)


def _run(
    study: StudyFile,
    folder: Path,
    runs: Sequence[ArmRun],
    options: StudyOptions,
    dry_run: bool,
    progress: ReportProgress,
) -> dict[str, float] | None:
    """Runs what is not done of arms that were checked, and returns seconds by stage; None as of ``run_study``."""
    name = study_name(folder)
    asked = [run for run in runs if run.seed in (options.seeds or study.seeds)]
    waiting = [run for run in asked if options.fresh or run.state().status != "done"]
    if options.launcher != "slurm" and not dry_run:
        refuse_missing(run.config for run in waiting)
    if not dry_run:
        refuse_queued(runs[0].folder.parent)
        if options.fresh:
            for run in asked:
                shutil.rmtree(run.folder, ignore_errors=True)
        _refuse_other_settings(runs)
    started = time.perf_counter()
    if waiting and not dry_run:
        _render(runs, options, progress)
    rendered = time.perf_counter()
    if dry_run:
        print(seed_cost(study, folder, runs), file=sys.stderr)
    if options.launcher == "slurm":
        submit_arms(name, waiting, options, dry_run)
        return None
    # Those that train side by side; then, as they can, those that take their weights.
    for training in (True, False):
        wave = [run for run in waiting if (run.trained_by is None) == training]
        run_here(name, wave, options, dry_run, progress)
    if dry_run:
        return None
    trained = time.perf_counter()
    return {"rendering": rendered - started, "training and scoring": trained - rendered}


def _judged(study: StudyFile, name: str, overrides: Sequence[str], options: StudyOptions) -> list[ArmRun]:
    """Every arm at every seed. Raises: ConfigError with all problems, also of starting them so."""
    if options.collect and options.fresh:
        raise ConfigError([Problem("fresh", "would throw away what collect=true is to report on; choose one.")])
    if options.keep and options.launcher == "slurm" and not options.collect:
        raise ConfigError(
            [Problem("keep", "keeps what is finished, which Slurm's jobs are later; give it with collect=true.")]
        )
    _refuse_unknown_seeds(study, options)
    runs = plan(study, name, [*overrides, *process_words(options)])
    if options.collect:
        return runs
    problems = [problem for run in runs for problem in launch_problems(run.config, options)]
    if options.launcher == "torchrun" and any(run.config.strategy.processes[0] > 1 for run in runs):
        problems.append(Problem("launcher", "torchrun runs a study on this machine alone; on several choose slurm."))
    if problems:
        raise ConfigError(list(dict.fromkeys(problems)))
    return runs


def _refuse_unknown_seeds(study: StudyFile, options: StudyOptions) -> None:
    unknown = [seed for seed in options.seeds or () if seed not in study.seeds]
    if unknown:
        listed = ", ".join(map(str, study.seeds))
        raise ConfigError([Problem("seeds", f"study.yaml lists {listed}; {unknown[0]} is none of them.")])


def _refuse_other_settings(runs: Sequence[ArmRun]) -> None:
    """A folder that holds an arm with other settings is not continued in silence.

    Raises: ConfigError with every setting that changes a result; what cannot, such as a logger, may differ.
    """
    arms: dict[str, dict[str, None]] = {}
    for run in runs:
        path = run.folder / "config.yaml"
        if not path.exists():
            continue
        for change in changes(earlier_config(read_text(path), str(path)), run.config):
            if change.continued is not Continued.FREE:
                arms.setdefault(str(change), {})[run.arm] = None
    if arms:
        fix = (
            f"{runs[0].folder.parent} holds arms with other settings; give the words with which they were started, or add "
            "fresh=true to throw them away, or output=FOLDER to keep both."
        )
        problems = [Problem(f"arm {', '.join(names)}", f"{change}.") for change, names in arms.items()]
        raise ConfigError([*problems, Problem("output", fix)])


def _render(runs: Sequence[ArmRun], options: StudyOptions, progress: ReportProgress) -> None:
    """Makes the clips that all arms see."""
    firsts = [run.config for run in runs if run.seed == runs[0].seed]
    jobs = usable_cores() if options.launcher == "slurm" else options.jobs or usable_cores()
    prepare(firsts, ("train", "val", "test"), jobs=jobs, report=lambda d, n: progress("data", "render", d, n, ""))


def _collect(
    study: StudyFile,
    folder: Path,
    runs: Sequence[ArmRun],
    overrides: Sequence[str],
    options: StudyOptions,
    progress: ReportProgress,
    seconds: dict[str, float],
) -> Outcome:
    """Writes results.json and report.html from what is finished of all seeds. seconds: what the stages before took."""
    started, output = time.perf_counter(), runs[0].folder.parent
    _refuse_other_settings(runs)
    # Read once: what stands in an arm's files is judged anew whenever they are read.
    states = [(run, run.state()) for run in runs]
    results = study_results(study, study_name(folder), states, progress)
    results["overrides"] = list(overrides)
    results["clips"] = study_clips(study, states, output)
    results["caveats"] += drawn_otherwise(results["clips"], (s.record for _, s in states if s.record is not None))
    states = [(run, state) for run, state in states if run.seed in (options.seeds or study.seeds)]
    seconds = seconds | {"report": time.perf_counter() - started}
    results["provenance"]["seconds"] = {stage: round(took, 1) for stage, took in seconds.items()}
    write_results(results, output)
    found = {state.status for _, state in states}
    missing = [f"{run.label}: {state.text}" for run, state in states if state.status != "done"]
    if "unfinished" in found:
        missing.append(_where_unfinished(output))
    if options.keep:
        _keep(study, folder, results, states)
    return Outcome(
        results=results,
        report=write_report(results, output),
        missing=tuple(missing),
        exit_code=1 if "failed" in found else os.EX_TEMPFAIL if "unfinished" in found else 0,
    )


def _keep(study: StudyFile, folder: Path, results: Results, states: Sequence[tuple[ArmRun, ArmState]]) -> None:
    """Keeps the seeds of which every arm is finished."""
    for seed in dict.fromkeys(run.seed for run, _ in states):
        own = [(run, state) for run, state in states if run.seed == seed]
        if all(state.status == "done" for _, state in own):
            folders = {run.arm: run.folder for run, _ in own}
            folders |= {name: own[0][0].folder.parent / name for name in study.baselines}
            print(f"seed {seed} is kept in {keep_seed(results, seed, folders, folder)}")


def _merge(study: StudyFile, folder: Path, overrides: Sequence[str], options: StudyOptions) -> Outcome:
    """Reports on the seeds that are kept beside study.yaml; in the README, too, unless only some seeds are asked for."""
    name = study_name(folder)
    output = _merge_output(study, name, overrides, options)
    asked = options.seeds or study.seeds
    kept = read_kept(folder, asked)
    if not kept:
        raise HvgError(
            f"{folder / 'results'}: no seed is kept there; keep=true of a run, or with collect=true, does that"
        )
    try_folder(output, "output")
    results = merged(study, name, kept)
    first = next(iter(kept))
    planned = plan(study.model_copy(update={"seeds": (first,)}), name, kept[first].get("overrides", []))
    results["caveats"] += settings_since({run.arm: run.config.to_yaml() for run in planned}, kept)
    write_results(results, output)
    missing = [f"seed {seed}: not kept in {kept_folder(folder, seed)}" for seed in asked if seed not in kept]
    readme = folder / "README.md"
    if options.seeds is None and readme.exists():
        text = shown_in(readme.read_text(encoding="utf-8"), results_markdown(results))
        if text is not None:
            write_text(readme, text)
    return Outcome(
        results=results,
        report=write_report(results, output),
        missing=tuple(missing),
        exit_code=os.EX_TEMPFAIL if missing else 0,
    )


def _merge_output(study: StudyFile, name: str, overrides: Sequence[str], options: StudyOptions) -> Path:
    """Folder of the report. Raises: ConfigError for words that would start or change something."""
    given = options.model_fields_set - {"merge", "seeds"}
    given |= {key for word in overrides if (key := word.lstrip("+~").partition("=")[0]) != "output"}
    if given:
        message = "merge=true reports on what was measured; leave this out."
        raise ConfigError([Problem(key, message) for key in sorted(given)])
    _refuse_unknown_seeds(study, options)
    words = [f"output=runs/{name}", *study.base, *overrides]
    return Path([word.removeprefix("output=") for word in words if word.startswith("output=")][-1]) / "merged"


def _where_unfinished(output: Path) -> str:
    """Sentence on whether something still works on a study's arms, as far as Slurm knows."""
    job, states = queued(output)
    if states:
        return f"job {job} is {', '.join(states)}"
    gone = f"Slurm no longer has job {job}; " if job else ""
    return f"{gone}the same words without collect=true continue what is not finished"
