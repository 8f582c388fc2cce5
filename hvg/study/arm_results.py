"""Results of a study: of everything that is finished, of its arms and of trivial predictors."""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import cast

import torch
from torch import Tensor

from hvg.config.build import build_alignment
from hvg.config.machine import choose_device
from hvg.config.precision import across_models
from hvg.config.settings import RunConfig
from hvg.core import provenance
from hvg.core.errors import DataError, HvgError
from hvg.core.files import read_text
from hvg.core.labels import arm_label
from hvg.data.cache import open_clips
from hvg.data.signals import NO_SIGNALS
from hvg.parts.as_seen import as_seen
from hvg.parts.set_distance import SetDistance
from hvg.report.origin import mixed_origins, seed_provenance
from hvg.report.results import Arm, ClipInfo, Measured, Need, Results, SeedResult, metric_info
from hvg.score.anchors import ANCHORS, AnchorValues
from hvg.score.baselines import MeanImage, copy_reference, in_place
from hvg.score.comparability import differences
from hvg.score.evaluation import make_record, protocol_record
from hvg.score.evaluation_record import EvaluationRecord, arms_data_notes, with_finite_clips, write_record
from hvg.score.measured_clips import num_clips, score_anchors, score_dataset
from hvg.score.protocol import Protocol, build_protocol
from hvg.score.set_statistics import left_out_of_run, set_distances
from hvg.study.arm import TRAINED
from hvg.study.near_to import NearTo
from hvg.study.plan import ArmRun, ArmState, needs_of
from hvg.study.start import ReportProgress
from hvg.study.study_file import StudyFile
from hvg.train import throughput
from hvg.train.metric_rows import OPTIMIZER, read_rows
from hvg.values.clip import ClipBatch
from hvg.values.known import with_known_views
from hvg.values.truth_print import is_same_truth

BASELINE_LABELS = {
    "copy_reference": "copy the reference",
    "mean_image": "mean training image",
    "mean_image_per_view": "mean training image per view",
}


def study_results(
    study: StudyFile,
    name: str,
    states: Sequence[tuple[ArmRun, ArmState]],
    progress: ReportProgress,
) -> Results:
    """The results of everything that is finished, without clips. name: of the study. progress: as of ``run_study``.

    Raises: HvgError naming two runs that were scored by different code or against other truth.
    """
    finished = [(run, state.record) for run, state in states if state.record is not None]
    _refuse_incomparable(finished)
    config = states[0][0].config
    # What collects need not have the GPU of those that trained.
    device = choose_device(config.device if torch.cuda.is_available() else "cpu")
    protocol = build_protocol(config, device)
    distances = set_distances(protocol.metrics)
    baselines = _baselines(study, config, protocol, device, progress)
    anchors = _anchors(study, config, protocol, device, progress)
    near = None if study.near_to is None else NearTo(study.near_to, finished)
    arms = [_arm(study, arm, [pair for pair in states if pair[0].arm == arm], distances, near) for arm in study.arms]
    precision, mixed = across_models({arm["label"]: [seed.get("precision") for seed in arm["seeds"]] for arm in arms})
    data = arms_data_notes({a["label"]: [record for run, record in finished if run.arm == a["name"]] for a in arms})
    results = Results(
        title=study.title,
        question=study.question,
        study=name,
        varies=list(study.varies),
        command=provenance.command(),
        caveats=[*study.caveats, *data, *mixed, *mixed_origins(arms)],
        protocol=protocol_record(config.protocol),
        metrics=[
            *(metric_info(label, protocol.described(label)) for label in config.protocol.metrics),
            *([] if near is None else [near.metric]),
        ],
        arms=[*arms, *baselines],
        clips=[],
        anchors=anchors,
        provenance=provenance.collect() | seed_provenance(arms, study.seeds, precision),
    )
    return cast(Results, results | study.of_report())


def _arm(
    study: StudyFile,
    name: str,
    states: Sequence[tuple[ArmRun, ArmState]],
    distances: Mapping[str, SetDistance],
    near: NearTo | None,
) -> Arm:
    """One row. states: of the arm's own runs."""
    seeds = [_seed(run, state.record, distances, near) for run, state in states if state.record is not None]
    missing = {run.seed: state for run, state in states if state.record is None}
    failed = any(state.status == "failed" for state in missing.values())
    first = states[0][0]
    return Arm(
        name=name,
        label=arm_label(name, study.labels),
        overrides=list(study.arms[name]),
        kind="arm",
        status="done" if seeds else "failed" if failed else "unfinished",
        error="; ".join(f"seed {seed}: {state.text}" for seed, state in missing.items()) or None,
        seeds=seeds,
        num_seeds=len(states),
        config_diff=_config_diff(study, first),
        control=_is_control(study, first),
    )


def trained_first(study: StudyFile, runs: Sequence[ArmRun]) -> list[Need]:
    """What arms start from, as far as it is trained. Raises: DataError for a damaged record."""
    found = {name: Need(name=name, overrides=list(words), seeds=[]) for name, words in study.needs.items()}
    for run in needs_of(runs):
        path = run.folder / TRAINED
        if not path.exists():
            continue
        try:
            told = json.loads(read_text(path))
            told = {key: told[key] for key in ("precision", "config", "measured")}
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(f"{path}: damaged: it does not say how the need was trained; delete it") from error
        curve = _curve(run.folder / "metrics.jsonl")
        found[run.arm]["seeds"].append(SeedResult(seed=run.seed, values={}, curve=curve, **told))
    return list(found.values())


