"""Camera paths of a generated video: presets by name, a JSON file that anyone can write, and other systems' files.

The file::

    {"image_size": [height, width],
     "views": [{"name": "front", "world_to_camera": 4x4, "intrinsics": 3x3}, ...]}

Conventions are those of ``hvg.values.cameras``: OpenCV axes, metres, world y up, pixels. A moving camera has a list of matrices,
one a frame, in place of one. ``name`` may be left out. ``hvg sample`` writes the cameras that it used in this form. What other
systems write is in ``hvg.geometry.foreign_cameras``.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hvg.core.axes import AskedUp
from hvg.core.errors import DataError, did_you_mean
from hvg.core.files import read_text, write_text
from hvg.core.names import name_problem
from hvg.core.random_keys import numpy_generator
from hvg.geometry.camera_matrices import read_matrices, read_rigid
from hvg.geometry.camera_moves import arced, dollied, shaken
from hvg.geometry.foreign_cameras import is_colmap, is_transforms, read_colmap, read_transforms
from hvg.media.images import MOST_PIXELS
from hvg.values.cameras import Cameras, orbit

# Preset -> how many views it has; None: as many as one likes.
PRESETS: Mapping[str, int | None] = {"orbit": None, "static": 1, "front_back": 2}


@dataclass(frozen=True, kw_only=True)
class CameraPath:
    """Named cameras (V, T); T is 1 where all of them stand still."""

    cameras: Cameras
    names: tuple[str, ...]

    @property
    def num_frames(self) -> int | None:
        """T where a camera moves, None where all stand still."""
        return self.cameras.shape[1] if self.cameras.shape[1] > 1 else None


def around(target: Tensor, views: int, **optics: Any) -> CameraPath:
    """Still cameras evenly around ``target`` (3), from the front of a person who faces +z by way of their left hand.

    optics: ``elevation_degrees``, ``distance``, ``fov_degrees`` and ``image_size`` of ``hvg.values.cameras.orbit``.
    """
    azimuths = torch.arange(views) * (360.0 / views)
    cameras = orbit(azimuths, target=target, **optics)
    return CameraPath(cameras=cameras[:, None], names=tuple(f"{azimuth:.0f} degrees" for azimuth in azimuths.tolist()))


def moved(
    still: Cameras,
    target: Tensor,
    frames: int,
    *,
    arc_degrees: float = 0.0,
    dolly: float = 0.0,
    shake_degrees: float = 0.0,
    seed: int = 0,
) -> Cameras:
    """Cameras (V, 1) that stand still -> (V, T): towards ``target`` (3), around it and by hand, each view by its own unrest."""
    cameras = still.expand(still.shape[0], frames)
    everyone = torch.ones(still.shape[0])
    cameras = dollied(cameras, dolly * everyone) if dolly else cameras
    cameras = arced(cameras, target, arc_degrees * everyone) if arc_degrees else cameras
    if not shake_degrees:
        return cameras
    shape = (frames, 6)
    draws = [numpy_generator(seed, "shake", view).standard_normal(shape).clip(-3, 3) for view in range(len(everyone))]
    return shaken(cameras, shake_degrees, torch.stack([torch.from_numpy(draw).float() for draw in draws]))


def write_cameras(path: Path, cameras: Cameras, names: Sequence[str]) -> None:
    """Writes cameras (V, T) in this module's format, a camera that stands still as one matrix; every bit is kept."""

    def matrices(x: Tensor) -> list:
        return (x[0] if bool((x == x[:1]).all()) else x).tolist()

    views = [
        {
            "name": name,
            "world_to_camera": matrices(cameras.world_to_camera[v]),
            "intrinsics": matrices(cameras.intrinsics[v]),
        }
        for v, name in enumerate(names)
    ]
    write_text(path, json.dumps({"image_size": list(cameras.image_size), "views": views}, indent=1))


def read_cameras(path: Path, up: AskedUp = "auto") -> CameraPath:
    """The cameras of a file in this module's format, of a transforms.json, or of a folder with a COLMAP model.

    up: axis of the file's world that is; auto: as its format has it.

    Raises: DataError, one line that names the file, the place in it, what was found and what was expected.
    """
    try:
        if is_colmap(path):
            return _path(*read_colmap(path, up))
        if path.is_dir():
            raise DataError(f"{path}: is a folder without a COLMAP model; expected cameras.txt and images.txt in it")
        tree = _read(path)
        if is_transforms(tree):
            return _path(*read_transforms(path, tree, up))
        if up not in ("auto", "y"):
            raise DataError(
                f"{path}: its world is y up, as hvg's own always is; camera_up={up} is for other systems' files"
            )
        return _own_cameras(path, tree)
    except RecursionError:
        raise DataError(f"{path}: is nested too deeply; expected an object with 'image_size' and 'views'") from None


