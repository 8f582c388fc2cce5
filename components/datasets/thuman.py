"""THuman2.0 and THuman2.1: textured scans with fitted SMPL-X bodies. Source: github.com/ytrock/THuman2.0-Dataset."""

from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import Field

from hvg.core.errors import DataError
from hvg.geometry.pickled_files import read_pickled

from ..people.scan_clips import Fit, ScanClips, ScanConfig, fitted_motion, one_folder
from ..people.scans import Scan, read_scan


class ThumanConfig(ScanConfig):
    """Settings of THuman's scans."""

    version: Literal["2.0", "2.1"] = Field("2.1", description="Which of the two; their splits differ.")
    splits: str | None = Field("hvg", description=ScanConfig.model_fields["splits"].description)
    fits: Path | None = Field(
        None, description="Folder of the fits, NNNN/smplx_param.pkl; null: the folder *smplx* in root or beside it."
    )

    @property
    def known_as(self) -> str:
        return f"thuman{self.version}"


class Thuman(ScanClips[ThumanConfig]):
    """Scans ``NNNN/NNNN.obj`` with ``material0.jpeg``, and fits ``NNNN/smplx_param.pkl`` of the male model.

    Scans are of different sizes: a fit says by how much its body was scaled, and the world of a clip is the body's, in metres.
    """

    dataset = "thuman"
    gender = "male"

    @classmethod
    def names(cls, config: ThumanConfig) -> list[str]:
        found = sorted(
            path.name for path in Path(config.root).glob("[0-9]*") if path.name.isdecimal() and path.is_dir()
        )
        if not found:
            raise DataError(
                f"{config.root}: no scan is here; expected folders as 0000 with 0000.obj and material0.jpeg"
            )
        return found

    @classmethod
    def files(cls, config: ThumanConfig, name: str) -> list[Path]:
        scan = Path(config.root) / name
        return [scan / f"{name}.obj", scan / "material0.jpeg", _fits(config) / name / "smplx_param.pkl"]

    def scan(self, name: str) -> Scan:
        return read_scan(*self.files(self.config, name)[:2])

    def fit(self, name: str) -> Fit:
        """V = scale X + translation, of both in the file's world; hands are 12 components from the mean hand."""
        path = self.files(self.config, name)[2]
        values = read_pickled(path)
        if not isinstance(values, dict):
            raise DataError(f"{path}: holds no dictionary; expected one with body_pose, scale and translation")
        scale = _scale(path, values.pop("scale", None))
        values["transl"] = _number(path, values.pop("translation", None)) / scale
        return Fit(motion=fitted_motion(path, values, "thuman", self.gender), scale=scale)


def _fits(config: ThumanConfig) -> Path:
    return config.fits or one_folder(Path(config.root), "*smplx*", "the fits (dataset.fits)")


def _scale(path: Path, value: object) -> float:
    found = _number(path, value).reshape(-1)
    if len(found) != 1 or not 1e-3 < float(found[0]) < 1e4:
        raise DataError(f"{path}: 'scale' is {str(value)[:40]}; expected one positive number")
    return float(found[0])


def _number(path: Path, value: object) -> np.ndarray:
    if not isinstance(value, (np.ndarray, float, int)):
        raise DataError(f"{path}: lacks 'scale' or 'translation'; expected numbers, which THuman's fits have")
    return np.asarray(value, np.float64)
