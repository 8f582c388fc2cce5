"""Scoring a trained system on clips that it never saw."""

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from hvg.config.buckets import scored_size_notes
from hvg.config.build import build_sampler
from hvg.config.changes import EXPLANATIONS, changes
from hvg.config.command_options import EvaluateOptions
from hvg.config.composition import given_settings, named_protocol, recompose, single_settings
from hvg.config.overlap import overlap
from hvg.config.sections import ProtocolConfig
from hvg.config.settings import RunConfig
from hvg.core import outputs, provenance
from hvg.core.checkpoint import checkpoint_digest, find_checkpoint, is_exported
from hvg.core.digests import settings_digest
from hvg.core.errors import HvgError
from hvg.core.ranks import joined_ranks
from hvg.model.load import load_system, trained_precision
from hvg.model.trained_windows import clip_grids, sampling_notes
from hvg.score.anchors import TWO_SAMPLES, anchor_label, chosen
from hvg.score.evaluation_record import (
    EVALUATION,
    RECORD_FORMAT,
    EvaluationRecord,
    ProtocolRecord,
    ScoreRecord,
    data_notes,
    failed_metrics,
    write_record,
)
from hvg.score.measured_clips import Evaluation, evaluate


def evaluate_checkpoint(
    options: EvaluateOptions, overrides: Sequence[str], report: Callable[[int, int], None]
) -> tuple[list[str], list[str], Path] | None:
    """Scores a checkpoint; returns the table's lines, what could not be scored, and where results.json lies.

    Ranks share the clips: None but on the first.

    overrides: of how it is sampled and scored, as of ``hvg.config.composition.recompose``.
    """
    checkpoint = find_checkpoint(options.checkpoint)
    run = checkpoint.parent if is_exported(checkpoint) else checkpoint.parent.parent
    out = options.out or run / f"{EVALUATION}{options.split}-{checkpoint.stem}"
    asked = _request_digest(options, overrides)
    about: dict[str, Any] = {}

    def change(trained: RunConfig) -> RunConfig:
        config = _rescored(trained, overrides, checkpoint, options.shift)
        about["overlap"] = _overlap(trained, config, options.split)
        about["shift"] = _shift(trained, config)
        return config

    with (
        joined_ranks() as (rank, world),
        outputs.unfinished(out, asked, options.overwrite) if rank == 0 else nullcontext(),
    ):
        system, config = load_system(checkpoint, options.weights, change)
        asked_for = {key: value for key in ("steps", "clips") if (value := getattr(options, key)) is not None}
        config = config.model_copy(update={"evaluation": config.evaluation.model_copy(update=asked_for)})
        evaluation = evaluate(
            system,
            config,
            split=options.split,
            predictions=out / "predictions",
            report=report if rank == 0 else lambda done, total: None,
            share=(rank, world),
            anchors=chosen(options.anchors),
        )
        if rank:
            return None
        record = make_record(evaluation, config.protocol, str(checkpoint), config.seed, config.evaluation.seed)
        record["precision"] = trained_precision(checkpoint)
        record["overlap"], record["shift"] = about["overlap"], about["shift"]
        notes = sampling_notes(
            config, build_sampler(config), config.evaluation.steps, clip_grids(config, options.split)
        )
        lines = [*table_lines(record), *(f"note: {note}" for note in notes)]
        return lines, failed_metrics(record), write_record(out, record, evaluation.measurements)


def _request_digest(options: EvaluateOptions, overrides: Sequence[str]) -> str:
    words = options.model_dump(mode="json", exclude={"out", "overwrite"})
    return settings_digest([words, list(overrides), checkpoint_digest(options.checkpoint)], 16)


def _rescored(config: RunConfig, overrides: Sequence[str], checkpoint: Path, shift: bool) -> RunConfig:
    """The configuration of a trained model, as it is to be scored. shift: whether dataset and fit may be others.

    Raises: HvgError where the model, which may come from anyone, brings a program to run that the command line does not name.
    """
    config = recompose(config, overrides, ("dataset", "fit") if shift else ())
    given = given_settings(overrides)
    for label, choice in config.protocol.metrics.items():
        settings = dict(single_settings(choice.resolved(), f"protocol.metrics.{label}"))
        for path in choice.cls.programs(choice.config):
            keys = [key for key, value in settings.items() if value == str(path)]
            if not any(key in given and Path(str(given[key])) == path for key in keys):
                words = " or ".join(f"{key}={path}" for key in keys)
                raise HvgError(
                    f"the settings in {checkpoint} would run the program {path}; to allow it, say so: {words}"
                )
    return config


