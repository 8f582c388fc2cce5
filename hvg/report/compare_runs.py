"""``hvg compare``: evaluations side by side, of one protocol on the same clips, with paired statistics.

An arm is one evaluation, or several of one system trained with several seeds: ``bone=runs/a,runs/b``.
"""

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from hvg.config.command_options import CompareOptions
from hvg.config.precision import across_models
from hvg.core import outputs, provenance
from hvg.core.errors import HvgError, did_you_mean
from hvg.core.labels import readable
from hvg.parts.set_distance import SetDistance
from hvg.report.footnotes import unavailable, warnings
from hvg.report.number_format import format_number
from hvg.report.results import Arm, ClipInfo, MetricInfo, Results, SeedResult, metric_info
from hvg.report.tables import write_results
from hvg.score.anchors import ANCHORS, TWO_SAMPLES, AnchorValues
from hvg.score.comparability import differences, protocols_by_meaning
from hvg.score.evaluation_record import (
    EVALUATION,
    EvaluationRecord,
    ScoreRecord,
    arms_data_notes,
    read_record,
    with_finite_clips,
)
from hvg.score.set_statistics import distances_of, left_out_of_run
from hvg.values.truth_print import is_same_truth


@dataclass(frozen=True)
class ComparedRun:
    """An evaluation, and where it lies."""

    path: Path
    record: EvaluationRecord

    @property
    def seed(self) -> int | None:
        """Seed of the training; None for outputs of another system."""
        return self.record["seeds"]["training"]


# Label -> its runs, in the order of the table.
Runs = Mapping[str, Sequence[ComparedRun]]


def compare_runs(words: Sequence[str], options: CompareOptions) -> tuple[Results, list[str]]:
    """The comparison, with all differences to the first arm, and what a reader of its table has to know, a line each.

    words: ``RUN`` or ``LABEL=RUN,RUN``; a run is a results.json of ``hvg evaluate`` or of an arm of a study, or its folder.
    Raises: HvgError naming what differs and where, when two evaluations are not comparable.
    """
    if options.out is not None:
        outputs.try_folder(options.out, "out")
        outputs.refuse_existing(options.out, options.overwrite)
    arms = _read(words)
    runs = [run for of_arm in arms.values() for run in of_arm]
    for run in runs[1:]:
        what = next(differences(runs[0].record, run.record), None)
        if what is not None:
            raise HvgError(f"{run.path} cannot be compared with {runs[0].path}: {what}")
    seeds, notes = _seeds(arms)
    distances, unknown = _distances(runs)
    left_out, missing = _left_out(runs, distances)
    precision, mixed = across_models({label: [run.record.get("precision") for run in arms[label]] for label in arms})
    data = arms_data_notes({label: [run.record for run in arms[label]] for label in arms})
    notes = [*data, *notes, *unknown, *missing, *mixed]
    most = max(len(of_arm) for of_arm in arms.values())
    first = runs[0].record
    results = Results(
        title="Comparison",
        question="",
        study="",
        varies=[],
        command=provenance.command(),
        caveats=notes,
        protocol=first["protocol"],
        metrics=[_metric_info(runs, name) for name in first["values"]],
        arms=[
            Arm(
                name=label,
                label=label,
                overrides=[],
                kind="arm",
                status="done",
                error=None,
                seeds=[
                    SeedResult(
                        seed=seed,
                        values=run.record["values"],
                        left_out=left_out.get(run.path, {}),
                        precision=run.record.get("precision"),
                    )
                    for seed, run in zip(seeds[label], of_arm, strict=True)
                ],
                unseeded=_is_foreign(of_arm) and most > 1,
            )
            for label, of_arm in arms.items()
        ],
        clips=[ClipInfo(**clip, video=None) for clip in first["clips"]],
        anchors=_anchors(runs),
        provenance=provenance.collect()
        | {"precision": precision, "runs": {label: [str(run.path) for run in arms[label]] for label in arms}},
    )
    if options.headline is not None:
        if options.headline not in first["values"]:
            hint = did_you_mean(options.headline, first["values"])
            raise HvgError(f"headline: protocol {first['protocol']['id']} has no metric '{options.headline}'. {hint}")
        results["headline"] = options.headline
    if options.out is not None:
        write_results(results, options.out)
        notes = [*notes, f"written to {options.out}"]
    facts = [f"protocol {first['protocol']['id']}", *_floors(first)]
    missing = [f"not available: {line}" for line in unavailable(results)]
    return results, [*facts, *warnings(results), *missing, *notes]


