"""Cameras in other systems' files: ``transforms.json`` (nerfstudio, Instant NGP, Blender's of NeRF), COLMAP's text models.

- transforms.json: ``frames``, each with a ``transform_matrix``, camera to world with OpenGL axes (x right, y up, z back) in a
  world with z up. ``fl_x`` and ``fl_y`` in pixels or ``camera_angle_x`` in radians, ``cx``, ``cy``, ``w``, ``h``, for all
  frames or in each. Where frames have a ``time``, those whose pictures share a folder are one moving camera; else each is
  one that stands still.
- COLMAP: a folder with ``cameras.txt`` and ``images.txt``, world to camera with OpenCV axes. Its world has no up of its own.

In both a pixel's centre is at +0.5, as here. Lenses that bend are refused: undistort the pictures first.
Sources: docs.nerf.studio (data conventions), colmap.github.io (output format).
"""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hvg.core.axes import AskedUp
from hvg.core.errors import DataError
from hvg.core.files import read_text, write_text
from hvg.core.names import name_problem
from hvg.geometry.camera_matrices import ROTATION_TOLERANCE, read_rigid
from hvg.geometry.motion import TO_Y_UP, Z_UP_TO_Y_UP
from hvg.geometry.rotations import of_quaternion
from hvg.media.images import MOST_PIXELS, picture_size
from hvg.values.cameras import Cameras

# OpenGL's camera axes <-> OpenCV's.
_FLIP = torch.diag(torch.tensor([1.0, -1.0, -1.0, 1.0], dtype=torch.float64))
# COLMAP's models -> names of their numbers. Those after the principal point bend.
_MODELS: Mapping[str, tuple[str, ...]] = {
    "SIMPLE_PINHOLE": ("f", "cx", "cy"),
    "PINHOLE": ("fx", "fy", "cx", "cy"),
    "SIMPLE_RADIAL": ("f", "cx", "cy", "k1"),
    "RADIAL": ("f", "cx", "cy", "k1", "k2"),
    "OPENCV": ("fx", "fy", "cx", "cy", "k1", "k2", "p1", "p2"),
}
_BENDS = ("k1", "k2", "k3", "k4", "p1", "p2")
_STRAIGHT = ("PINHOLE", "SIMPLE_PINHOLE", "OPENCV", "SIMPLE_RADIAL", "RADIAL")

# Of a COLMAP model, what is read.
COLMAP_FILES = ("cameras.txt", "images.txt")
# Name, world to camera (4, 4), intrinsics (3, 3), size (height, width).
View = tuple[str, Tensor, Tensor, tuple[int, int]]


def is_transforms(tree: object) -> bool:
    """Whether what a JSON file holds looks like a transforms.json."""
    return isinstance(tree, dict) and "frames" in tree


def is_colmap(path: Path) -> bool:
    """Whether a folder looks like a COLMAP model, in text or binary."""
    files = [path / name for name in COLMAP_FILES]
    return any(file.exists() or file.with_suffix(".bin").exists() for file in files)


def read_transforms(path: Path, tree: Mapping[str, Any], up: AskedUp = "auto") -> tuple[Cameras, tuple[str, ...]]:
    """Cameras (V, T) of a transforms.json, and their names. up: of its world; auto: z.

    Raises: DataError, one line that names the file, the frame, what was found and what was expected.
    """
    frames, views = transforms_views(path, tree)
    world = "z" if up == "auto" else up
    timed = ["time" in frame for frame in frames]
    if not any(timed):
        return join_views(path, [[view] for view in views], world)
    if not all(timed):
        raise DataError(
            f"{path}: {timed.count(False)} of {len(timed)} frames have no time; expected one for all, or for none"
        )
    times = [number_of(path, frame, "time", f"frames[{number}]") for number, frame in enumerate(frames)]
    order = sorted(range(len(views)), key=lambda n: (_folder(frames[n]), times[n]))
    tracks = [
        [(Path(folder).name or "camera", *views[n][1:]) for n in group]
        for folder, group in groupby(order, key=lambda n: _folder(frames[n]))
    ]
    counts = sorted({len(track) for track in tracks})
    if len(counts) > 1:
        raise DataError(f"{path}: its cameras have {' and '.join(map(str, counts))} frames; expected equally many")
    return join_views(path, tracks, world)


