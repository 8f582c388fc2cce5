"""Cameras in other systems' files by their own names, each with the size of its own pictures."""

import json
from pathlib import Path
from typing import Any

import torch

from hvg.core.axes import AskedUp
from hvg.core.errors import DataError
from hvg.core.files import read_text
from hvg.geometry.foreign_cameras import View, colmap_views, is_transforms, join_views, number_of, transforms_views
from hvg.values.cameras import Cameras

# Folders of the pictures of all cameras.
_ALL_PICTURES = frozenset({".", "..", "images", "image", "rgb"})


def named_cameras(path: Path, up: AskedUp) -> dict[str, Cameras]:
    """Camera -> (T,) of it, T = 1 where it stands still, each for pictures of its own size.

    path: a transforms.json, or the folder of a COLMAP model. A camera is called as the entry's ``camera_label``, the folder
    of its pictures where that is not ``images/`` itself, else as its picture. up: auto: z of a transforms.json; a
    COLMAP model's has to be said. Raises: DataError.
    """
    if path.is_dir():
        entries = [(_camera_name(view[0]), 0.0, view[0], view) for view in colmap_views(path)]
    else:
        frames, views = transforms_views(path, read_json(path))
        files = [str(frame.get("file_path", "")) for frame in frames]
        labels = [str(frame.get("camera_label", _camera_name(file))) for frame, file in zip(frames, files, strict=True)]
        times = [number_of(path, {"time": 0.0, **frame}, "time", f"frames[{n}]") for n, frame in enumerate(frames)]
        entries = list(zip(labels, times, files, views, strict=True))
    tracks: dict[str, list[View]] = {}
    for name, _, _, view in sorted(entries, key=lambda entry: entry[:3]):
        tracks.setdefault(name, []).append(view)
    world = "z" if up == "auto" else up
    return {name: _still(join_views(path, [track], world)[0][0]) for name, track in tracks.items()}


def read_json(path: Path) -> dict[str, Any]:
    """What a transforms.json holds. Raises: DataError."""
    try:
        tree = json.loads(read_text(path))
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: is no JSON: {' '.join(str(error).split())}") from error
    if not is_transforms(tree):
        raise DataError(f"{path}: has no frames; expected a transforms.json")
    return tree


def _camera_name(picture: str) -> str:
    """``00`` of images/00/000000.jpg, 00/000000.jpg and images/00.jpg."""
    *folders, file = Path(picture).parts or ("",)
    own = [part for part in folders if part not in _ALL_PICTURES]
    return own[-1] if own else Path(file).stem or "camera"


def _still(cameras: Cameras) -> Cameras:
    """(T,) cameras as (1,), where they are all one."""
    first = cameras[:1]
    same = torch.equal(first.world_to_camera.expand_as(cameras.world_to_camera), cameras.world_to_camera)
    return (
        first if same and torch.equal(first.intrinsics.expand_as(cameras.intrinsics), cameras.intrinsics) else cameras
    )
