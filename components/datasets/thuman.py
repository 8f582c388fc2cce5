"""THuman2.0 and THuman2.1: textured scans with fitted SMPL-X bodies. Source: github.com/ytrock/THuman2.0-Dataset."""

from pathlib import Path
from typing import Literal

from pydantic import Field

from hvg.core.errors import DataError

from ..people.scan_clips import Fit, ScanClips, ScanConfig, one_folder, scaled_fit
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
        return scaled_fit(self.files(self.config, name)[2], "thuman", self.config.fits_gender)


def _fits(config: ThumanConfig) -> Path:
    return config.fits or one_folder(Path(config.root), "*smplx*", "the fits (dataset.fits)")
