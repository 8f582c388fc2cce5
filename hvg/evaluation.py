"""Scoring a trained system on clips that it never saw."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field, PositiveInt
from torch import Tensor

from hvg import outputs, provenance
from hvg.build import build_protocol
from hvg.cameras import azimuths_degrees
from hvg.checkpoint import checkpoint_digest, find_checkpoint, is_exported
from hvg.config import RunConfig, given_settings, named_protocol, recompose, single_settings
from hvg.data import load_with_signals
from hvg.digests import settings_digest
from hvg.eight_bit import frames_from_uint8, frames_to_uint8
from hvg.errors import DataError, HvgError
from hvg.prepare import open_clips
from hvg.protocols import Dataset
from hvg.ranks import joined_ranks
from hvg.record import (
    FORMAT,
    ClipRecord,
    ProtocolRecord,
    Record,
    ScoreRecord,
    failed_metrics,
    score_records,
    write_record,
)
from hvg.scored_clip import Surface, scored_clips
from hvg.scoring import ClipMeasurements, Measurements, MetricResult, Protocol, gathered
from hvg.set_statistics import with_floors
from hvg.settings import ProtocolConfig
from hvg.system import HumanVideoSystem
from hvg.training import load_system, trained_precision
from hvg.types import ClipBatch


class EvaluateOptions(BaseModel):
    """What ``hvg evaluate checkpoint=...`` takes."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    checkpoint: Path = Field(description="Checkpoint to score, or a run folder for its newest one.")
    split: Literal["train", "val", "test"] = Field("test", description="Which people.")
    weights: Literal["ema", "raw"] | None = Field(None, description="Averaged or raw weights; null as configured.")
    steps: PositiveInt | None = Field(None, description="Solver steps; null as configured.")
    clips: PositiveInt | None = Field(None, description="Clips to score; null as configured.")
    out: Path | None = Field(None, description="Folder for results.json and predictions; null: beside the run.")
    overwrite: bool = Field(False, description="Write into `out` even if something else is there.")


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """Everything that was scored. measurements: what metrics kept of every clip, in the order of ``clips``."""

    results: dict[str, MetricResult]
    clips: list[ClipRecord]
    measurements: Measurements

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
    with joined_ranks() as (rank, world):
        asked = _request_digest(options, overrides)
        if rank == 0:
            outputs.check_folder(out, asked, options.overwrite)
        change = partial(_rescored, overrides=overrides, checkpoint=checkpoint)
        system, config = load_system(checkpoint, options.weights, change)
        changes = {key: value for key in ("steps", "clips") if (value := getattr(options, key)) is not None}
        config = config.model_copy(update={"evaluation": config.evaluation.model_copy(update=changes)})
        with outputs.unfinished(out, asked) if rank == 0 else nullcontext():
            evaluation = evaluate(
                system,
                config,
                split=options.split,
                predictions=out / "predictions",
                report=report if rank == 0 else lambda done, total: None,
                share=(rank, world),
            )
            if rank:
                return None
            record = make_record(evaluation, config.protocol, str(checkpoint), config.seed, config.evaluation.seed)
            record["precision"] = trained_precision(checkpoint)
            return table_lines(record), failed_metrics(record), write_record(out, record, evaluation.measurements)


def _request_digest(options: EvaluateOptions, overrides: Sequence[str]) -> str:
    words = options.model_dump(mode="json", exclude={"out", "overwrite"})
    return settings_digest([words, list(overrides), checkpoint_digest(options.checkpoint)], 16)


def _rescored(config: RunConfig, overrides: Sequence[str], checkpoint: Path) -> RunConfig:
    """The configuration of a trained model, as it is to be scored.

    Raises: HvgError where the model, which may come from anyone, brings a program to run that the command line does not name.
    """
    config = recompose(config, overrides)
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


def make_record(
    evaluation: Evaluation, protocol: ProtocolConfig, scored: str, seed: int | None, sampling_seed: int | None
) -> Record:
    """The evaluation with what makes its numbers comparable."""
    return Record(
        format=FORMAT,
        scored=scored,
        protocol=protocol_record(protocol),
        seeds={"training": seed, "sampling": sampling_seed},
        clips=evaluation.clips,
        values=evaluation.values(),
        provenance=provenance.collect(seed),
    )


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
) -> Evaluation:
    """Scores what the system makes. The noise is keyed by (evaluation.seed, clip), so it is the same for all models.

    predictions: folder that takes every clip as ``<clip>.npy``, (V, T, 3, H, W) uint8. The scores are those of the 8-bit
    frames, as a file would hold them. ``report(clips done, clips in all)``. share: this rank, and how many share the clips;
    all of them return the same.
    """

    def generate(batch: ClipBatch) -> Tensor:
        frames = frames_to_uint8(
            system.generate(
                batch,
                num_steps=config.evaluation.steps,
                seed=config.evaluation.seed,
                windows_per_call=config.evaluation.windows_per_call,
            )
        )
        if predictions is not None:
            save_predictions(predictions, batch, frames)
        return frames

    clips = open_clips(config, split, system.signals, system.needs_mesh)
    return score_dataset(
        build_protocol(config, system.device),
        clips,
        num_clips(config, clips),
        generate,
        load=lambda index: load_with_signals(clips, index, system.signals, system.needs_mesh).to(system.device),
        size=config.data.eval_batch_size,
        report=report,
        share=share,
    )


