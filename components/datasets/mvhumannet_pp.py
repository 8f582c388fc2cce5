"""MVHumanNet++: MVHumanNet's outfits by the 16 cameras of one height, with better masks and bodies in the words of SMPL-X.

Source: github.com/GAP-LAB-CUHK-SZ/MVHumanNet_plusplus (its README and smplx_visualization/).
"""

from collections.abc import Mapping
from functools import partial
from pathlib import Path

import numpy as np
import torch
from pydantic import Field

from hvg.core.arrays import read_archive
from hvg.core.errors import DataError
from hvg.data.recorded import Recorded
from hvg.data.recordings import RecordedConfig, Recording
from hvg.geometry.motion import Motion
from hvg.geometry.motion_arrays import KEYS, motion_of_arrays
from hvg.media.listing import listed
from hvg.values.cameras import Cameras

from ..people.capture_rigs import around, numbered, rig_recording, studio_camera

# Frames of the film from one picture to the next; rows of smplx_params.npz are in their order.
_STEP = 25
_SIZE = (1024, 1024)
_EXPECTED = "expected images/cam_00/0025.jpg, masks/cam_00, cameras/cam_00/camera.npz and smplx_params.npz"


class MvhumannetPp(Recorded):
    """Outfits ``<root>/train/100831`` and ``<root>/test/...``, where the root is ``main_data``, in a world with z down.

    Pictures are of every 25th frame; the one in A-pose (``A-2045.jpg``) is not used.
    """

    class Config(RecordedConfig):
        """Settings of MVHumanNet++."""

        splits: str | None = Field("official", description=RecordedConfig.model_fields["splits"].description)

        @property
        def known_as(self) -> str:
            return "mvhumannetpp"

    @classmethod
    def find(cls, config: Config) -> Mapping[str, Path]:
        """By names as train-100831: who is tested is told by the folder."""
        folders = [folder for folder in (Path(config.root) / split for split in ("train", "test")) if folder.is_dir()]
        return {
            f"{path.parent.name}-{path.name}": path for folder in folders for path in listed(folder) if path.is_dir()
        }

    @classmethod
    def survey(cls, config: Config, path: Path) -> Recording:
        if not (path / "cameras").is_dir():
            raise DataError(f"{path}: holds no cameras; {_EXPECTED}")
        files = {folder.name: folder / "camera.npz" for folder in listed(path / "cameras") if folder.is_dir()}
        names = around({name: _camera(file) for name, file in files.items()})
        pictures = {name: numbered(path / "images" / name) for name in names}
        numbers = sorted(set().union(*pictures.values()))
        bodies, motion, of_bodies = _bodies(path, numbers)
        return rig_recording(
            config,
            path,
            {name: partial(_camera, files[name]) for name in names},
            pictures=pictures,
            masks={name: numbered(path / "masks" / name) for name in names},
            bodies=bodies,
            motion=motion,
            files=[*files.values(), *of_bodies],
        )


def _bodies(path: Path, numbers: list[int]) -> tuple[dict[int, int], partial[Motion], list[Path]]:
    """Number of a frame -> place of its body in a motion; what reads the motion; its files."""
    whole, folder = path / "smplx_params.npz", path / "smplx_params"
    if whole.is_file():
        rows = [number for number in numbers if number % _STEP == 0]
        return {number: number // _STEP - 1 for number in rows}, partial(_motion, (whole,)), [whole]
    files = sorted(folder.glob("*.npz")) if folder.is_dir() else []
    files = [file for file in files if file.stem.isdecimal()]
    return {int(file.stem): place for place, file in enumerate(files)}, partial(_motion, tuple(files)), [*files[:1]]


def _motion(files: tuple[Path, ...]) -> Motion:
    """The motion in files of one frame each, or in one of all. Raises: DataError."""
    frames = [_arrays(file, KEYS) for file in files]
    missing = next((file for file, frame in zip(files, frames, strict=True) if frame.keys() != frames[0].keys()), None)
    if missing is not None:
        raise DataError(f"{missing}: has other arrays than {files[0].name}; expected the same in all")
    arrays = {name: np.concatenate([frame[name] for frame in frames]) for name in frames[0]}
    return motion_of_arrays(files[0], arrays, "auto", "mvhumannet_plusplus", None)


def _camera(path: Path) -> Cameras:
    """(1,). Raises: DataError."""
    arrays = _arrays(path, {"intrinsic", "extrinsic"})
    shapes = {"intrinsic": (3, 3), "extrinsic": (3, 4)}
    for name, shape in shapes.items():
        found = arrays.get(name, np.zeros(0))
        if found.shape != shape or found.dtype.kind != "f" or not np.isfinite(found).all():
            raise DataError(f"{path}: '{name}' has the shape {found.shape}; expected finite numbers {shape}")
    matrices = {name: torch.from_numpy(arrays[name]).float() for name in shapes}
    return studio_camera(matrices["extrinsic"][:, :3], matrices["extrinsic"][:, 3], matrices["intrinsic"], _SIZE, "-z")


def _arrays(path: Path, names: frozenset[str] | set[str]) -> dict[str, np.ndarray]:
    try:
        return read_archive(path, names)
    except (ValueError, OSError) as error:
        raise DataError(f"{path}: {' '.join(str(error).split())[:200]}; expected an .npz of MVHumanNet++") from error
