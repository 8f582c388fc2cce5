"""Scoring a trained system on clips that it never saw."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hvg import outputs, provenance
from hvg.anchors import (
    TWO_SAMPLES,
    AnchorValues,
    anchor_label,
    anchor_values,
    chosen,
    measure_anchors,
)
from hvg.arrays import array_bytes, read_array
from hvg.cameras import azimuths_degrees
from hvg.checkpoint import checkpoint_digest, find_checkpoint, is_exported
from hvg.config import RunConfig, given_settings, named_protocol, recompose, single_settings
from hvg.data import load_with_signals
from hvg.digests import settings_digest
from hvg.eight_bit import frames_from_uint8, frames_to_uint8
from hvg.errors import DataError, HvgError
from hvg.files import regular_file, whole_file
from hvg.finite import refuse_not_finite
from hvg.long_clip import LongClip
from hvg.options import EvaluateOptions
from hvg.overlap import overlap
from hvg.prepare import open_clips
from hvg.protocols import Dataset
from hvg.ranks import joined_ranks
from hvg.record import (
    FORMAT,
    ClipRecord,
    ProtocolRecord,
    Record,
    ScoreRecord,
    data_notes,
    failed_metrics,
    score_records,
    write_record,
)
from hvg.resume import changes
from hvg.scored_clip import ScoredClip, Surface, scored_clips, true_clip
from hvg.scoring import ClipMeasurements, Measurements, MetricResult, Protocol, build_protocol, gathered
from hvg.set_statistics import with_floors
from hvg.settings import ProtocolConfig
from hvg.system import HumanVideoSystem
from hvg.trained_windows import clip_grids, sampling_notes
from hvg.training import load_system, trained_precision
from hvg.types import ClipBatch


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """Everything that was scored. measurements: what metrics kept of every clip, in the order of ``clips``.

    anchors: what those score that were asked for.
    """

    results: dict[str, MetricResult]
    clips: list[ClipRecord]
    measurements: Measurements
    anchors: AnchorValues = field(default_factory=dict)

    def values(self) -> dict[str, ScoreRecord]:
        """The results as plain data."""
        return score_records(self.results, self.clips)


def evaluate_checkpoint(
    options: EvaluateOptions, overrides: Sequence[str], report: Callable[[int, int], None]
) -> tuple[list[str], list[str], Path] | None:
    """Scores a checkpoint; returns the table's lines, what could not be scored, and where results.json lies.

    Ranks share the clips: None but on the first.

    overrides: of how it is sampled and scored, as of ``hvg.config.recompose``.
    """
    checkpoint = find_checkpoint(options.checkpoint)
    run = checkpoint.parent if is_exported(checkpoint) else checkpoint.parent.parent
    out = options.out or run / f"evaluation-{options.split}-{checkpoint.stem}"
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
        notes = sampling_notes(config, system.sampler, config.evaluation.steps, clip_grids(config, options.split))
        lines = [*table_lines(record), *(f"note: {note}" for note in notes)]
        return lines, failed_metrics(record), write_record(out, record, evaluation.measurements)


def _request_digest(options: EvaluateOptions, overrides: Sequence[str]) -> str:
    words = options.model_dump(mode="json", exclude={"out", "overwrite"})
    return settings_digest([words, list(overrides), checkpoint_digest(options.checkpoint)], 16)


def _rescored(config: RunConfig, overrides: Sequence[str], checkpoint: Path, shift: bool) -> RunConfig:
    """The configuration of a trained model, as it is to be scored. shift: whether the dataset may be another one.

    Raises: HvgError where the model, which may come from anyone, brings a program to run that the command line does not name.
    """
    config = recompose(config, overrides, ("dataset",) if shift else ())
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
    """What the clips to be scored share with those of training, a line each.

    Raises: HvgError where they share some and nobody allowed it.
    """
    if split == "train":
        return ["the clips are those of training (split=train)"]
    found = overlap(trained.dataset, config.dataset, (split,))
    if found.shared and config.evaluation.overlap == "refuse":
        raise HvgError(found.refusal)
    return found.lines


def _shift(trained: RunConfig, config: RunConfig) -> dict[str, list[Any]]:
    """Setting of the dataset -> what it was in training and what it is now, of those that differ."""
    if trained.dataset.name != config.dataset.name:
        return {"dataset": [trained.dataset.resolved(), config.dataset.resolved()]}
    return {
        change.path: [change.was, change.now]
        for change in changes(trained, config)
        if change.path.startswith("dataset.") and change.path != "dataset.split"
    }


def make_record(
    evaluation: Evaluation, protocol: ProtocolConfig, scored: str, seed: int | None, sampling_seed: int | None
) -> Record:
    """The evaluation with what makes its numbers comparable."""
    record = Record(
        format=FORMAT,
        scored=scored,
        protocol=protocol_record(protocol),
        seeds={"training": seed, "sampling": sampling_seed},
        clips=evaluation.clips,
        values=evaluation.values(),
        provenance=provenance.collect(seed),
    )
    if evaluation.anchors:
        record["anchors"] = evaluation.anchors
    return record


def protocol_record(protocol: ProtocolConfig) -> ProtocolRecord:
    """Its id and settings; the id says where they differ from what goes by that name."""
    known = named_protocol(protocol.name)
    # Explanations change no number.
    words = {"source": protocol.source, "left_open": protocol.left_open, "videos": protocol.videos}
    changed = known is None or known.model_copy(update=words).resolved() != protocol.resolved()
    return {"id": protocol.id + ("+changes" if changed else ""), "settings": protocol.resolved()}


def batches(
    clips: Dataset, count: int, size: int, load: Callable[[int], ClipBatch], share: tuple[int, int] = (0, 1)
) -> Iterator[tuple[range, ClipBatch]]:
    """The first ``count`` clips in order, ``size`` at a time, with their indices; every ``share[1]``-th batch.

    Batches are cut as for one process, so that what a batch holds does not depend on how many share them.
    """
    for start in range(share[0] * size, count, share[1] * size):
        indices = range(start, min(start + size, count))
        yield indices, ClipBatch.stack([load(i) for i in indices])


def num_clips(config: RunConfig, clips: Dataset) -> int:
    """How many clips of a split the configuration scores."""
    return min(len(clips), config.evaluation.clips or len(clips))


def evaluate(
    system: HumanVideoSystem,
    config: RunConfig,
    *,
    split: str = "test",
    predictions: Path | None = None,
    report: Callable[[int, int], None] = lambda done, total: None,
    share: tuple[int, int] = (0, 1),
    anchors: Sequence[str] = (),
) -> Evaluation:
    """Scores what the system makes. The noise is keyed by (evaluation.seed, clip), so it is the same for all models.

    predictions: folder that takes every clip as ``<clip>.npy``, (V, T, 3, H, W) uint8. The scores are those of the 8-bit
    frames, as a file would hold them. ``report(clips done, clips in all)``. share: this rank, and how many share the clips;
    all of them return the same. anchors: names of those that are scored besides.
    """

    def generate(batch: ClipBatch) -> Tensor:
        return system.generate(
            batch,
            num_steps=config.evaluation.steps,
            seed=config.evaluation.seed,
            windows_per_call=config.evaluation.windows_per_call,
        )

    def keep(batch: ClipBatch, frames: Tensor) -> None:
        if predictions is not None:
            save_predictions(predictions, batch, frames)

    clips = open_clips(config, split, system.signals, system.needs_mesh)
    return score_dataset(
        build_protocol(config, system.device),
        clips,
        num_clips(config, clips),
        generate,
        load=lambda index: load_with_signals(clips, index, system.signals, system.needs_mesh).to(system.device),
        size=config.data.eval_batch_size,
        keep=keep,
        report=report,
        share=share,
        anchors=anchors,
    )


def score_dataset(
    protocol: Protocol,
    clips: Dataset,
    count: int,
    generate: Callable[[ClipBatch], Tensor],
    *,
    load: Callable[[int], ClipBatch],
    size: int = 1,
    keep: Callable[[ClipBatch, Tensor], None] = lambda batch, frames: None,
    report: Callable[[int, int], None] = lambda done, total: None,
    share: tuple[int, int] = (0, 1),
    anchors: Sequence[str] = (),
) -> Evaluation:
    """Scores ``generate(batch)``, (B, V, T, 3, H, W) in [-1, 1], in 8 bits, on the first ``count`` clips of a dataset.

    load: index -> clip with all that ``generate`` needs. size: clips in a batch. keep: takes every batch and its frames, uint8.
    share, anchors: as of ``evaluate``. Raises: HvgError naming clips whose frames, made or true, are not finite.
    """
    own: dict[int, MeasuredClip] = {}
    for indices, batch in batches(clips, count, size, load, share):
        made = generate(batch)
        refuse_not_finite(made, batch.clip_id, "the predicted frames")
        frames = frames_to_uint8(made)
        keep(batch, frames)
        for index, clip in zip(indices, scored_clips(batch, frames), strict=True):
            surface = _surface(clips, index, clip.truth.device)
            azimuths = azimuths_of(batch.clips(slice(index - indices[0], index - indices[0] + 1)))
            described = ClipRecord(
                clip_id=clip.clip_id, subject=clip.subject, azimuths=azimuths, truth=clip.truth_digest
            )
            own[index] = measure_clip(protocol, clip.with_surface(surface), described, anchors)
        report(min(count, (indices[0] + size * share[1])), count)
    return finished(protocol, gathered(own))


@dataclass(frozen=True)
class MeasuredClip:
    """A clip, what was kept of its prediction, and of each of its anchors by name."""

    clip: ClipRecord
    prediction: ClipMeasurements
    anchors: Mapping[str, ClipMeasurements] = field(default_factory=dict)


def measure_clip(
    protocol: Protocol, clip: ScoredClip | LongClip, described: ClipRecord, anchors: Sequence[str]
) -> MeasuredClip:
    """The clip measured, with the anchors of these names. Raises: as of ``Protocol.prepare``."""
    return MeasuredClip(described, protocol.measure(clip), measure_anchors(protocol, clip, anchors))


def score_anchors(
    protocol: Protocol,
    clips: Dataset,
    count: int,
    names: Sequence[str],
    *,
    load: Callable[[int], ClipBatch],
    report: Callable[[int, int], None] = lambda done, total: None,
) -> AnchorValues:
    """What anchors score on the first ``count`` clips of a dataset. load: index -> clip, with its true frames."""
    kept = {}
    for index in range(count):
        clip = true_clip(load(index))
        clip = clip.with_surface(_surface(clips, index, clip.truth.device))
        kept[clip.clip_id] = measure_anchors(protocol, clip, names)
        report(index + 1, count)
    return anchor_values(protocol, kept)


def finished(protocol: Protocol, clips_by_index: Mapping[int, MeasuredClip]) -> Evaluation:
    """The evaluation of the clips, in the order of their indices. Raises: DataError when two clips have one name."""
    everything = [clips_by_index[index] for index in sorted(clips_by_index)]
    clips = [one.clip for one in everything]
    measurements = {one.clip["clip_id"]: one.prediction for one in everything}
    if len(measurements) < len(clips):
        twice = next(name for name, count in Counter(clip["clip_id"] for clip in clips).items() if count > 1)
        raise DataError(f"two clips are named '{twice}'; names have to differ, for scores are kept by them")
    results = with_floors(protocol.reduce(measurements), protocol.metrics, measurements, clips)
    anchors = anchor_values(protocol, {one.clip["clip_id"]: one.anchors for one in everything})
    return Evaluation(results=results, clips=clips, measurements=measurements, anchors=anchors)


def _surface(clips: Dataset, index: int, device: torch.device) -> Callable[[], Surface]:
    return lambda: clips.surface(index).to(device)


def azimuths_of(clip: ClipBatch) -> list[float] | None:
    """Azimuth of every view (in the first frame) from the photo, degrees in (-180, 180]; None without a photo's camera."""
    if clip.reference is None or clip.reference.cameras is None:
        return None
    photo = azimuths_degrees(clip.reference.cameras[0, 0])
    turned = azimuths_degrees(clip.cameras[0, :, 0]) - photo
    return (180 - (180 - turned) % 360).tolist()


