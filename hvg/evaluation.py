"""Scoring a trained system on clips that it never saw."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field, PositiveInt
from torch import Tensor

from hvg import provenance
from hvg.build import build_metrics
from hvg.checkpoint import find_checkpoint, is_exported
from hvg.config import RunConfig, recompose
from hvg.data import load_with_signals
from hvg.eight_bit import frames_from_uint8, frames_to_uint8
from hvg.files import write_text
from hvg.prepare import open_clips
from hvg.protocols import Dataset, Metric, MetricResult
from hvg.system import HumanVideoSystem
from hvg.training import load_system
from hvg.types import ClipBatch


class EvaluateOptions(BaseModel):
    """What ``hvg evaluate`` takes."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    checkpoint: Path = Field(description="Checkpoint to score, or a run folder for its newest one.")
    split: Literal["train", "val", "test"] = Field("test", description="Which people.")
    weights: Literal["ema", "raw"] | None = Field(None, description="Averaged or raw weights; null as configured.")
    steps: PositiveInt | None = Field(None, description="Solver steps; null as configured.")
    clips: PositiveInt | None = Field(None, description="Clips to score; null as configured.")
    out: Path | None = Field(None, description="Folder for results.json and predictions; null: beside the run.")


def evaluate_checkpoint(
    options: EvaluateOptions, overrides: Sequence[str], report: Callable[[int, int], None]
) -> tuple[Sequence[str], Path]:
    """Scores a checkpoint; returns the table's lines and where results.json lies.

    overrides: of how it is sampled, as of ``hvg.config.recompose``.
    """
    checkpoint = find_checkpoint(options.checkpoint)
    system, config = load_system(checkpoint, options.weights, lambda config: recompose(config, overrides))
    changes = {key: value for key in ("steps", "clips") if (value := getattr(options, key)) is not None}
    config = config.model_copy(update={"evaluation": config.evaluation.model_copy(update=changes)})
    run = checkpoint.parent if is_exported(checkpoint) else checkpoint.parent.parent
    out = options.out or run / f"evaluation-{options.split}-{checkpoint.stem}"
    results = evaluate(system, config, split=options.split, predictions=out / "predictions", report=report)
    record = {"provenance": provenance.collect(config.evaluation.seed), "values": as_json(results)}
    write_text(out / "results.json", json.dumps(record, indent=2))
    return table_lines(results), out / "results.json"


def batches(clips: Dataset, count: int, size: int, load: Callable[[int], ClipBatch]) -> Iterator[ClipBatch]:
    """The first ``count`` clips in order, ``size`` at a time."""
    for start in range(0, count, size):
        yield ClipBatch.stack([load(i) for i in range(start, min(start + size, count))])


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
) -> dict[str, MetricResult]:
    """Metric name -> result. The noise is keyed by (evaluation.seed, clip), so it is the same for all models.

    predictions: folder that takes every clip as ``<clip>.npy``, (V, T, 3, H, W) uint8. The scores are those of the 8-bit
    frames, as a file would hold them. ``report(clips done, clips in all)``.
    """
    clips = open_clips(config, split, system.signals)
    count, metrics = num_clips(config, clips), build_metrics(config)
    done = 0
    for batch in batches(
        clips, count, config.data.eval_batch_size, lambda i: load_with_signals(clips, i, system.signals)
    ):
        batch = batch.to(system.device)
        generated = system.generate(
            batch,
            num_steps=config.evaluation.steps,
            seed=config.evaluation.seed,
            windows_per_call=config.evaluation.windows_per_call,
        )
        frames = frames_to_uint8(generated)
        if predictions is not None:
            save_predictions(predictions, batch, frames)
        score(metrics, frames_from_uint8(frames), batch)
        done += len(batch.clip_id)
        report(done, count)
    return {name: metric.compute() for name, metric in metrics.items()}


def score(metrics: Mapping[str, Metric], frames: Tensor, batch: ClipBatch) -> None:
    """Adds a batch to every metric."""
    for metric in metrics.values():
        metric.update(frames, batch)


def save_predictions(folder: Path, batch: ClipBatch, frames: Tensor) -> None:
    """Writes every clip's frames, uint8, as ``<clip>.npy``."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, clip in zip(batch.clip_id, frames.cpu().numpy(), strict=True):
        np.save(folder / f"{name}.npy", clip, allow_pickle=False)


def load_prediction(folder: Path, clip_id: str) -> Tensor:
    """(V, T, 3, H, W) in [-1, 1]."""
    return frames_from_uint8(torch.from_numpy(np.load(folder / f"{clip_id}.npy", allow_pickle=False)))


def as_json(results: Mapping[str, MetricResult]) -> dict[str, Any]:
    """Results as plain data."""
    return {name: {**asdict(result), "per_clip": dict(result.per_clip)} for name, result in results.items()}


def table_lines(results: Mapping[str, MetricResult]) -> Sequence[str]:
    """One line a metric, for the terminal."""
    return [
        f"{name:<18} {result.value:10.4f}  {'higher' if result.higher_is_better else 'lower'} is better"
        f"  {result.protocol}  N={result.count}"
        for name, result in results.items()
    ]