def _path(cameras: Cameras, names: tuple[str, ...]) -> CameraPath:
    return CameraPath(cameras=cameras, names=names)


def _own_cameras(path: Path, tree: Mapping[str, Any]) -> CameraPath:
    _known_keys(path, "", tree, ("image_size", "views"))
    size = tree.get("image_size")
    if not (isinstance(size, list) and len(size) == 2 and all(type(side) is int and side > 0 for side in size)):
        raise DataError(f"{path}: image_size is {_shown(size)}; expected [height, width] in pixels")
    if size[0] * size[1] > MOST_PIXELS:
        raise DataError(
            f"{path}: image_size is {_shown(size)}; expected at most {MOST_PIXELS / 1e6:.0f} million pixels a picture"
        )
    views = tree.get("views")
    if not (isinstance(views, list) and views and all(isinstance(view, dict) for view in views)):
        raise DataError(f"{path}: views is {_shown(views)}; expected a list of at least one camera")
    poses, intrinsics, names = [], [], []
    for number, view in enumerate(views):
        place = f"views[{number}]"
        _known_keys(path, place, view, ("name", "world_to_camera", "intrinsics"))
        poses.append(read_rigid(path, f"{place}.world_to_camera", view.get("world_to_camera")).float())
        intrinsics.append(_intrinsics(path, f"{place}.intrinsics", view.get("intrinsics")))
        names.append(_name(path, f"{place}.name", view.get("name", f"view {number}")))
    frames = _num_frames(path, [*poses, *intrinsics])
    cameras = Cameras(
        world_to_camera=torch.stack([x.expand(frames, 4, 4) for x in poses]),
        intrinsics=torch.stack([x.expand(frames, 3, 3) for x in intrinsics]),
        image_size=(size[0], size[1]),
    )
    return CameraPath(cameras=cameras, names=tuple(names))


def _read(path: Path) -> dict[str, Any]:
    try:
        tree = json.loads(read_text(path))
    except FileNotFoundError:
        raise DataError(f"{path}: no such file of cameras") from None
    except IsADirectoryError:
        raise DataError(
            f"{path}: is a folder without a COLMAP model; expected cameras.txt and images.txt in it"
        ) from None
    except ValueError as error:
        raise DataError(f"{path}: cannot be read as JSON: {error}") from error
    if not isinstance(tree, dict):
        raise DataError(f"{path}: holds {_shown(tree)}; expected an object with 'image_size' and 'views'")
    return tree


def _name(path: Path, place: str, value: Any) -> str:
    problem = name_problem(value) if isinstance(value, str) else "is no text"
    if problem:
        raise DataError(f"{path}: {place}: {_shown(value)} {problem}")
    return value


def _known_keys(path: Path, place: str, tree: Mapping[str, Any], known: Sequence[str]) -> None:
    for key in tree:
        if key not in known:
            raise DataError(
                f"{path}: {place} has the unknown key '{key}'. {did_you_mean(key, known)}".replace(":  ", ": ")
            )


def _intrinsics(path: Path, place: str, value: Any) -> Tensor:
    matrices = read_matrices(path, place, value, 3)
    lower = torch.stack([matrices[:, 1, 0], matrices[:, 2, 0], matrices[:, 2, 1], matrices[:, 2, 2] - 1])
    if bool((lower != 0).any()) or bool((matrices[:, :2, :2].diagonal(dim1=1, dim2=2) <= 0).any()):
        raise DataError(
            f"{path}: {place} is no camera matrix; expected [[fx, 0, cx], [0, fy, cy], [0, 0, 1]] in pixels"
        )
    return matrices.float()


def _num_frames(path: Path, matrices: Sequence[Tensor]) -> int:
    counts = sorted({len(x) for x in matrices} - {1})
    if len(counts) > 1:
        raise DataError(
            f"{path}: its moving cameras have {' and '.join(map(str, counts))} frames; expected equally many"
        )
    return counts[0] if counts else 1


def _shown(value: Any) -> str:
    try:
        text = json.dumps(value)
    except ValueError:
        # Python refuses to write out whole numbers of thousands of digits.
        return "a number of thousands of digits"
    return text if len(text) <= 40 else f"{text[:40]}..."