def _read(words: Sequence[str]) -> dict[str, list[ComparedRun]]:
    """Label -> runs. Raises: HvgError when a run cannot be read, two arms have one label, or there is only one arm."""
    arms: dict[str, list[ComparedRun]] = {}
    for word in words:
        label, equals, paths = word.partition("=")
        if not equals or Path(word).exists():
            label, paths = "", word
        runs = [_read_run(Path(path)) for path in paths.split(",")]
        label = label or _default_label(runs[0].path)
        if label in arms:
            raise HvgError(f"two arms are called '{label}'; name them: LABEL={paths}")
        arms[label] = runs
    if len(arms) < 2:
        raise HvgError("give two runs or more", then="hvg compare runs/STUDY/bone-seed0 runs/STUDY/skeleton-seed0")
    return arms


def _read_run(path: Path) -> ComparedRun:
    """An evaluation; of a run's folder the one that lies inside. Raises: HvgError where there are several, or none."""
    folder = path if path.is_dir() else path.parent
    arms = sorted(child.parent.name for child in folder.glob("*/results.json"))
    if path.is_dir() and len(arms) == 1 and arms[0].startswith(EVALUATION) and not (path / "results.json").exists():
        path = folder = folder / arms[0]
    try:
        return ComparedRun(folder, with_finite_clips(read_record(path), path))
    except HvgError as error:
        if not arms:
            raise
        of_one_run = all(arm.startswith(EVALUATION) for arm in arms)
        raise HvgError(
            f"{error.message}. It has evaluations inside; give {'one of those' if of_one_run else 'those'}: {', '.join(arms)}",
            then=shlex.join(["hvg", "compare", *(str(folder / arm) for arm in (arms[-1:] if of_one_run else arms))]),
        ) from error


def _default_label(folder: Path) -> str:
    """The run's folder; evaluations of a checkpoint lie inside it."""
    folder = folder.resolve()
    return folder.parent.name if folder.name.startswith(EVALUATION) else folder.name


def _is_foreign(runs: Sequence[ComparedRun]) -> bool:
    """Whether the runs are one set of outputs of a system that we did not train."""
    return len(runs) == 1 and runs[0].seed is None


def _seeds(arms: Runs) -> tuple[dict[str, list[int]], list[str]]:
    """Label -> number of every run, by which runs of two arms pair; and what to say of it.

    Runs pair by the seed of their training where arms share some, else in the order in which they are given.
    Raises: HvgError where neither goes.
    """
    notes = []
    samplings = {run.record["seeds"]["sampling"] for runs in arms.values() for run in runs} - {None}
    if len(samplings) > 1:
        notes.append(f"sampled with different noise: seeds {', '.join(map(str, sorted(samplings, key=str)))}")
    trained = {label: [run.seed for run in runs] for label, runs in arms.items() if not _is_foreign(runs)}
    most = max((len(seeds) for seeds in trained.values()), default=1)
    if most == 1:
        notes.append("one training run of an arm: intervals say nothing about the luck of a training run")
    known = all(None not in seeds and len({*seeds}) == len(seeds) for seeds in trained.values())
    shared = set.intersection(*map(set, trained.values())) if trained else set()
    if known and shared:
        numbers = {label: [seed for seed in seeds if seed is not None] for label, seeds in trained.items()}
        if any(set(seeds) != shared for seeds in numbers.values()):
            notes.append("arms have different seeds; a difference is over those that both have")
    elif len({len(seeds) for seeds in trained.values()}) <= 1:
        numbers = {label: list(range(len(seeds))) for label, seeds in trained.items()}
        if len(trained) > 1:
            notes.append("training seeds differ or are not known; runs are paired in the order given")
    else:
        counts = ", ".join(f"{label} {len(seeds)}" for label, seeds in trained.items())
        raise HvgError(f"runs do not pair: they share no training seed and their numbers differ ({counts})")
    return numbers | {label: [0] for label in arms if label not in numbers}, notes


