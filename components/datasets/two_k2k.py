"""2K2K: scans of 2,050 people, with SMPL-X bodies that others have fitted. Source: github.com/SangHunHan92/2K2K."""

from pathlib import Path

from pydantic import Field

from hvg.core.errors import DataError
from hvg.media.listing import listed

from ..people.scan_clips import Fit, ScanClips, ScanConfig, scaled_fit
from ..people.scans import Scan, read_scan

_SPLITS = ("train", "test")


class TwoK2kConfig(ScanConfig):
    """Settings of 2K2K's scans."""

    splits: str | None = Field("official", description=ScanConfig.model_fields["splits"].description)
    fits: Path = Field(
        description="Folder of the fits: ID.pkl, ID.npz or ID.json, or ID/smplx_param.pkl (or .npz, .json)."
    )
    convention: str = Field("thuman", description="How fits are meant, a name in docs/conventions.md.")

    @property
    def known_as(self) -> str:
        return "2k2k"


class TwoK2k(ScanClips[TwoK2kConfig]):
    """Scans ``<id>/<id>.ply`` with colours of vertices, or ``.obj`` with ``.png``.

    They lie in ``train/`` and ``test/``, and are called train-ID and test-ID then, or all in one folder. They come without
    bodies. A fit is read as THuman's are: V = scale X + translation, in the scan's world.
    """

    dataset = "two_k2k"

    @classmethod
    def names(cls, config: TwoK2kConfig) -> list[str]:
        root = Path(config.root)
        inner = [root / split for split in _SPLITS if (root / split).is_dir()]
        found = [f"{path.parent.name}-{path.name}" for folder in inner for path in listed(folder) if path.is_dir()]
        if not inner and root.is_dir():
            found = [path.name for path in listed(root) if path.is_dir()]
        if not found:
            raise DataError(f"{root}: no scan is here; expected folders as ID with ID.ply, or ID.obj and ID.png")
        return found

    @classmethod
    def files(cls, config: TwoK2kConfig, name: str) -> list[Path]:
        split, _, inner = name.partition("-")
        folder = Path(config.root) / (Path(split, inner) if split in _SPLITS else name)
        mesh, fits = folder / f"{folder.name}.ply", Path(config.fits)
        scan = [mesh] if mesh.is_file() else [mesh.with_suffix(".obj"), mesh.with_suffix(".png")]
        stems = (fits / folder.name / "smplx_param", fits / folder.name)
        options = [stem.parent / f"{stem.name}{ending}" for stem in stems for ending in (".pkl", ".npz", ".json")]
        return [*scan, next((path for path in options if path.is_file()), options[0])]

    def scan(self, name: str) -> Scan:
        mesh, *texture = self.files(self.config, name)[:-1]
        return read_scan(mesh, texture[0] if texture else None)

    def fit(self, name: str) -> Fit:
        return scaled_fit(self.files(self.config, name)[-1], self.config.convention, self.config.fits_gender)