def transforms_views(path: Path, tree: Mapping[str, Any]) -> tuple[list[dict[str, Any]], list[View]]:
    """The entries of a transforms.json, and the camera of each."""
    frames = tree["frames"]
    if not (isinstance(frames, list) and frames and all(isinstance(frame, dict) for frame in frames)):
        raise DataError(f"{path}: frames is no list of at least one camera")
    return frames, [_frame(path, tree, frame, f"frames[{number}]") for number, frame in enumerate(frames)]


def _folder(frame: Mapping[str, Any]) -> str:
    return str(Path(str(frame.get("file_path", ""))).parent)


def _frame(path: Path, tree: Mapping[str, Any], frame: Mapping[str, Any], place: str) -> View:
    told = {**tree, **frame}
    model = told.get("camera_model", "OPENCV")
    if model not in _STRAIGHT:
        raise DataError(f"{path}: {place}: camera_model is {model!r}; expected one of {', '.join(_STRAIGHT)}")
    bent = [name for name in _BENDS if told.get(name)]
    if bent:
        raise DataError(f"{path}: {place}: its lens bends ({bent[0]} is {told[bent[0]]}); undistort the pictures first")
    height, width = _size(path, told, place)
    if "fl_x" in told:
        focal = number_of(path, told, "fl_x", place)
    elif "camera_angle_x" in told:
        angle = number_of(path, told, "camera_angle_x", place)
        if not 0 < angle < math.pi:
            raise DataError(f"{path}: {place}: camera_angle_x is {angle:g}; expected radians between 0 and pi")
        focal = 0.5 * width / math.tan(0.5 * angle)
    else:
        raise DataError(f"{path}: {place} has neither fl_x nor camera_angle_x; expected one of them")
    vertical = number_of(path, told, "fl_y", place) if "fl_y" in told else focal
    centre = [
        number_of(path, told, key, place) if key in told else 0.5 * side
        for key, side in (("cx", width), ("cy", height))
    ]
    to_world = _matrix(path, told.get("transform_matrix"), f"{place}.transform_matrix")
    name = Path(str(frame.get("file_path", place))).stem
    return name, torch.linalg.inv(to_world @ _FLIP), _intrinsics(path, place, focal, vertical, *centre), (height, width)


def _size(path: Path, told: Mapping[str, Any], place: str) -> tuple[int, int]:
    if "w" in told and "h" in told:
        height, width = (number_of(path, told, key, place) for key in ("h", "w"))
        if height != int(height) or width != int(width) or min(height, width) < 1:
            raise DataError(
                f"{path}: {place}: w and h are {told['w']} and {told['h']}; expected whole numbers of pixels"
            )
        return int(height), int(width)
    # Blender's files leave it to the pictures, whose ending they leave out.
    picture = path.parent / str(told.get("file_path", ""))
    found = next((file for file in (picture, picture.with_name(f"{picture.name}.png")) if file.is_file()), None)
    if found is None:
        raise DataError(f"{path}: {place} has no w and h, and its picture {picture} is not there; expected either")
    return picture_size(found)


def read_colmap(folder: Path, up: AskedUp = "auto") -> tuple[Cameras, tuple[str, ...]]:
    """Cameras (V, 1) of a COLMAP model in text files, in the order of its pictures' names, and those names.

    Raises: DataError, one line that names the file, its line, what was found and what was expected.
    """
    if up == "auto":
        raise DataError(f"{folder}: a COLMAP world has no up; say which axis of it is: camera_up=y, -y, z or -z")
    views = sorted(colmap_views(folder), key=lambda view: view[0])
    return join_views(folder, [[(Path(view[0]).stem, *view[1:])] for view in views], up)


