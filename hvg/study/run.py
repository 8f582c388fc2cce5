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
from hvg.config.settings import RunConfig
from hvg.config.stages import stages_of
from hvg.core import shipped
from hvg.core.errors import ConfigError, HvgError, Problem
from hvg.core.files import read_text, write_text
from hvg.core.locks import say
from hvg.core.outputs import held_folder, try_folder
from hvg.core.provenance import usable_cores
from hvg.data.cache import cache_folder
from hvg.data.prepare import prepare
from hvg.parts.continued import Continued
from hvg.report.results import Results
from hvg.report.study_report import write_report
from hvg.report.tables import results_markdown, write_results
from hvg.report.watch_page import PAGE, BesideWork, WatchPage
from hvg.study.arm_results import drawn_otherwise, study_results, trained_first
from hvg.study.cost import seed_cost
from hvg.study.kept_seeds import keep_seed, kept_folder, read_kept
from hvg.study.merged_seeds import merged, settings_since, shown_in
from hvg.study.plan import ArmRun, ArmState, asked_runs, needs_of, plan, refuse_unknown
from hvg.study.start import ReportProgress, run_here, start_arms, submit_arms
from hvg.study.study_file import StudyFile, load_study, study_name
from hvg.study.videos import study_clips

# Seconds between two looks at the arms while they run: each takes a fraction of a second of the processor that they run on.
BETWEEN_LOOKS = 20.0


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
    page = WatchPage([output], output / PAGE, clips=study.videos, every=BETWEEN_LOOKS)
    with nullcontext() if dry_run else held_folder(output, "output"):
        with BesideWork(page, say) as work:
            seconds = _run(study, folder, runs, options, dry_run, work.beside(progress))
        if seconds is None:
            return None
        return _collect(study, folder, runs, overrides, options, progress, seconds)


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
    asked = asked_runs(study, runs, options)
    waiting = [run for run in asked if options.fresh or run.state().status != "done"]
    needs = [run for run in needs_of(waiting) if options.fresh or run.state().status != "done"]
    if options.launcher != "slurm" and not dry_run:
        refuse_missing(run.config for run in (*needs, *waiting))
    if not dry_run:
        for place in dict.fromkeys(run.folder.parent for run in (*needs_of(runs), *runs)):
            refuse_queued(place)
        if options.fresh:
            for run in (*needs, *asked):
                shutil.rmtree(run.folder, ignore_errors=True)
        _refuse_other_settings([*needs_of(runs), *runs])
    if dry_run:
        print(seed_cost(study, folder, runs), file=sys.stderr)
    started, rendering, on_slurm = time.perf_counter(), 0.0, options.launcher == "slurm"
    # First what arms start from, which may be what their maps are drawn by; beside the last of it, what waits for nothing.
    waves = _waves(needs, on_slurm)
    beside = [] if on_slurm or not waves else [run for run in waiting if not run.needs and run.trained_by is None]
    for wave in waves:
        free = beside if wave is waves[-1] else []
        if not dry_run:
            rendering += _render([*wave, *free], ("train", "val", *(("test",) if free else ())), options, progress)
        start_arms(name, [*wave, *free], options, dry_run, progress)
    begun = {run.folder for run in beside}
    able = waiting if dry_run and not on_slurm else [run for run in waiting if _can_start(run, needs, on_slurm)]
    ready = [run for run in able if run.folder not in begun]
    if ready and not dry_run:
        seen = [run for run in asked if _can_start(run, needs, on_slurm)]
        rendering += _render(seen, ("train", "val", "test"), options, progress)
    if on_slurm:
        submit_arms(name, ready, options, dry_run)
        if not dry_run or ready != waiting or not waiting:
            print(_after_submitting(waiting, ready))
        return None
    # Those that train side by side; then, as they can, those that take their weights.
    for training in (True, False):
        wave = [run for run in ready if (run.trained_by is None) == training]
        run_here(name, wave, options, dry_run, progress)
    if dry_run:
        return None
    return {"rendering": rendering, "training and scoring": time.perf_counter() - started - rendering}


def _waves(needs: Sequence[ArmRun], on_slurm: bool) -> list[list[ArmRun]]:
    """The needs that are started together: here one name behind the other, under Slurm those that wait for no other."""
    if on_slurm:
        return [wave] if (wave := [run for run in needs if not run.waits_for()]) else []
    return [[run for run in needs if run.arm == name] for name in dict.fromkeys(run.arm for run in needs)]


def _can_start(run: ArmRun, needs: Sequence[ArmRun], on_slurm: bool) -> bool:
    """Whether what an arm starts from is trained. needs: those that were started just now, which Slurm has only begun."""
    begun = [need.folder for need in needs] if on_slurm else []
    return all(need.is_trained() and need.folder not in begun for need in run.needs)


def _after_submitting(waiting: Sequence[ArmRun], ready: Sequence[ArmRun]) -> str:
    """Line on how a study goes on of which Slurm has a part. ready: those that wait for nothing, and were submitted."""
    if not waiting:
        return "every arm is finished; collect=true writes the report"
    if len(ready) < len(waiting):
        needs = ", ".join(dict.fromkeys(need.arm for run in waiting if run not in ready for need in run.needs))
        return f"{len(waiting) - len(ready)} arms wait for {needs}; when that is trained, the same words submit them"
    return "the same words with collect=true report on what is finished"


