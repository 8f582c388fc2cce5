"""A study's results with everything that a report can show, made up without training anything."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from hvg.media.tiles import tile_columns
from hvg.media.video import write_video
from hvg.report.results import Results

CLIPS = [f"clip{i}" for i in range(8)]
VIEWS, FRAMES = 4, 6
DEFINITIONS = {
    "psnr": "psnr/float/mean-over-frames/v2",
    "l1": "l1/disco/mean-over-frames/v2",
    "fid": "fid/inception/v1",
}


def score(label: str, values: dict[str, float], **changes) -> Any:
    """A ScoreRecord of values per clip."""
    return {
        "value": sum(values.values()) / len(values) if values else None,
        "definition": DEFINITIONS.get(label, label),
        "higher_is_better": label == "psnr",
        "unit": "dB" if label == "psnr" else "",
        "networks": {},
        "unavailable": None,
        "count": len(values) * VIEWS * FRAMES,
        "counted": "frames",
        "floor": None,
        "notes": [],
        "per_clip": values,
        "over_time": [],
        "over_angle": [],
    } | changes


def arm(name: str, level: float, *, kind: str = "arm", seeds: Sequence[int] = (0, 1)) -> Any:
    """An arm whose every PSNR is ``level`` plus what the clip and the seed share, plus a little of its own."""

    def seed_result(seed: int) -> Any:
        psnr = {c: level + i + 0.01 * seed + 0.001 * ((i * len(name) + seed) % 5) for i, c in enumerate(CLIPS)}
        curves = {
            "over_time": [level - 0.3 * t + 0.1 * seed for t in range(FRAMES - 1)] + [None],
            "over_angle": [[90.0 * i, level - i] for i in range(3)],
        }
        values = {
            "fid": score(
                "fid",
                {},
                value=100 - level,
                count=48,
                floor=12.5,
                networks={"inception": "sha256:ab12"},
                notes=["48 frames are few for 2048 dimensions"],
            ),
            "psnr": score("psnr", psnr, **curves),
            "l1": score("l1", {clip: 1e-4 / value for clip, value in psnr.items()}),
            "fvd": score("fvd", {}, unavailable="needs i3d_pretrained_400.pt; see `hvg weights`", count=0),
        }
        curve = [{"step": step, "loss": 1 / (1 + step) + level / 100, "epoch": 0} for step in range(40)]
        curve[20]["validation_psnr"] = curve[39]["validation_psnr"] = 12.0
        return {"seed": seed, "values": values} | ({"curve": curve} if kind == "arm" else {})

    return {
        "name": name,
        "label": f"the {name} <arm>",
        "overrides": [f"pose={name}"] if kind == "arm" else [],
        "kind": kind,
        "status": "done",
        "error": None,
        "seeds": [seed_result(seed) for seed in seeds],
    }


def study_results() -> Results:
    """Three arms, a failed one and a baseline, scored with HVG's protocol; no video."""
    failed: Any = arm("nerf", 1.0) | {"status": "failed", "seeds": [], "error": "DataError: no <nerf> was trained"}
    better = {"psnr": True}
    return {
        "title": "Which signal?",
        "question": "Does it matter & how much?",
        "study": "conditioning",
        "varies": ["pose"],
        "command": "hvg study experiments/conditioning",
        "caveats": ["small images"],
        "protocol": {"id": "hvg/v1", "settings": {"name": "hvg", "version": 1}},
        "metrics": [
            {
                "name": name,
                "label": label,
                "higher_is_better": better.get(name, False),
                "unit": "dB" if name == "psnr" else "",
                "definition": DEFINITIONS.get(name, name),
                "unavailable": None,
            }
            for name, label in (("fid", "FID"), ("psnr", "PSNR"), ("l1", "L1"), ("fvd", "FVD"))
        ],
        "arms": [
            arm("none", 10.0),
            arm("skeleton", 12.0),
            arm("bone", 13.0),
            failed,
            arm("copy", 9.0, kind="baseline", seeds=(0,)),
        ],
        "clips": [
            {"clip_id": clip, "subject": f"person-{clip}", "azimuths": [0.0, 90.0, 180.0, -90.0], "video": None}
            for clip in CLIPS
        ],
        "provenance": {"commit": "abc123", "versions": {"torch": "2.13.0"}, "seeds": [0, 1]},
    }


def add_videos(results: Results, folder: Path, count: int, *, frames: int = 16, fps: float = 8) -> None:
    """Writes videos of moving squares for the first clips; the last is a third shorter than the others."""
    for index, clip in enumerate(results["clips"][:count]):
        length = frames - (frames // 3 if index == count - 1 else 0)
        grid = torch.ones(2, length, 3, 32, 32)
        for time in range(length):
            grid[:, time, index % 3, 8:24, time : time + 12] = -1
        clip["video"] = f"samples/{clip['clip_id']}.mp4"
        columns = {"truth": grid} | {arm["name"]: grid * 0.8 for arm in results["arms"] if arm["kind"] == "arm"}
        write_video(folder / clip["video"], tile_columns(columns), fps=fps)