def colmap_views(folder: Path) -> list[View]:
    """The cameras of a COLMAP model, each with its picture's whole name, in the order of the file."""
    files = [folder / name for name in COLMAP_FILES]
    for file in files:
        if not file.is_file():
            told = ", only the binary one: write text with `colmap model_converter --output_type TXT`"
            raise DataError(f"{file}: there is no such file{told if file.with_suffix('.bin').exists() else ''}")
    lenses = {words[0]: _lens(files[0], number, words) for number, words in _lines(files[0], every=1)}
    views = []
    for number, words in _lines(files[1], every=2):
        place = f"line {number}"
        if len(words) < 10:
            raise DataError(f"{files[1]}: {place} has {len(words)} words; expected 10, from IMAGE_ID to NAME")
        w, x, y, z, *shift = (_float(files[1], place, word) for word in words[1:8])
        if words[8] not in lenses:
            raise DataError(f"{files[1]}: {place} names the camera {words[8]}, which cameras.txt does not have")
        views.append((" ".join(words[9:]), _rigid(files[1], place, (w, x, y, z), shift), *lenses[words[8]]))
    if not views:
        raise DataError(f"{files[1]}: holds no picture; expected at least one")
    return views


def _lines(path: Path, every: int) -> Iterator[tuple[int, list[str]]]:
    """Number and words of the lines that count: without comments, and of each ``every`` lines the first."""
    skip = 0
    for number, line in enumerate(read_text(path).splitlines(), 1):
        if line.startswith("#"):
            continue
        if skip:
            skip -= 1
        elif line.strip():
            yield number, line.split()
            skip = every - 1


def _lens(path: Path, number: int, words: Sequence[str]) -> tuple[Tensor, tuple[int, int]]:
    place = f"line {number}"
    if len(words) < 4 or words[1] not in _MODELS:
        found = words[1] if len(words) > 1 else "nothing"
        raise DataError(f"{path}: {place} has the camera model {found}; expected one of {', '.join(_MODELS)}")
    names = _MODELS[words[1]]
    if len(words) != 4 + len(names):
        raise DataError(
            f"{path}: {place} has {len(words) - 4} numbers; {words[1]} has {len(names)}, {', '.join(names)}"
        )
    width, height, *numbers = (_float(path, place, word) for word in words[2:])
    values = dict(zip(names, numbers, strict=True))
    bent = [name for name in _BENDS if values.get(name)]
    if bent:
        raise DataError(
            f"{path}: {place}: its lens bends ({bent[0]} is {values[bent[0]]}); undistort the pictures first"
        )
    if width != int(width) or height != int(height) or min(width, height) < 1:
        raise DataError(f"{path}: {place}: pictures of {words[2]} x {words[3]}; expected whole numbers of pixels")
    focal = values.get("f", 0.0)
    lens = _intrinsics(path, place, values.get("fx", focal), values.get("fy", focal), values["cx"], values["cy"])
    return lens, (int(height), int(width))


def _rigid(path: Path, place: str, quaternion: tuple[float, ...], shift: Sequence[float]) -> Tensor:
    turn = torch.tensor(quaternion, dtype=torch.float64)
    if abs(float(turn.norm()) - 1) > ROTATION_TOLERANCE:
        raise DataError(f"{path}: {place}: its quaternion has length {float(turn.norm()):.4g}; expected 1")
    pose = torch.eye(4, dtype=torch.float64)
    pose[:3, :3] = of_quaternion(turn / turn.norm())
    pose[:3, 3] = torch.tensor(shift, dtype=torch.float64)
    return pose


