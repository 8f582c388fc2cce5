"""Motions that estimators have written as pickles, as arrays by the keys of ``hvg.geometry.motion_files``.

- GVHMR (github.com/zju3dv/GVHMR, tools/demo/demo.py), ``hmr4d_results.pt``: ``smpl_params_global`` and ``smpl_params_incam``, of
  SMPL-X: global_orient (T, 3), body_pose (T, 63), betas (T, 10), transl (T, 3).
- WHAM (github.com/yohanshin/WHAM, demo.py), ``wham_output.pkl``: person -> ``pose_world`` (T, 72), ``trans_world`` (T, 3) and
  ``betas`` (T, 10), of SMPL; and ``pose`` and ``trans`` in the camera's axes.
- 4D-Humans (github.com/brjathu/PHALP, phalp/trackers/PHALP.py), ``demo_*.pkl``: frame -> ``tid`` and ``smpl``, lists with an
  entry for each person: a number, and SMPL's global_orient (1, 3, 3), body_pose (23, 3, 3) and betas (10). Only in the camera's
  axes; the place before it, for which a focal length was made up, is left out.
- any dictionary of arrays that have such names already.

Worlds are y up; a camera's axes are OpenCV's, y down.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np

from hvg.core.errors import DataError
from hvg.geometry.motion_arrays import EXPECTED, KEYS, SOURCES
from hvg.geometry.pickled_files import read_pickled

Axes = Literal["world", "camera"]
_SMPL = ("global_orient", "body_pose", "betas")
_WHAM = {"world": ("pose_world", "trans_world"), "camera": ("pose", "trans")}


def read_estimate(path: Path, person: int | None, axes: Axes) -> tuple[dict[str, np.ndarray], list[str]]:
    """The arrays, and notes for the user. person: of several, by number; None where there is only one.

    axes: of the world, or the camera's. Raises: DataError, one line that names the file, what was found and what was expected.
    """
    content = read_pickled(path)
    if not isinstance(content, dict) or not content:
        raise DataError(
            f"{path}: holds no entries by name; expected a motion of GVHMR, 4D-Humans or WHAM, or {EXPECTED}"
        )
    first = next(iter(content.values()))
    try:
        if "smpl_params_global" in content:
            return _gvhmr(content, axes), []
        if isinstance(first, dict) and "smpl" in first:
            return _phalp(path, content, person)
        if isinstance(first, dict) and {"pose", "pose_world"} & set(first):
            return _wham(path, content, person, axes)
        arrays = {str(key): np.asarray(value) for key, value in content.items() if key in KEYS | {"gender"}}
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise DataError(f"{path}: is not as its program writes it ({' '.join(repr(error).split())[:160]})") from error
    if not any(keys <= set(arrays) for keys in SOURCES):
        found = ", ".join(map(str, content))[:200]
        raise DataError(f"{path}: found the keys {found}; expected a motion of GVHMR, 4D-Humans or WHAM, or {EXPECTED}")
    return {key: array for key, array in arrays.items() if not array.dtype.hasobject}, []


def _gvhmr(content: Mapping[str, Any], axes: Axes) -> dict[str, np.ndarray]:
    given = content["smpl_params_global" if axes == "world" else "smpl_params_incam"]
    return {key: _numbers(given[key]) for key in (*_SMPL, "transl")} | _up(axes)


def _wham(
    path: Path, content: Mapping[Any, Any], person: int | None, axes: Axes
) -> tuple[dict[str, np.ndarray], list[str]]:
    given = content[_chosen(path, content, person)]
    pose, place = (_numbers(given[key]) for key in _WHAM[axes])
    poses = {"global_orient": pose[:, :3], "body_pose": pose[:, 3:]}
    numbers = given.get("frame_ids")
    gaps = numbers is not None and len(numbers) > 1 and bool((np.diff(_numbers(numbers)) != 1).any())
    notes = ["frames are missing between those that it holds; they follow one another here"] if gaps else []
    return {**poses, "transl": place, "betas": _numbers(given["betas"])} | _up(axes), notes


def _phalp(path: Path, content: Mapping[Any, Any], person: int | None) -> tuple[dict[str, np.ndarray], list[str]]:
    frames = [content[key] for key in sorted(content, key=lambda key: (content[key].get("time", 0), str(key)))]
    everybody = {int(each) for frame in frames for each in frame["tid"]}
    chosen = _chosen(path, dict.fromkeys(sorted(everybody)), person)
    numbers = [[int(each) for each in frame["tid"]] for frame in frames]
    bodies = [frame["smpl"][seen.index(chosen)] for frame, seen in zip(frames, numbers, strict=True) if chosen in seen]
    arrays = {key: np.stack([_numbers(body[key]) for body in bodies]) for key in _SMPL}
    notes = ["4D-Humans knows no world: the person stays where they are, turned as the camera saw them"]
    if len(bodies) < len(frames):
        notes.append(f"person {chosen} is in {len(bodies)} of {len(frames)} frames; they follow one another here")
    return arrays | _up("camera"), notes


def _chosen(path: Path, persons: Mapping[Any, Any], person: int | None) -> Any:
    """The key of a person. Raises: DataError where it is not there, or nobody says which of several."""
    if person is None and len(persons) == 1:
        return next(iter(persons))
    found = next((key for key in persons if person is not None and key == person), None)
    if found is None:
        asked = "several" if person is None else f"person={person} is not there"
        raise DataError(f"{path}: holds the persons {', '.join(map(str, persons))}, {asked}; say which with person=")
    return found


def _up(axes: Axes) -> dict[str, np.ndarray]:
    return {"up": np.array("y" if axes == "world" else "-y")}


def _numbers(value: Any) -> np.ndarray:
    """Raises: TypeError for what is no array of numbers."""
    array = np.asarray(value)
    if array.dtype.kind not in "iuf":
        raise TypeError(f"{array.dtype} where numbers belong")
    return array
