"""Folders of EasyMocap's JSON, a file for each frame: parameters of bodies, or positions of joints.

A frame is a list of persons, or a dictionary with that list under ``annots``. A person has an ``id``, and either ``Rh`` (1, 3),
``Th`` (1, 3), ``poses``, ``shapes`` and ``expression``, or ``keypoints3d``, J rows of x, y, z and a confidence, metres, the first
25 in the order of OpenPose's BODY_25. Source: github.com/zju3dv/EasyMocap, doc/02_output.md; OpenPose's doc/02_output.md.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np

from hvg.core.errors import DataError
from hvg.geometry.keypoint_sets import BODY25, COCO

# Bytes of all frames together. A person of a frame takes some 2,000.
LARGEST = 2**30
_PARAMETERS = ("Rh", "Th", "poses", "shapes", "expression", "handl", "handr", "scale")
_EXPECTED = "EasyMocap's: a list of persons, each with 'poses' and 'Rh' and 'Th', or with 'keypoints3d'"


def json_files(path: Path) -> list[Path]:
    """The frames of a folder in their order, or the file itself; none where it is neither."""
    if path.suffix == ".json" and path.is_file():
        return [path]
    return sorted(path.glob("*.json"), key=lambda each: (len(each.stem), each.stem)) if path.is_dir() else []


def read_frames(path: Path, person: int | None) -> tuple[dict[str, np.ndarray], tuple[str, ...]]:
    """Arrays by the keys of ``hvg.geometry.motion_files``, and notes for the user.

    person: an id; None where there is only one. Raises: DataError.
    """
    files = json_files(path)
    if not files:
        raise DataError(f"{path}: holds no frames; expected files as 000000.json in it")
    size = sum(file.stat().st_size for file in files)
    if size > LARGEST:
        raise DataError(f"{path}: its frames have {size} bytes; at most {LARGEST} are read")
    frames = [_persons(file) for file in files]
    ids = sorted(set().union(*frames))
    if not ids:
        raise DataError(f"{path}: nobody is in its {len(files)} frames; expected {_EXPECTED}")
    if person not in ids and (person is not None or len(ids) > 1):
        asked = "several" if person is None else f"person={person} is not there"
        raise DataError(f"{path}: holds the persons {', '.join(map(str, ids))}, {asked}; say which with person=")
    person = ids[0] if person is None else person
    there = [(file, frame[person]) for file, frame in zip(files, frames, strict=True) if person in frame]
    absent = len(files) - len(there)
    note = f"person {person} is in {len(there)} of the {len(files)} frames in {path}; the others were left out"
    arrays = _stacked(there, _PARAMETERS if "poses" in there[0][1] else ("keypoints3d",))
    if "poses" in arrays and not {"Rh", "Th"} & set(arrays):
        raise DataError(f"{there[0][0]}: has neither 'Rh' nor 'Th' beside 'poses'; expected {_EXPECTED}")
    if "keypoints3d" in arrays:
        arrays = _joints(path, arrays["keypoints3d"])
    return arrays, (note,) if absent else ()


def _persons(file: Path) -> dict[int, dict[str, Any]]:
    """Id -> what the frame says of that person."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, OSError, RecursionError) as error:
        raise DataError(f"{file}: damaged or no JSON ({' '.join(str(error).split())[:100]})") from error
    persons = content.get("annots", [content]) if isinstance(content, dict) else content
    if not isinstance(persons, list) or not all(
        isinstance(each, dict) and ("poses" in each or "keypoints3d" in each) for each in persons
    ):
        raise DataError(f"{file}: holds other JSON; expected {_EXPECTED}")
    ids = [each.get("id", k) for k, each in enumerate(persons)]
    if not all(type(each) is int for each in ids) or len(set(ids)) != len(ids):
        raise DataError(f"{file}: the ids of its persons are {str(ids)[:100]}; expected different numbers")
    return dict(zip(ids, persons, strict=True))


def _stacked(frames: list[tuple[Path, dict[str, Any]]], keys: tuple[str, ...]) -> dict[str, np.ndarray]:
    """Key -> (T, ...) of what the first frame has."""
    arrays = {}
    for key in keys:
        if key not in frames[0][1]:
            continue
        values = [_numbers(file, frame, key) for file, frame in frames]
        other = next((k for k, value in enumerate(values) if value.shape != values[0].shape), None)
        if other is not None:
            raise DataError(
                f"{frames[other][0]}: '{key}' has shape {values[other].shape}; in {frames[0][0].name} it has {values[0].shape}"
            )
        arrays[key] = np.stack(values)
    return arrays


def _numbers(file: Path, frame: dict[str, Any], key: str) -> np.ndarray:
    """An array of one frame, without the axis of length 1 that EasyMocap puts first."""
    try:
        array = np.asarray(frame[key], dtype=np.float64)
    except KeyError:
        raise DataError(f"{file}: lacks '{key}', which other frames have") from None
    except (ValueError, TypeError, OverflowError):
        raise DataError(f"{file}: '{key}' holds other than numbers; expected {_EXPECTED}") from None
    return array if key == "keypoints3d" else array.reshape(-1)


def _joints(path: Path, points: np.ndarray) -> dict[str, np.ndarray]:
    """Joints of points (T, J, 3 or 4). Where one has no confidence it is put between its nearest frames, or left out."""
    if points.ndim != 3 or points.shape[1] not in (17, *range(25, 1000)) or points.shape[2] not in (3, 4):
        raise DataError(
            f"{path}: 'keypoints3d' has shape {points.shape[1:]} in a frame; expected 17 (COCO) or 25 and more "
            "(BODY_25) joints of 3 or 4 numbers"
        )
    names = np.array(BODY25 if points.shape[1] >= 25 else COCO)
    points = points[:, : len(names)]
    seen = points[..., 3] > 0 if points.shape[2] == 4 else np.ones(points.shape[:2], bool)
    places, times = points[..., :3].copy(), np.arange(len(points))
    for joint in np.flatnonzero(seen.any(0)):
        known = seen[:, joint]
        for axis in range(3):
            places[:, joint, axis] = np.interp(times, times[known], places[known, joint, axis])
    return {"joints": places[:, seen.any(0)], "joint_names": names[seen.any(0)]}
