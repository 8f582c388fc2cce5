"""Run folders as a training leaves them at some moment, written without one."""

import json
import math
import os
import socket
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from hvg.media.tiles import tile_columns
from hvg.media.video import write_video
from hvg.train.metric_rows import OPTIMIZER
from hvg.train.run_notes import CONFIG, FAILURE, PROGRESS, RECORD
from hvg.train.sample_files import sample_path
from hvg.train.throughput import PREFIX

STEPS = 400


def row(step: int, **more: float) -> dict[str, float]:
    """What is logged after a step, counted from 0."""
    speed = {f"{PREFIX}seconds_per_step": 0.5, f"{PREFIX}images_per_second": 32.0}
    optimizer = {f"{OPTIMIZER}learning_rate": 1e-3, f"{OPTIMIZER}gradient_norm": 1.5}
    return {"step": step, "loss": 0.1 + math.exp(-step / 100), **optimizer, **speed, **more}


def write_rows(folder: Path, steps: range) -> None:
    """Adds rows to the folder's metrics.jsonl, with the score of a validation in the last."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "metrics.jsonl").open("a") as stream:
        stream.writelines(json.dumps(row(step)) + "\n" for step in steps)
        stream.write(json.dumps({"step": steps[-1], "validation_psnr": 20.5}) + "\n")


def write_run(folder: Path, *, begun: bool = True, rows: range | None = None, clips: tuple[str, ...] = ()) -> Path:
    """A run of 400 steps. clips: that its newest validation has shown, after its last row."""
    folder.mkdir(parents=True)
    (folder / CONFIG).write_text(f"training:\n  steps: {STEPS}\n")
    if begun:
        (folder / RECORD).write_text(json.dumps({"steps": STEPS, "starts": []}))
    if rows:
        write_rows(folder, rows)
    for clip in clips:
        path = sample_path(folder, rows[-1] + 1 if rows else 1, clip)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(video())
    return folder


@lru_cache
def video() -> bytes:
    """An MP4 of two views."""
    views = torch.linspace(-1, 1, 5)[None, :, None, None, None].expand(2, -1, 3, 32, 32)
    with TemporaryDirectory() as folder:
        path = Path(folder) / "video.mp4"
        write_video(path, tile_columns({"truth": views, "generated": views / 2}), fps=4)
        return path.read_bytes()


def save_step(folder: Path, step: int) -> None:
    """A checkpoint's name."""
    (folder / "checkpoints" / f"step-{step:07d}.ckpt").mkdir(parents=True)


def set_working(folder: Path, process: int | None = None) -> None:
    """A process of this machine has the folder's lock; None: this one."""
    (folder / ".lock").write_text(f"{socket.gethostname()} {process or os.getpid()}\n")


def set_progress(folder: Path, stage: str, done: int, total: int) -> None:
    (folder / PROGRESS).write_text(json.dumps({"stage": stage, "done": done, "total": total, "note": "fast"}))


def set_failed(folder: Path, line: str) -> None:
    (folder / FAILURE).write_text(line)