def save_predictions(folder: Path, batch: ClipBatch, frames: Tensor) -> None:
    """Writes every clip's frames, uint8, as ``<clip>.npy``."""
    for name, clip in zip(batch.clip_id, frames.cpu().numpy(), strict=True):
        # A name may hold a slash.
        with whole_file(folder / f"{name}.npy") as partial:
            partial.write_bytes(array_bytes(clip))


def load_prediction(folder: Path, clip_id: str) -> Tensor:
    """(V, T, 3, H, W) in [-1, 1]. Raises: DataError naming the file where it is missing, damaged or holds no frames."""
    path = folder / f"{clip_id}.npy"
    try:
        with regular_file(path).open("rb") as stream:
            frames = read_array(stream, path.stat().st_size)
        if frames.ndim != 5 or frames.shape[2] != 3 or frames.dtype != np.uint8:
            raise ValueError(f"it holds {frames.dtype} {frames.shape}, expected frames (V, T, 3, H, W) of 8 bits")
    except FileNotFoundError:
        raise DataError(f"{path}: no such file; what was scored is kept there") from None
    except (ValueError, EOFError, SyntaxError) as error:
        raise DataError(f"{path}: damaged ({' '.join(str(error).split())}); score the model again") from error
    return frames_from_uint8(torch.from_numpy(frames))


def table_lines(record: Record) -> list[str]:
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


def _anchors(record: Record, metric: str) -> str:
    """What the anchors score, behind a value."""
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