def _judged(study: StudyFile, name: str, overrides: Sequence[str], options: StudyOptions) -> list[ArmRun]:
    """Every arm at every seed. Raises: ConfigError with all problems, also of starting them so."""
    if options.collect and options.fresh:
        raise ConfigError([Problem("fresh", "would throw away what collect=true is to report on; choose one.")])
    if options.keep and options.launcher == "slurm" and not options.collect:
        raise ConfigError(
            [Problem("keep", "keeps what is finished, which Slurm's jobs are later; give it with collect=true.")]
        )
    refuse_unknown(study, options)
    runs = plan(study, name, [*overrides, *process_words(options)])
    if options.collect:
        return runs
    started = [*needs_of(runs), *runs]
    problems = [problem for run in started for problem in launch_problems(run.config, options)]
    if options.launcher == "torchrun" and any(run.config.strategy.processes[0] > 1 for run in started):
        problems.append(Problem("launcher", "torchrun runs a study on this machine alone; on several choose slurm."))
    if problems:
        raise ConfigError(list(dict.fromkeys(problems)))
    return runs


def _refuse_other_settings(runs: Sequence[ArmRun]) -> None:
    """A folder that holds an arm with other settings is not continued in silence.

    Raises: ConfigError with every setting that changes a result; what cannot, such as a logger, may differ.
    """
    arms: dict[str, dict[str, list[str]]] = {}
    for run in runs:
        path = run.folder / "config.yaml"
        if not path.exists():
            continue
        for change in changes(earlier_config(read_text(path), str(path)), run.config):
            if change.continued is not Continued.FREE:
                kind, _, name = run.title.partition(" ")
                arms.setdefault(str(change), {}).setdefault(kind, []).append(name)
    if arms:
        fix = (
            f"{runs[-1].folder.parent} holds arms with other settings; give the words with which they were started, or add "
            "fresh=true to throw them away, or output=FOLDER to keep both."
        )
        problems = [
            Problem(
                ", ".join(f"{kind} {', '.join(dict.fromkeys(names))}" for kind, names in found.items()), f"{change}."
            )
            for change, found in arms.items()
        ]
        raise ConfigError([*problems, Problem("output", fix)])


def _render(runs: Sequence[ArmRun], splits: Sequence[str], options: StudyOptions, progress: ReportProgress) -> float:
    """Makes the clips that these see, in all of their stages, with the maps of each; the seconds that it took.

    Maps of what starts from no need are the same for every seed.
    """
    started, folders = time.perf_counter(), dict[Path, list[RunConfig]]()
    jobs = usable_cores() if options.launcher == "slurm" else options.jobs or usable_cores()
    for run in runs:
        if run.needs or run.seed == runs[0].seed:
            for stage in stages_of(run.config):
                folders.setdefault(cache_folder(stage.config), []).append(stage.config)
    for configs in folders.values():
        prepare(configs, splits, jobs=jobs, report=lambda d, n: progress("data", "render", d, n, ""))
    return time.perf_counter() - started


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
    _refuse_other_settings([*needs_of(runs), *runs])
    # Read once: what stands in an arm's files is judged anew whenever they are read.
    states = [(run, run.state()) for run in runs]
    results = study_results(study, study_name(folder), states, progress)
    results["overrides"] = list(overrides)
    results["needs"] = trained_first(study, runs)
    results["clips"] = study_clips(study, states, output)
    results["caveats"] += drawn_otherwise(results["clips"], (s.record for _, s in states if s.record is not None))
    of_seeds = [(run, state) for run, state in states if run.seed in (options.seeds or study.seeds)]
    folders = {run.folder for run in asked_runs(study, runs, options)}
    states = [(run, state) for run, state in of_seeds if run.folder in folders]
    seconds = seconds | {"report": time.perf_counter() - started}
    results["provenance"]["seconds"] = {stage: round(took, 1) for stage, took in seconds.items()}
    write_results(results, output)
    found = {state.status for _, state in states}
    waited_for = [(run, run.state()) for run in needs_of(run for run, state in states if state.status != "done")]
    missing = [f"{run.label}: {state.text}" for run, state in (*waited_for, *states) if state.status != "done"]
    if "unfinished" in found:
        places = [output, *dict.fromkeys(run.folder.parent for run, _ in waited_for)]
        missing.append(_where_unfinished(places))
    if options.keep:
        _keep(study, folder, results, of_seeds)
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
            f"{folder / 'results'}: no seed is kept there; keep=true of a run, or with collect=true, does that",
            then=f"hvg study {folder} keep=true",
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
    refuse_unknown(study, options)
    words = [f"output=runs/{name}", *study.base, *overrides]
    return Path([word.removeprefix("output=") for word in words if word.startswith("output=")][-1]) / "merged"


def _where_unfinished(folders: Sequence[Path]) -> str:
    """Sentence on whether something still works on a study's arms and their needs, as far as Slurm knows."""
    jobs = [queued(folder) for folder in folders]
    working = [f"job {job} is {', '.join(states)}" for job, states in jobs if states]
    gone = "".join(f"Slurm no longer has job {job}; " for job, _ in jobs if job)
    return "; ".join(working) or f"{gone}the same words without collect=true continue what is not finished"
