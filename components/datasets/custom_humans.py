"""CustomHumans: textured scans with fitted SMPL-X bodies. Source: github.com/custom-humans/editable-humans."""

from pathlib import Path

from pydantic import Field

from hvg.core.errors import DataError
from hvg.core.required import required
from hvg.media.listing import listed

from ..people.scan_clips import Fit, ScanClips, ScanConfig, fitted_motion, read_values
from ..people.scans import Scan, read_scan


class CustomHumansConfig(ScanConfig):
    """Settings of CustomHumans' scans."""

    splits: str | None = Field("hvg", description=ScanConfig.model_fields["splits"].description)

    @property
    def known_as(self) -> str:
        return "customhumans"


class CustomHumans(ScanClips[CustomHumansConfig]):
    """Scans ``mesh/<id>/mesh-f00101.obj`` with ``.png``, and fits ``smplx/<id>/mesh-f00101.json`` of the male model.

    Or all files of a scan in ``<id>/``, as the authors' training has them.
    """

    dataset = "custom_humans"

    @classmethod
    def names(cls, config: CustomHumansConfig) -> list[str]:
        folder = _folder(config, "mesh")
        found = [path.name for path in listed(folder) if path.is_dir()] if folder.is_dir() else []
        if not found:
            raise DataError(f"{folder}: no scan is here; expected folders as 0003 with mesh-f00101.obj and its .png")
        return found

    @classmethod
    def files(cls, config: CustomHumansConfig, name: str) -> list[Path]:
        folder = _folder(config, "mesh") / name
        scans = [path for path in sorted(folder.glob("mesh-f*.obj")) if not path.stem.endswith("_smpl")]
        if len(scans) != 1:
            raise DataError(f"{folder}: holds {len(scans)} scans; expected one, as mesh-f00101.obj")
        return [scans[0], scans[0].with_suffix(".png"), _folder(config, "smplx") / name / f"{scans[0].stem}.json"]

    def scan(self, name: str) -> Scan:
        return read_scan(*self.files(self.config, name)[:2])

    def fit(self, name: str) -> Fit:
        """A body that is not turned, its pelvis at rest in the scan's origin; hands are 12 components from the flat hand.

        So the authors pose it (tools/load_json_to_smplx.py), whatever the file says of its orientation and place.
        """
        path = self.files(self.config, name)[2]
        values = {**read_values(path), "global_orient": [0.0] * 3, "transl": [0.0] * 3}
        motion = fitted_motion(path, values, "custom_humans", self.config.fits_gender)
        betas = required(motion.body, "Motion.body").values["betas"]
        values["transl"] = -self._body.file.rest_joints(betas)[0, 0].numpy()
        return Fit(motion=fitted_motion(path, values, "custom_humans", self.config.fits_gender))


def _folder(config: CustomHumansConfig, kind: str) -> Path:
    """Of scans or fits: its own, or the root where all lie together."""
    root = Path(config.root)
    return root / kind if (root / "mesh").is_dir() else root
