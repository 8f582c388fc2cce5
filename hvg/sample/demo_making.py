"""``hvg demo make=FOLDER checkpoint=RUN``: what ``hvg demo`` brings, of a finished run and people of its test split."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from hvg.config.build import build_dataset
from hvg.config.command_options import ExportOptions
from hvg.config.composition import recompose
from hvg.config.demo_options import DemoFilesOptions
from hvg.config.settings import RunConfig
from hvg.core import outputs, provenance
from hvg.core.checkpoint import find_checkpoint
from hvg.core.errors import HvgError
from hvg.core.files import read_text, whole_folder, write_text
from hvg.core.required import required
from hvg.geometry.own_body import write_own_body
from hvg.media.images import write_png
from hvg.sample.demo import MODEL, MOTION, PEOPLE, PHOTO, RECORD
from hvg.sample.diffusers_pipeline import PIPELINE
from hvg.sample.export import export
from hvg.values.clip import ClipBatch

# Side of the photos, pixels: larger than what a small model sees of them, as a user's are.
PHOTO_SIDE = 256
# Settings of a data set by which its people are drawn as they are wanted here.
DRAWN_BY = ("views", "frames", "image_size", "frames_per_second")
# Of the record of a run and of what made the files, what holds on every machine.
RECORDED = ("hvg", "python", "packages", "commit", "source", "hardware", "seed", "precision")


def make_demo_files(options: DemoFilesOptions, overrides: Sequence[str]) -> Iterator[str]:
    """Writes the folder, whole or not at all; yields lines for the user.

    overrides: of how the model samples where nothing else is said, as of ``hvg.config.composition.recompose``. Raises: HvgError
    where the folder is there already, and for a run whose data set does not draw people as they are wanted.
    """
    outputs.try_folder(options.make, "make")
    if options.make.exists():
        raise HvgError(f"make={options.make}: exists already; give the name of a new folder")
    checkpoint, configs = find_checkpoint(options.checkpoint), list[RunConfig]()

    def change(config: RunConfig) -> RunConfig:
        _check(options, config)
        configs.append(recompose(config, overrides))
        return configs[-1]

    with whole_folder(options.make) as partial:
        words: dict[str, Any] = {"checkpoint": checkpoint, "out": partial / MODEL, "dtype": "float16"}
        model = ExportOptions(**words)
        list(export(model, change))
        # Code in the middle of the package; whoever opens the folder here knows its class.
        (partial / MODEL / PIPELINE).unlink()
        clips = _people(options, configs[0])
        for number, clip in enumerate(clips):
            _write_person(partial / PEOPLE / f"{number:02d}", clip, configs[0])
        record = {
            "run": configs[0].name,
            "trained": _recorded(_run_record(checkpoint)),
            "made": _recorded(provenance.collect()),
            "weights": configs[0].evaluation.weights,
            "dtype": model.dtype,
            "overrides": list(overrides),
            "clips": [clip.clip_id[0] for clip in clips],
            "frames": options.frames,
        }
        write_text(partial / RECORD, json.dumps(record, indent=2) + "\n")
    size = sum(path.stat().st_size for path in options.make.rglob("*") if path.is_file()) / 1e6
    yield f"wrote a model and {len(clips)} person(s), {size:.1f} MB, to {options.make}"


def _check(options: DemoFilesOptions, config: RunConfig) -> None:
    """Raises: HvgError for a data set that is not asked for people in these words, and for a person whom it has not."""
    name, fields = config.dataset.name, type(config.dataset.config).model_fields
    if missing := [key for key in DRAWN_BY if key not in fields]:
        raise HvgError(
            f"{options.checkpoint}: dataset={name} has no {missing[0]}; make= draws people as dataset=synthetic does"
        )
    there = len(build_dataset(config, "test"))
    if max(options.subjects) >= there:
        raise HvgError(
            f"subjects={list(options.subjects)}: the test split has {there} clips; give numbers from 0 to {there - 1}"
        )


def _people(options: DemoFilesOptions, config: RunConfig) -> list[ClipBatch]:
    """A clip (B = V = 1) of each person, with a large photo."""
    told = {"views": 1, "frames": options.frames, "image_size": PHOTO_SIDE}
    settings = config.dataset.config.model_copy(update=told)
    dataset = build_dataset(config.model_copy(update={"dataset": replace(config.dataset, config=settings)}), "test")
    return [dataset.load(index) for index in options.subjects]


def _write_person(folder: Path, clip: ClipBatch, config: RunConfig) -> None:
    """The photo, cut out, and how its person moves in the clip."""
    reference = required(clip.reference, "ClipBatch.reference")
    frames, alpha = reference.frames[0, 0], required(reference.alpha, "Reference.alpha")[0, 0]
    behind = 2 * torch.tensor(config.data.background)[:, None, None] - 1
    # Colours without what is behind them, which whoever opens the photo chooses.
    colours = torch.where(alpha > 0, (frames - (1 - alpha) * behind) / alpha.clamp_min(1 / 255), behind)
    write_png(folder / PHOTO, colours, alpha)
    write_own_body(folder / MOTION, required(clip.body, "ClipBatch.body"), config.dataset.config.frames_per_second)


def _run_record(checkpoint: Path) -> dict[str, Any]:
    """The record of the run that a checkpoint lies in; empty where there is none."""
    path = checkpoint.parent.parent / "run.json"
    if not path.is_file():
        return {}
    found = json.loads(read_text(path))
    return found if isinstance(found, dict) else {}


def _recorded(record: dict[str, Any]) -> dict[str, Any]:
    return {key: record[key] for key in RECORDED if record.get(key) is not None}