def _seed(
    run: ArmRun, record: EvaluationRecord, distances: Mapping[str, SetDistance], near: NearTo | None
) -> SeedResult:
    with_finite_clips(record, run.folder)
    place, besides = record["provenance"], {} if near is None else {near.label: near.score(run, record)}
    return SeedResult(
        seed=run.seed,
        values=record["values"] | besides,
        curve=_curve((run.trained_by or run).folder / "metrics.jsonl"),
        left_out=left_out_of_run(run.folder, record, distances),
        precision=record.get("precision"),
        config=record.get("config", ""),
        measured=Measured(commit=place["commit"], hardware=place["hardware"], seconds=record.get("seconds", {})),
    )


def _refuse_incomparable(finished: Sequence[tuple[ArmRun, EvaluationRecord]]) -> None:
    for run, record in finished[1:]:
        what = next(differences(finished[0][1], record), None)
        if what is not None:
            away = f"remove {run.folder}/results.json to score it again, or add fresh=true"
            raise HvgError(f"{run.label} cannot be compared with {finished[0][0].label}: {what}; {away}")


def drawn_otherwise(clips: Sequence[ClipInfo], finished: Iterable[EvaluationRecord]) -> list[str]:
    """A caveat where true frames are others now than those that finished arms were scored against."""
    scored = [clip for record in finished for clip in record["clips"] if "truth" in clip]
    now = {clip["clip_id"]: clip for clip in clips}
    same = (clip["clip_id"] in now and is_same_truth(clip, now[clip["clip_id"]]) for clip in scored)
    other = {clip["clip_id"] for clip, is_same in zip(scored, same, strict=True) if not is_same}
    text = (
        f"{len(other)} of {len(clips)} test clips are drawn otherwise now than when arms were scored: trivial predictors, anchors"
        " and videos are of the new ones; fresh=true scores all alike"
    )
    return [text] if other else []


def _is_control(study: StudyFile, run: ArmRun) -> bool:
    """Whether every part that the study varies is ``none`` in this arm: it shows what having one is worth.

    A fit is nothing to have: without a pose, an arm is as much a control on fitted bodies as on exact ones.
    """
    varied = (run.config.resolved().get(key) for key in study.varies if key != "fit")
    names = {part["name"] for part in varied if isinstance(part, dict) and "name" in part}
    return names == {"none"}


def _config_diff(study: StudyFile, run: ArmRun) -> list[str]:
    """The settings of what the study varies, one line each."""
    resolved = run.config.resolved()
    return [f"{key}: {json.dumps(resolved[key])}" for key in study.varies if key in resolved]


def _curve(path: Path) -> list[dict[str, float]]:
    """The rows of metrics.jsonl, joined by step; without speeds, in which a repeated study would differ, and what all arms are
    told alike of the optimiser.
    """
    rows: dict[int, dict[str, float]] = {}
    for row in read_rows(path):
        values = {name: value for name, value in row.items() if not name.startswith((throughput.PREFIX, OPTIMIZER))}
        rows.setdefault(row["step"], {}).update(values)
    return [rows[step] for step in sorted(rows)]


def _baselines(
    study: StudyFile,
    config: RunConfig,
    protocol: Protocol,
    device: torch.device,
    progress: ReportProgress,
) -> list[Arm]:
    """The trivial predictors on the test clips: people are moved as for the first arm, frames pass through the same 8 bits."""
    test, mean = open_clips(config, "test"), MeanImage()
    alignment, background = build_alignment(config), config.data.background
    if any(name.startswith("mean") for name in study.baselines):
        train = open_clips(config, "train")
        for index in range(len(train)):
            mean.add(as_seen(NO_SIGNALS.load(train, index), alignment, background))
    predictors: dict[str, Callable[[ClipBatch], Tensor]] = {
        "copy_reference": copy_reference,
        "mean_image": lambda batch: mean.predict(batch, per_view=False),
        "mean_image_per_view": lambda batch: mean.predict(batch, per_view=True),
    }
    arms = []
    for name in study.baselines:
        predict = in_place(predictors[name], alignment, background)
        evaluation = score_dataset(
            protocol,
            test,
            num_clips(config, test),
            predict,
            load=lambda index: _scored(NO_SIGNALS.load(test, index).to(device), config),
            report=lambda done, total, name=name: progress(name, "evaluate", done, total, ""),
        )
        # Beside the arms, as evaluations of the same kind: `hvg compare` reads them, and kept seeds hold what they measured.
        folder, record = Path(config.output) / name, make_record(evaluation, config.protocol, name, None, None)
        write_record(folder, record, evaluation.measurements)
        without = left_out_of_run(folder, record, set_distances(protocol.metrics))
        seeds = [SeedResult(seed=0, values=record["values"], left_out=without)]
        title = arm_label(name, BASELINE_LABELS)
        arms.append(Arm(name=name, label=title, overrides=[], kind="baseline", status="done", error=None, seeds=seeds))
    return arms


def _anchors(
    study: StudyFile,
    config: RunConfig,
    protocol: Protocol,
    device: torch.device,
    progress: ReportProgress,
) -> AnchorValues:
    """Scores of the anchors on the test clips; a copy of the photo only where it is no baseline of the study."""
    test = open_clips(config, "test")
    return score_anchors(
        protocol,
        test,
        num_clips(config, test),
        [name for name in ANCHORS if name != "photo" or "copy_reference" not in study.baselines],
        load=lambda index: _scored(NO_SIGNALS.load(test, index).to(device), config),
        report=lambda done, total: progress("anchors", "evaluate", done, total, ""),
    )


def _scored(batch: ClipBatch, config: RunConfig) -> ClipBatch:
    """Clips of which the views count that the arms are scored on."""
    return with_known_views(batch, config.evaluation.known_views, config.evaluation.unscored_views)
