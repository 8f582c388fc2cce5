"""Scenes of what was sampled: the cameras of a folder with what they show, and the person who was asked for."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from hvg.config.request_words import RequestWords
from hvg.config.view_options import OF_MOTION, ViewOptions
from hvg.core.errors import DataError
from hvg.core.files import read_text
from hvg.core.required import required
from hvg.model.saved_run import trained_config
from hvg.sample.camera_paths import CameraPath, read_cameras
from hvg.view.pictures import video_pictures
from hvg.view.requests import asked_motion, place
from hvg.view.scene import Figure, Scene, figure, make_scene

RECORD = "sample.json"
# report(stage, done, total)
Report = Callable[[str, int, int], None]


def sample_scene(options: ViewOptions, folder: Path, report: Report) -> Scene:
    """What ``hvg sample`` or ``hvg refine`` wrote into a folder.

    options: words of a motion, and a checkpoint, count for more than what the folder says.

    Raises: DataError for a folder that is none, HvgError for words that cannot be used.
    """
    record = _record(folder / RECORD)
    path = read_cameras(folder / "cameras.json")
    frames = record["frames"]
    if path.num_frames not in (None, frames):
        raise DataError(
            f"{folder}: its cameras move for {path.num_frames} frames, its record says {frames}; expected as many"
        )
    cameras = path.cameras.expand(path.cameras.shape[0], frames)
    pictures = []
    for view in range(len(path.names)):
        report("read", view, len(path.names))
        pictures.append(video_pictures(folder / f"view-{view:02d}.mp4", frames))
    report("read", len(path.names), len(path.names))
    people, notes = _people(options, record, CameraPath(cameras=cameras, names=path.names), folder / RECORD)
    said = "frames_per_second" in options.model_fields_set
    rate = options.frames_per_second if said else record["frames_per_second"]
    return make_scene(f"sample {folder.name}", people, (cameras, path.names), pictures, rate, notes)


def _record(path: Path) -> dict[str, Any]:
    """What a sample says of itself. Raises: DataError where it says less than is needed."""
    if not path.is_file():
        raise DataError(f"{path}: there is no such file; expected a folder that `hvg sample` or `hvg refine` wrote")
    try:
        record = json.loads(read_text(path))
        known = {"options": dict, "frames": int, "frames_per_second": (int, float)}
        wrong = [key for key, kind in known.items() if not isinstance(record[key], kind)]
        if wrong or not 1 <= record["frames"] <= 10**6 or not 0.1 <= record["frames_per_second"] <= 1000:
            raise ValueError(f"says no usable {(wrong or ['frames'])[0]}")
    except (ValueError, LookupError, TypeError, RecursionError) as error:
        raise DataError(f"{path}: is no record of a sample: {error!r}") from None
    return record


def _people(
    options: ViewOptions, record: dict[str, Any], path: CameraPath, source: Path
) -> tuple[list[Figure], list[str]]:
    """The person of a sample; nobody, and why, where it cannot be known who moved how."""
    words = _words(options, record, source)
    checkpoint = options.checkpoint or _file(record.get("checkpoint"))
    for name, file in (("motion", words.motion), ("checkpoint", checkpoint)):
        if file is None:
            return [], [f"the person is not shown: the sample names no {name}"]
        if not file.exists() and name not in options.model_fields_set:
            return [], [f"the person is not shown: {file} is not there; {name}= says where it is now"]
    asked, _, notes = place(trained_config(required(checkpoint, "checkpoint")), words, asked_motion(words), path, 0)
    return [figure("person", asked.shown.body)], notes


def _words(options: ViewOptions, record: dict[str, Any], source: Path) -> RequestWords:
    """The words of the motion of a sample."""
    recorded = {key: value for key, value in record["options"].items() if key in OF_MOTION and value is not None}
    given = {key: getattr(options, key) for key in OF_MOTION if key in options.model_fields_set}
    try:
        return RequestWords.model_validate({**recorded, **given, "frames": record["frames"]})
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise DataError(f"{source}: options.{place}: {first['msg']}") from None


def _file(value: Any) -> Path | None:
    return Path(value) if isinstance(value, str) else None
