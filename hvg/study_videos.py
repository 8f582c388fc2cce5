"""The videos of a study's report: the photo, every control map, the truth and every arm's result, side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hvg.data import drawn_ahead, load_with_signals
from hvg.evaluation import azimuths_of, load_prediction, num_clips
from hvg.prepare import conditioner_signals, open_clips
from hvg.required import required
from hvg.results import Clip
from hvg.sample_videos import picture
from hvg.study_file import StudyFile
from hvg.study_plan import ArmRun
from hvg.types import ClipBatch
from hvg.video import tile_columns, write_video


def study_clips(study: StudyFile, runs: Sequence[ArmRun], output: Path) -> list[Clip]:
    """Every test clip; the first few with a side-by-side video of the arms that finished the first seed."""
    config, seed = runs[0].config, study.seeds[0]
    shown = [run for run in runs if run.seed == seed and run.result() is not None]
    wanted = drawn_ahead(conditioner_signals([run.config for run in shown]))
    clips = open_clips(config, "test", wanted)
    labels = map_labels({run.arm: list(drawn_ahead(conditioner_signals([run.config]))) for run in shown})
    entries = []
    for index in range(num_clips(config, clips)):
        clip = load_with_signals(clips, index, wanted if index < study.videos else {})
        video = None
        if index < study.videos:
            video = f"samples/{clip.clip_id[0]}.mp4"
            columns = _columns(study, clip, labels, shown)
            write_video(output / video, tile_columns(columns), fps=4)
        name, subject = clip.clip_id[0], clip.subject[0]
        entries.append(Clip(clip_id=name, subject=subject, azimuths=azimuths_of(clip), video=video))
    return entries


def map_labels(keys: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """Signal key -> what the report calls it, for the signal keys of every arm: the arm that alone has it, or its own name."""
    arms: dict[str, list[str]] = {}
    for arm, own in keys.items():
        for key in own:
            arms.setdefault(key, []).append(arm)
    return {key: f"{owners[0] if len(owners) == 1 else key.rpartition('-')[0]} map" for key, owners in arms.items()}


def _columns(study: StudyFile, clip: ClipBatch, labels: Mapping[str, str], shown: Sequence[ArmRun]) -> dict[str, Any]:
    """Label -> (V, T, 3, H, W): the photo, every control map once, the truth, every arm's result."""
    views = clip.grid[1]
    columns = {}
    if clip.reference is not None:
        columns["reference"] = clip.reference.frames[0, :1, None].expand(views, 1, -1, -1, -1)
    for key, label in labels.items():
        columns[label] = picture(clip.signals[key][0])
    columns["truth"] = required(clip.frames, "ClipBatch.frames")[0]
    for run in shown:
        columns[study.labels.get(run.arm, run.arm)] = load_prediction(run.folder / "predictions", clip.clip_id[0])
    return columns