def score_dataset(
    protocol: Protocol,
    clips: Dataset,
    count: int,
    generate: Callable[[ClipBatch], Tensor],
    *,
    load: Callable[[int], ClipBatch],
    size: int = 1,
    report: Callable[[int, int], None] = lambda done, total: None,
    share: tuple[int, int] = (0, 1),
) -> Evaluation:
    """Scores ``generate(batch)``, (B, V, T, 3, H, W) uint8, on the first ``count`` clips of a dataset.

    load: index -> clip with all that ``generate`` needs. size: clips in a batch. share: as of ``evaluate``.
    """
    own: dict[int, tuple[ClipRecord, ClipMeasurements]] = {}
    for indices, batch in batches(clips, count, size, load, share):
        for index, clip in zip(indices, scored_clips(batch, generate(batch)), strict=True):
            surface = _surface(clips, index, clip.truth.device)
            azimuths = azimuths_of(batch.clips(slice(index - indices[0], index - indices[0] + 1)))
            described = ClipRecord(
                clip_id=clip.clip_id, subject=clip.subject, azimuths=azimuths, truth=clip.truth_digest
            )
            own[index] = described, protocol.measure(clip.with_surface(surface))
        report(min(count, (indices[0] + size * share[1])), count)
    return finished(protocol, gathered(own))


def finished(protocol: Protocol, measured: Mapping[int, tuple[ClipRecord, ClipMeasurements]]) -> Evaluation:
    """The evaluation, from index -> clip and what was kept of it. Raises: DataError when two clips have one name."""
    everything = [measured[index] for index in sorted(measured)]
    clips = [clip for clip, _ in everything]
    measurements = {clip["clip_id"]: kept for clip, kept in everything}
    if len(measurements) < len(clips):
        twice = next(name for name, count in Counter(clip["clip_id"] for clip in clips).items() if count > 1)
        raise DataError(f"two clips are named '{twice}'; names have to differ, for scores are kept by them")
    results = with_floors(protocol.reduce(measurements), protocol.metrics, measurements, clips)
    return Evaluation(results=results, clips=clips, measurements=measurements)


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
        path = folder / f"{name}.npy"
        path.parent.mkdir(parents=True, exist_ok=True)
        np.save(path, clip, allow_pickle=False)


def load_prediction(folder: Path, clip_id: str) -> Tensor:
    """(V, T, 3, H, W) in [-1, 1]."""
    return frames_from_uint8(torch.from_numpy(np.load(folder / f"{clip_id}.npy", allow_pickle=False)))


def table_lines(record: Record) -> list[str]:
    """One line a metric, for the terminal, and below them what a reader has to know."""
    lines = [f"protocol {record['protocol']['id']}"]
    notes = []
    for label, score in record["values"].items():
        lines.append(f"{label:<18} {_number(score)}  {score['definition']}")
        notes += [f"{label}: {note}" for note in score["notes"]]
    resized = sum("resized_from" in clip for clip in record["clips"])
    if resized:
        notes.append(f"{resized} of {len(record['clips'])} predictions were resized to the size of the reference")
    noted = [clip for clip in record["clips"] if "note" in clip]
    if noted:
        count = f"{len(noted)} of {len(record['clips'])} clips"
        notes.append(f"{count}, first '{noted[0]['clip_id']}': {noted[0].get('note')}")
    return [*lines, *notes]


def _number(score: ScoreRecord) -> str:
    if score["value"] is None:
        return f"{'not available':>14}: {score['unavailable']}"
    floor = "" if score["floor"] is None else f", truth against truth {score['floor']:.4g}"
    better = "higher is better" if score["higher_is_better"] else "lower is better"
    better = better if score.get("verdict", True) else "describes"
    value = f"{score['value']:.4f}" if score["value"] == 0 or abs(score["value"]) >= 1e-3 else f"{score['value']:.3e}"
    return f"{value:>14} {score['unit']:<3} {better}, N = {score['count']} {score['counted']}{floor}"