def join_views(path: Path, tracks: Sequence[Sequence[View]], up: str) -> tuple[Cameras, tuple[str, ...]]:
    """(V, T) cameras of V tracks of T views, in a world with y up, and names that differ."""
    sizes = sorted({size for track in tracks for *_, size in track})
    if len(sizes) > 1:
        raise DataError(
            f"{path}: its pictures have {len(sizes)} sizes, such as {sizes[0]} and {sizes[1]}; expected one"
        )
    if math.prod(sizes[0]) > MOST_PIXELS:
        raise DataError(
            f"{path}: its pictures have {sizes[0][1]} x {sizes[0][0]} pixels; expected at most {MOST_PIXELS / 1e6:.0f} million"
        )
    world = torch.eye(4, dtype=torch.float64)
    world[:3, :3] = TO_Y_UP[up].mT
    cameras = Cameras(
        world_to_camera=torch.stack([torch.stack([pose @ world for _, pose, *_ in track]) for track in tracks]).float(),
        intrinsics=torch.stack([torch.stack([lens for _, _, lens, _ in track]) for track in tracks]).float(),
        image_size=sizes[0],
    )
    if not bool(cameras.world_to_camera.isfinite().all() and cameras.intrinsics.isfinite().all()):
        raise DataError(f"{path}: holds NaN, infinity or a number beyond 3e38; expected finite cameras")
    given = [track[0][0] for track in tracks]
    usable = len(set(given)) == len(given) and not any(map(name_problem, given))
    return cameras, tuple(given if usable else (f"view {v}" for v in range(len(given))))


def _matrix(path: Path, value: Any, place: str) -> Tensor:
    """(4, 4) float64, camera to world; some files leave the last row out."""
    whole = [*value, [0.0, 0.0, 0.0, 1.0]] if isinstance(value, list) and len(value) == 3 else value
    matrices = read_rigid(path, place, whole)
    if len(matrices) != 1:
        raise DataError(f"{path}: {place} holds {len(matrices)} matrices; expected one")
    return matrices[0]


def _intrinsics(path: Path, place: str, fx: float, fy: float, cx: float, cy: float) -> Tensor:
    if min(fx, fy) <= 0:
        raise DataError(f"{path}: {place}: focal lengths are {fx:g} and {fy:g}; expected pixels above 0")
    return torch.tensor([[fx, 0, cx], [0, fy, cy], [0, 0, 1]], dtype=torch.float64)


def number_of(path: Path, tree: Mapping[str, Any], key: str, place: str) -> float:
    value = tree.get(key)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not abs(value) < 3e38:
        raise DataError(f"{path}: {place}: {key} is no finite number")
    return float(value)


def _float(path: Path, place: str, word: str) -> float:
    try:
        value = float(word)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise DataError(f"{path}: {place}: {word[:40]!r} is no finite number")
    return value


def write_transforms(path: Path, cameras: Cameras, picture: Sequence[Sequence[str]]) -> None:
    """Writes cameras (V, T) as a transforms.json, z up. picture: the file of every view and frame, beside it.

    Some loaders know but one lens, that of ``camera_angle_x``: it is written where all cameras have it.
    """
    back = torch.eye(4, dtype=torch.float64)
    back[:3, :3] = Z_UP_TO_Y_UP.mT
    to_world = back @ torch.linalg.inv(cameras.world_to_camera.double()) @ _FLIP
    views, count = cameras.shape
    frames = [
        {
            "file_path": picture[v][t],
            "time": t / max(1, count - 1),
            "transform_matrix": to_world[v, t].tolist(),
            **dict(zip(("fl_x", "fl_y", "cx", "cy"), _optics(cameras.intrinsics[v, t]), strict=True)),
        }
        for t in range(count)
        for v in range(views)
    ]
    height, width = cameras.image_size
    focal = {frame["fl_x"] for frame in frames}
    lens = {"camera_angle_x": 2 * math.atan(0.5 * width / focal.pop())} if len(focal) == 1 else {}
    write_text(
        path, json.dumps({"camera_model": "PINHOLE", "w": width, "h": height, **lens, "frames": frames}, indent=1)
    )


def _optics(lens: Tensor) -> list[float]:
    return [float(lens[i, j]) for i, j in ((0, 0), (1, 1), (0, 2), (1, 2))]