def _distances(runs: Sequence[ComparedRun]) -> tuple[dict[str, SetDistance], list[str]]:
    """Name -> distance of the metrics without values of clips, as the protocol says; and those that it does not say."""
    names = [
        name
        for name in runs[0].record["protocol"]["settings"]["metrics"]
        if any(score["value"] is not None and not score["per_clip"] for score in _scores(runs, name))
    ]
    found, unknown = distances_of(runs[0].record["protocol"]["settings"], names)
    return found, [f"{readable(name)}: no interval: {reason}" for name, reason in unknown.items()]


def _scores(runs: Sequence[ComparedRun], name: str) -> list[ScoreRecord]:
    return [run.record["values"][name] for run in runs]


def _left_out(
    runs: Sequence[ComparedRun], distances: Mapping[str, SetDistance]
) -> tuple[dict[Path, dict[str, list[float]]], list[str]]:
    """Folder of a run -> metric -> the distance with every subject left out; and what is missing for it."""
    found: dict[Path, dict[str, list[float]]] = {}
    missing = []
    for run in runs if distances else ():
        try:
            found[run.path] = left_out_of_run(run.path, run.record, distances)
        except HvgError as error:
            missing.append(f"{', '.join(map(readable, distances))}: no interval: {error}")
    return found, missing


def _metric_info(runs: Sequence[ComparedRun], name: str) -> MetricInfo:
    """A column, from the first run that has a value in it."""
    scores = _scores(runs, name)
    return metric_info(name, next((score for score in scores if score["value"] is not None), scores[0]))


def _anchors(runs: Sequence[ComparedRun]) -> AnchorValues:
    """Scores of the anchors, as recorded by one of the evaluations, or by the study of its arm; {} where none did.

    All evaluations have the same protocol and the same true frames, so that one speaks for all.
    """
    found: AnchorValues = {}
    for run in runs:
        for recorded in (run.record.get("anchors", {}), _anchors_of_study(run)):
            found = recorded | found
    return {name: found[name] for name in [*ANCHORS, *found] if name in found}


def _anchors_of_study(run: ComparedRun) -> AnchorValues:
    """Scores of the anchors from the study that the run lies in, where protocol and clips are the same; else {}."""
    path = run.path.resolve().parent / "results.json"
    try:
        study = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    protocol, own = study.get("protocol") if isinstance(study, dict) else None, run.record["protocol"]
    if not isinstance(protocol, dict) or protocol.get("id") != own["id"]:
        return {}
    ours, theirs = protocols_by_meaning(own["settings"], protocol.get("settings", {}))
    if ours != theirs:
        return {}

    here, there = run.record["clips"], study.get("clips", [])
    if [clip.get("clip_id") for clip in there] != [clip["clip_id"] for clip in here]:
        return {}
    pairs = list(zip(here, there, strict=True))
    same = all(("truth" in a) == ("truth" in b) and is_same_truth(a, b) for a, b in pairs)
    return study.get("anchors", {}) if same else {}


def _floors(record: EvaluationRecord) -> list[str]:
    return [
        f"{readable(name)}: {TWO_SAMPLES} score {format_number(score['floor'])} at this N ({score['count']} "
        f"{score['counted']})"
        for name, score in record["values"].items()
        if score["floor"] is not None
    ]
