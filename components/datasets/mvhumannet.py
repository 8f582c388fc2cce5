"""MVHumanNet: people in daily dress, filmed by 48 cameras, with SMPL-X bodies as EasyMocap writes them.

Source: github.com/GAP-LAB-CUHK-SZ/MVHumanNet (its README, visual_smpl/, issues 14 and 23).
"""

import json
from collections.abc import Mapping
from functools import lru_cache, partial
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
from pydantic import Field

from hvg.core.errors import DataError
from hvg.core.files import read_text
from hvg.data.recorded import Recorded
from hvg.data.recordings import RecordedConfig, Recording
from hvg.geometry.easymocap import json_files
from hvg.geometry.motion_files import load_motion
from hvg.geometry.pickled_files import read_pickled
from hvg.values.cameras import Cameras

from ..people.capture_rigs import around, numbered, rig_recording, studio_camera

# Scale of the cameras of the first studio; and height and width of the pictures that intrinsics are of, there and elsewhere.
_FIRST_SCALE, _FIRST_SIZE, _OTHER_SIZE = 120 / 65, (3000, 4096), (2048, 2448)
# Frames of the film from one picture, and one body, to the next.
_STEP = 5
# As archives have them, and as the README calls them.
_FOLDERS = {"images": ("images_lr", "images"), "masks": ("fmask_lr", "fmask")}
_CAMERAS = ("camera_extrinsics.json", "camera_intrinsics.json", "camera_scale.pkl")
Height = Annotated[float, Field(ge=-10, le=100)]


class Mvhumannet(Recorded):
    """Outfits ``<root>/100001``: pictures of half the cameras' size, in a world in millimetres with z down.

    Pictures and bodies are of every fifth frame; picture 0005_img.jpg has body 000000.json.
    """

    class Config(RecordedConfig):
        """Settings of MVHumanNet."""

        camera_heights: tuple[Height, Height] = Field(
            (-10.0, 100.0),
            description="Heights above the floor, metres, between which cameras are used; rings are at about 1.1, 1.6 and 2.1.",
        )

        @property
        def known_as(self) -> str:
            return "mvhumannet"

    @classmethod
    def find(cls, config: Config) -> Mapping[str, Path]:
        """The outfits; folders beside them have no numbers for names."""
        return {name: path for name, path in super().find(config).items() if name.isdecimal()}

    @classmethod
    def survey(cls, config: Config, path: Path) -> Recording:
        cameras = _cameras(path, _changed(path))
        low, high = config.camera_heights
        names = [name for name in around(cameras) if low <= float(cameras[name].centers[0, 1]) <= high]
        bodies = {int(file.stem): place for place, file in enumerate(json_files(path / "smplx" / "smpl"))}
        folders = {kind: _first(path, *kinds) for kind, kinds in _FOLDERS.items()}
        return rig_recording(
            config,
            path,
            {name: partial(_camera, path, name) for name in names},
            pictures={name: numbered(folders["images"] / name) for name in names},
            masks={name: numbered(folders["masks"] / name) for name in names},
            bodies={_STEP * (number + 1): place for number, place in bodies.items()},
            motion=partial(load_motion, path / "smplx" / "smpl", "auto", "mvhumannet"),
            files=[path / name for name in _CAMERAS],
        )


def _first(path: Path, *names: str) -> Path:
    """The first of the folders that is there. Raises: DataError where none is."""
    found = next((path / name for name in names if (path / name).is_dir()), None)
    if found is None:
        raise DataError(f"{path}: holds no {' and no '.join(names)}; expected pictures and masks of every camera there")
    return found


def _changed(path: Path) -> tuple[int, ...]:
    """When the files of an outfit's cameras were. Raises: DataError where one is missing."""
    missing = next((name for name in _CAMERAS if not (path / name).is_file()), None)
    if missing is not None:
        raise DataError(f"{path / missing}: there is no such file; expected {', '.join(_CAMERAS)}")
    return tuple((path / name).stat().st_mtime_ns for name in _CAMERAS)


def _camera(path: Path, name: str) -> Cameras:
    return _cameras(path, _changed(path))[name]


@lru_cache(maxsize=16)
def _cameras(path: Path, changed: tuple[int, ...]) -> Mapping[str, Cameras]:
    """Name -> camera (1,). changed: when its files were. Raises: DataError."""
    extrinsics, intrinsics, scale = (path / name for name in _CAMERAS)
    given = read_pickled(scale)
    factor = float(given) if isinstance(given, float) or getattr(given, "shape", None) == () else 0.0
    if not 0.1 < factor < 100:
        raise DataError(f"{scale}: holds {str(given)[:40]}; expected the cameras' scale, such as {_FIRST_SCALE:.3f}")
    size = _FIRST_SIZE if abs(factor - _FIRST_SCALE) < 1e-6 else _OTHER_SIZE
    matrix = _numbers(intrinsics, _json(intrinsics), "intrinsics", (3, 3))
    return {
        key.rpartition(".")[0].rpartition("_")[2]: studio_camera(
            _numbers(extrinsics, camera, "rotation", (3, 3)),
            _numbers(extrinsics, camera, "translation", (3,)) * (factor / 1000),
            matrix,
            size,
            "-z",
        )
        for key, camera in _json(extrinsics).items()
    }


def _json(path: Path) -> dict:
    try:
        content = json.loads(read_text(path))
    except ValueError as error:
        raise DataError(f"{path}: damaged or no JSON ({' '.join(str(error).split())[:100]})") from error
    if not isinstance(content, dict):
        raise DataError(f"{path}: holds no object; expected the cameras' as MVHumanNet writes them")
    return content


def _numbers(path: Path, content: object, key: str, shape: tuple[int, ...]) -> torch.Tensor:
    """Raises: DataError for what are no finite numbers of that shape."""
    try:
        found = np.asarray(content[key] if isinstance(content, dict) else None, np.float64)
    except (KeyError, ValueError, TypeError):
        found = np.zeros(())
    if found.shape != shape or not np.isfinite(found).all():
        raise DataError(f"{path}: '{key}' has the shape {found.shape}; expected finite numbers {shape}")
    return torch.from_numpy(found).float()
