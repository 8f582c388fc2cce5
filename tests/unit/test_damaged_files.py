"""What runs leave on disk and commands read again: damaged, or no file at all, it is one line, and nothing hangs."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from footage import read_video_8bit

from hvg.config.command_options import CompareOptions
from hvg.config.composition import load_resolved
from hvg.core.checkpoint import MANIFEST, Checkpoint
from hvg.core.errors import HvgError
from hvg.core.files import read_text
from hvg.data.shard_writing import write_shard
from hvg.data.shards import ShardReader, index_path
from hvg.geometry.motion_files import load_motion
from hvg.media.images import read_image_8bit
from hvg.model.checkpoint_writing import write_checkpoint
from hvg.report.compare_runs import compare_runs
from hvg.score.evaluation_record import RECORD_FORMAT, read_record
from hvg.score.measured_clips import load_prediction
from hvg.study.arm_results import _curve
from hvg.study.study_file import load_study
from hvg.sweep.worker import MetricCourse
from hvg.testing import tiny_batch
from hvg.train.loggers import MetricsFile
from hvg.train.metric_rows import read_rows
from hvg.train.run_notes import read_run_record


def refused(action, path: Path) -> str:
    with pytest.raises(HvgError) as error:
        action()
    assert "\n" not in str(error.value).removeprefix("1 problem in the configuration:\n") and path.name in str(
        error.value
    )
    return str(error.value)


# --- pipes, from which reading would never return ---


def checkpoint(folder: Path) -> Path:
    write_checkpoint(folder / "step-0000001.ckpt", {"global_step": 1, "config": "seed: 0"})
    return folder / "step-0000001.ckpt" / MANIFEST


def shard(folder: Path) -> Path:
    write_shard(folder / "a.tar", [tiny_batch(1)])
    return index_path(folder / "a.tar")


READERS = {
    "manifest.json": (checkpoint, lambda path: Checkpoint(path.parent)),
    "a.tar.index.json": (shard, lambda path: ShardReader(path.parent / "a.tar")),
    "config.yaml": (None, load_resolved),
    "results.json": (None, read_record),
    "metrics.jsonl": (None, read_rows),
    "run.json": (None, lambda path: read_run_record(path.parent)),
    "study.yaml": (None, lambda path: load_study(path.parent)),
    "clip.npy": (None, lambda path: load_prediction(path.parent, "clip")),
    "photo.png": (None, read_image_8bit),
    "video.mp4": (None, read_video_8bit),
    "motion.npz": (None, load_motion),
}


@pytest.mark.parametrize("name", READERS)
def test_only_regular_files_are_opened(tmp_path, name):
    make, read = READERS[name]
    path = make(tmp_path) if make else tmp_path / name
    path.unlink(missing_ok=True)
    os.mkfifo(path)
    refused(lambda: read(path), path)


def test_text_that_is_none(tmp_path):
    (tmp_path / "a").write_bytes(b"\xff")
    assert "no UTF-8 text" in refused(lambda: read_text(tmp_path / "a"), tmp_path / "a")
    with pytest.raises(FileNotFoundError):
        read_text(tmp_path / "b")


# --- what a run logged ---


@pytest.mark.parametrize(
    "line", ["{", "[]", "{}", '{"loss": 1.0}', '{"step": "1"}', '{"step": 1, "loss": "low"}', "[" * 100_000, "\xff"]
)
def test_damaged_rows_are_named_wherever_they_are_read(tmp_path, line):
    path = tmp_path / "metrics.jsonl"
    path.write_text(f'{{"step": 0, "loss": 1.5}}\n{line}\n', encoding="latin-1")
    course = MetricCourse(path, "loss")
    for read in (lambda: _curve(path), lambda: list(course.new()), lambda: MetricsFile(path, first_step=5)):
        assert "delete that line" in refused(read, path)


def test_half_a_row_at_the_end_is_what_a_killed_run_leaves(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 0, "loss": NaN}\n{"step": 1, "lo')
    assert [row["step"] for row in _curve(path)] == [0]
    assert read_rows(tmp_path / "none.jsonl") == []


@pytest.mark.parametrize("text", ["{", "[]", '{"starts": 5}', "[" * 100_000])
def test_a_damaged_record_of_a_run(tmp_path, text):
    (tmp_path / "run.json").write_text(text)
    assert "delete it" in refused(lambda: read_run_record(tmp_path), tmp_path / "run.json")


# --- predictions ---


@pytest.mark.parametrize("kind", ["missing", "empty", "garbage", "truncated", "another shape", "another type"])
def test_damaged_predictions_are_named(tmp_path, kind):
    path, frames = tmp_path / "clip.npy", np.zeros((1, 2, 3, 4, 4), np.uint8)
    if kind == "another shape":
        frames = frames[0]
    if kind == "another type":
        frames = frames.astype(np.float32)
    np.save(path, frames)
    if kind == "missing":
        path.unlink()
    elif kind in ("empty", "garbage"):
        path.write_bytes(b"\x93NUMPY" * (kind == "garbage"))
    elif kind == "truncated":
        path.write_bytes(path.read_bytes()[:-1])
    refused(lambda: load_prediction(tmp_path, "clip"), path)


# --- results.json ---


def record(quality: float) -> dict:
    clips = [{"clip_id": f"p{i}_c", "subject": f"p{i}", "azimuths": None, "truth": "0011"} for i in range(3)]
    score = {
        "value": 20.0 + quality,
        "definition": "psnr/v2",
        "higher_is_better": True,
        "unit": "dB",
        "networks": {"vgg16": "sha256:1"},
        "unavailable": None,
        "count": 3,
        "counted": "frames",
        "floor": None,
        "notes": ["a note"],
        "per_clip": {clip["clip_id"]: 20.0 + quality + i for i, clip in enumerate(clips)},
        "over_time": [20.0, None],
        "over_angle": [[0.0, 20.0]],
    }
    return {
        "format": RECORD_FORMAT,
        "scored": "it",
        "protocol": {"id": "mine/v1", "settings": {"metrics": {"psnr": {"name": "psnr"}}}},
        "seeds": {"training": 0, "sampling": 0},
        "clips": clips,
        "values": {"psnr": score},
        "provenance": {},
        "precision": None,
    }


def places(tree, place=()):
    """Where the values of a tree are."""
    for key, value in tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ():
        yield (*place, key)
        yield from places(value, (*place, key))


def test_whatever_is_wrong_in_a_record_is_one_line(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    (tmp_path / "a/results.json").write_text(json.dumps(record(0.0)))
    path, words, refusals = tmp_path / "b/results.json", [str(tmp_path / "a"), str(tmp_path / "b")], []
    for *parents, last in places(record(1.0)):
        # Of a list the first is like the others.
        for wrong in () if 1 in (*parents, last) or 2 in (*parents, last) else (None, "x", [[]], ...):
            changed = record(1.0)
            inside = changed
            for key in parents:
                inside = inside[key]
            if wrong is ...:
                del inside[last]
            else:
                inside[last] = wrong
            path.write_text(json.dumps(changed))
            try:
                compare_runs(words, CompareOptions())
            except HvgError as error:
                assert "\n" not in str(error) and str(tmp_path / "b") in str(error)
                refusals.append(str(error))
    assert any("clip 'p0_c' is not finite" in refusal for refusal in refusals)
    assert len(refusals) > 60 and any("values.psnr.per_clip" in refusal for refusal in refusals)