def _overlap(trained: RunConfig, config: RunConfig, split: str) -> list[str]:
    """Overlap of the clips to be scored with those of training, a line each.

    Raises: HvgError where they share some and nobody allowed it.
    """
    if split == "train":
        return ["the clips are those of training (split=train)", *scored_size_notes(config)]
    found = overlap(trained.dataset, config.dataset, (split,))
    if found.shared and config.evaluation.overlap == "refuse":
        raise HvgError(found.refusal)
    return [*found.lines, *scored_size_notes(config)]


def _shift(trained: RunConfig, config: RunConfig) -> dict[str, list[Any]]:
    """Setting of the dataset or the fit -> what it was in training and what it is now, of those that differ."""
    if trained.dataset.name != config.dataset.name:
        return {"dataset": [trained.dataset.resolved(), config.dataset.resolved()]}
    return {
        change.path: [change.was, change.now]
        for change in changes(trained, config)
        if change.path.split(".")[0] in ("dataset", "fit") and change.path != "dataset.split"
    }


def make_record(
    evaluation: Evaluation, protocol: ProtocolConfig, scored: str, seed: int | None, sampling_seed: int | None
) -> EvaluationRecord:
    """The evaluation with what makes its numbers comparable."""
    record = EvaluationRecord(
        format=RECORD_FORMAT,
        scored=scored,
        protocol=protocol_record(protocol),
        seeds={"training": seed, "sampling": sampling_seed},
        clips=evaluation.clips,
        values=evaluation.values,
        provenance=provenance.collect(seed),
    )
    if evaluation.anchors:
        record["anchors"] = evaluation.anchors
    return record


def protocol_record(protocol: ProtocolConfig) -> ProtocolRecord:
    """Its id and settings; the id says where they differ from what goes by that name."""
    known = named_protocol(protocol.name)
    words = {name: getattr(protocol, name) for name in EXPLANATIONS}
    changed = known is None or known.model_copy(update=words).resolved() != protocol.resolved()
    return {"id": protocol.id + ("+changes" if changed else ""), "settings": protocol.resolved()}


def table_lines(record: EvaluationRecord) -> list[str]:
    """One line a metric, for the terminal, and below them what a reader has to know."""
    lines = [f"protocol {record['protocol']['id']}"]
    notes = []
    for label, score in record["values"].items():
        lines.append(f"{label:<18} {_number(score)}{_anchors(record, label)}  {score['definition']}")
        notes += [f"{label}: {note}" for note in score["notes"]]
    resized = sum("resized_from" in clip for clip in record["clips"])
    if resized:
        notes.append(f"{resized} of {len(record['clips'])} predictions were resized to the size of the reference")
    noted = [clip for clip in record["clips"] if "note" in clip]
    if noted:
        count = f"{len(noted)} of {len(record['clips'])} clips"
        notes.append(f"{count}, first '{noted[0]['clip_id']}': {noted[0].get('note')}")
    return [*lines, *data_notes(record), *notes]


def _anchors(record: EvaluationRecord, metric: str) -> str:
    """Text with the scores of the anchors, to print behind a value."""
    values = {name: found[metric] for name, found in record.get("anchors", {}).items() if metric in found}
    words = [f"{anchor_label(name)} {value:.4g}" for name, value in values.items() if value is not None]
    return "".join(f", {word}" for word in words)


def _number(score: ScoreRecord) -> str:
    if score["value"] is None:
        return f"{'not available':>14}: {score['unavailable']}"
    floor = "" if score["floor"] is None else f", {TWO_SAMPLES} {score['floor']:.4g}"
    better = "higher is better" if score["higher_is_better"] else "lower is better"
    better = better if score.get("verdict", True) else "describes"
    value = f"{score['value']:.4f}" if score["value"] == 0 or abs(score["value"]) >= 1e-3 else f"{score['value']:.3e}"
    return f"{value:>14} {score['unit']:<3} {better}, N = {score['count']} {score['counted']}{floor}"
