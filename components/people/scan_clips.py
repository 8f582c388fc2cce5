"""What data sets of textured scans with fitted bodies share: an orbit of pictures around each scan, drawn by the renderer."""

import json
from abc import abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import numpy as np
import torch
from pydantic import Field

from hvg.core.arrays import read_archive
from hvg.core.bounds import Colour, Elevations, Side, ViewCount
from hvg.core.digests import settings_digest
from hvg.core.eight_bit import alpha_from_uint8, frames_from_uint8
from hvg.core.errors import ConfigError, DataError, Problem
from hvg.core.files import read_text
from hvg.core.random_keys import numpy_generator
from hvg.core.required import required
from hvg.data.captions import CaptionedConfig, caption_notes, captions_of, captions_text
from hvg.data.splits import of_split, subject_of
from hvg.geometry.body_conventions import Gender
from hvg.geometry.motion import Motion
from hvg.geometry.motion_arrays import KEYS, motion_of_arrays
from hvg.geometry.pickled_files import read_pickled
from hvg.parts.context import Context
from hvg.parts.scene import Dataset, Holdings
from hvg.values.body import MESH_FIELDS, BodyMotion
from hvg.values.cameras import Cameras, orbit
from hvg.values.clip import ClipBatch, Reference
from hvg.values.scored_clip import Surface
from hvg.values.task import NOVEL_VIEW

from .scans import Scan, scan_pictures
from .smpl_family import FamilyBody


class ScanConfig(CaptionedConfig):
    """Settings of pictures of scans."""

    views: ViewCount = Field(20, description="V: cameras, spread evenly around the person, the first in front of them.")
    image_size: Side = Field(512, description="Side of the square pictures, pixels.")
    distance: float = Field(3.6, gt=1, le=1000, description="From the cameras to the middle of the scan, metres.")
    fov_degrees: float = Field(36.0, gt=5, lt=120, description="Angle of view.")
    elevation_degrees: Elevations = Field(
        (0.0, 0.0), description="Range of the cameras' height above the middle of the scan, drawn for each."
    )
    supersampling: int = Field(2, ge=1, le=8, description="Rays per pixel along each side; makes alpha a coverage.")
    fits_gender: Gender = Field("male", description="Gender of the model that the fits were made with.")
    mesh: bool = Field(True, description="Whether clips carry the fitted body's vertices (for mesh signals).")
    background: tuple[Colour, Colour, Colour] = Field(
        (1.0, 1.0, 1.0), description="sRGB colour behind the person, each in [0, 1]."
    )


C = TypeVar("C", bound=ScanConfig)


@dataclass(frozen=True, kw_only=True)
class Fit:
    """A fitted body of one frame. scale: what lies at x in the body's world lies at ``scale`` x in the scan's file."""

    motion: Motion
    scale: float = 1.0


class ScanClips(Dataset[C]):
    """Scans of people who stand still, each a clip of one frame: V pictures from an orbit at the height of the scan's middle.

    The world of a clip: metres as the body model has them, y up, the lowest point of the scan at height 0, the fitted pelvis
    above the origin. The photo is the first view, which is in front of the person's pelvis. Colours are those of the texture,
    without further light.

    dataset: its registered name.
    """

    dataset: ClassVar[str]

    def __init__(self, config: C, context: Context) -> None:
        """Raises: ConfigError for another body model than that of the fits, DataError for a folder without scans."""
        super().__init__(config)
        self._renderer = required(context.renderer, "Context.renderer")
        self._body = fitting_body(self.dataset, context, config.fits_gender)
        self._people = self._split(config)
        self._names = list(self._people)
        self._captions = self._said(config, self._people)

    @classmethod
    @abstractmethod
    def names(cls, config: C) -> list[str]:
        """Names of all scans of the folder, in their order. Raises: DataError where there are none."""

    @classmethod
    @abstractmethod
    def files(cls, config: C, name: str) -> list[Path]:
        """The files of a scan and its fit, whether they are there or not."""

    @abstractmethod
    def scan(self, name: str) -> Scan:
        """The scan, in the world of its file. Raises: DataError."""

    @abstractmethod
    def fit(self, name: str) -> Fit:
        """The body that was fitted to a scan. Raises: DataError."""

    @classmethod
    def _split(cls, config: C) -> dict[str, str]:
        """Name of a scan of the split -> whom it shows."""
        people = {name: subject_of(config, name) for name in cls.names(config)}
        chosen = of_split(config, people)
        if not chosen:
            raise DataError(
                f"{config.root}: none of its {len(people)} scans is in split '{config.split}'; expected some"
            )
        return {name: people[name] for name in chosen}

    @classmethod
    def _said(cls, config: C, names: Iterable[str]) -> dict[str, str]:
        """Clip id -> caption, of scans of these names."""
        return captions_of(config, {cls.clip_id(name): (cls.clip_id(name), name) for name in names})

    @classmethod
    def num_photos(cls, config: C) -> int:
        return 1

    @classmethod
    def provides(cls, config: C) -> frozenset[str]:
        fixed = {"frames", "alpha", "cameras", "body", "reference", "task", "valid", "frame_index"}
        return frozenset(fixed | (MESH_FIELDS if config.mesh else set()) | ({"caption"} if config.captions else set()))

    @classmethod
    def holdings(cls, config: C) -> Holdings:
        if not Path(config.root).is_dir():
            return Holdings(notes=(f"{config.root}: there is no such folder here, so what it holds is not judged",))
        size = (config.views, 1, config.image_size, config.image_size)
        people = cls._split(config)
        clips = {cls.clip_id(name): cls.clip_id(person) for name, person in people.items()}
        captions, known = cls._said(config, people), cls.names(config)
        notes = caption_notes(config, captions, [*known, *map(cls.clip_id, known)])
        return Holdings(sizes=dict.fromkeys(clips, size), subjects=clips, notes=tuple(notes), captions=captions)

    @classmethod
    def content(cls, config: C) -> str:
        """Digest of the rules, and of when all files changed."""
        if not Path(config.root).is_dir():
            return ""
        files = [path for name in cls.names(config) for path in cls.files(config, name) if path.is_file()]
        changed = [[str(path), path.stat().st_size, path.stat().st_mtime_ns] for path in files]
        return settings_digest([changed, read_text(config.rules) if config.rules else "", *captions_text(config)])

    @classmethod
    def clip_id(cls, name: str) -> str:
        """Of a scan, or of a person."""
        return f"{cls.dataset}-{name}"

    def __len__(self) -> int:
        return len(self._names)

    def load(self, index: int) -> ClipBatch:
        """Clip ``index``. Raises: DataError that names the file that cannot be used."""
        name = self._names[index]
        scan, body = self._placed(name)
        cameras = self._cameras(name, scan, body)
        colour, coverage = scan_pictures(
            scan, cameras, self._renderer, self.config.supersampling, torch.tensor(self.config.background)
        )
        frames, alpha = frames_from_uint8(colour), alpha_from_uint8(coverage)
        photo = Reference(frames=frames[None, :1], alpha=alpha[None, :1], cameras=cameras[None, :1], body=body)
        return ClipBatch(
            frames=frames[None, :, None],
            alpha=alpha[None, :, None],
            cameras=cameras[None, :, None],
            body=body,
            reference=photo,
            task=torch.tensor([NOVEL_VIEW]),
            valid=torch.ones(1, len(frames), 1, dtype=torch.bool),
            frame_index=torch.zeros(1, 1, dtype=torch.int64),
            caption=(self._captions[self.clip_id(name)],) if self._captions else None,
            clip_id=(self.clip_id(name),),
            subject=(self.clip_id(self._people[name]),),
        )

    def surface(self, index: int) -> Surface:
        """The scan behind clip ``index``."""
        name = self._names[index]
        scan, body = self._placed(name)
        image = self._renderer.render(scan.vertices[None], scan.faces, self._cameras(name, scan, body))
        return Surface(
            depth=image.depth[:, None],
            face=image.face[:, None],
            barycentric=image.barycentric[:, None],
            vertices=scan.vertices[None],
            faces=scan.faces,
        )

    def _placed(self, name: str) -> tuple[Scan, BodyMotion]:
        """Scan and body in the clip's world."""
        scan, fit = self.scan(name), self.fit(name)
        shape = self._body.told_shape(fit.motion)
        body = self._body.animate(fit.motion, shape, mesh=self.config.mesh)
        scan = scan.moved(torch.zeros(3), 1 / fit.scale)
        pelvis = body.place("pelvis")[0, 0]
        shift = -torch.stack([pelvis[0], scan.vertices[:, 1].min(), pelvis[2]])
        return scan.moved(shift), body.shifted(shift[None, None])

    def _cameras(self, name: str, scan: Scan, body: BodyMotion) -> Cameras:
        """Cameras (V)."""
        config, draw = self.config, numpy_generator(self.dataset, name, "cameras")
        middle = (scan.vertices.amin(dim=0) + scan.vertices.amax(dim=0)) / 2
        front = body.parameters["rotations"][0, 0, 0] @ torch.tensor([0.0, 0.0, 1.0])
        azimuths = torch.rad2deg(torch.atan2(front[0], front[2])) + torch.arange(config.views) * (360.0 / config.views)
        return orbit(
            azimuths,
            elevation_degrees=float(draw.uniform(*config.elevation_degrees)),
            distance=config.distance,
            target=torch.stack([torch.zeros(()), middle[1], torch.zeros(())]),
            fov_degrees=config.fov_degrees,
            image_size=(config.image_size, config.image_size),
        )


def fitting_body(dataset: str, context: Context, gender: Gender) -> FamilyBody:
    """The body model, which has to be the one that fits were made with. Raises: ConfigError for another."""
    body = context.body
    if isinstance(body, FamilyBody) and body.family == "smplx" and body.config.gender == gender:
        return body
    wanted = f"body=smplx body.gender={gender} body.path=MODELS"
    found = f"{body.family}, {body.config.gender}" if isinstance(body, FamilyBody) else type(body).__name__
    told = f"dataset={dataset} has bodies that were fitted with another model; choose {wanted} (docs/bodies.md)"
    raise ConfigError([Problem("body", f"is {found}; {told}")])


def one_folder(root: Path, pattern: str, what: str) -> Path:
    """The folder of a name like ``pattern`` in root or beside it. Raises: DataError where there is none, or are several."""
    places = [root, root.absolute().parent]
    for place in places:
        found = sorted(path for path in place.glob(pattern) if path.is_dir() and path.absolute() != root.absolute())
        if len(found) == 1:
            return found[0]
        if found:
            raise DataError(f"{place}: holds {', '.join(path.name for path in found)}; say which has {what}")
    raise DataError(f"{root}: neither in it nor beside it is a folder {pattern}; expected {what} there")


def scaled_fit(path: Path, convention: str, gender: Gender) -> Fit:
    """The fit of a file in which V = scale X + translation, both in the scan's world. Raises: DataError."""
    values = dict(read_values(path))
    scale = _numbers(path, values.pop("scale", None), "scale")
    if scale.size != 1 or not 1e-4 < float(scale[0]) < 1e5:
        raise DataError(f"{path}: 'scale' is {str(scale)[:40]}; expected one positive number")
    shift = values.pop("translation", values.get("transl"))
    values["transl"] = _numbers(path, shift, "translation") / float(scale[0])
    return Fit(motion=fitted_motion(path, values, convention, gender), scale=float(scale[0]))


def read_values(path: Path) -> Mapping[str, Any]:
    """What a fit's .pkl, .npz or .json says by name; a pickle is read, and not run. Raises: DataError."""
    if path.suffix == ".npz":
        try:
            return read_archive(path, KEYS | {"translation"})
        except (ValueError, OSError) as error:
            raise DataError(f"{path}: {' '.join(str(error).split())[:200]}; expected an .npz of a fit") from error
    values = read_json(path) if path.suffix == ".json" else read_pickled(path)
    if not isinstance(values, dict):
        raise DataError(f"{path}: holds no names; expected parameters of SMPL-X as body_pose, betas and transl")
    return values


def read_json(path: Path) -> Any:
    """Raises: DataError for a file that is not there, or no JSON."""
    try:
        return json.loads(read_text(path))
    except FileNotFoundError:
        raise DataError(f"{path}: there is no such file; expected the fit of a scan") from None
    except ValueError as error:
        raise DataError(f"{path}: damaged or no JSON ({' '.join(str(error).split())[:100]})") from error


def _numbers(path: Path, value: Any, name: str) -> np.ndarray:
    """Flat."""
    if not isinstance(value, (np.ndarray, float, int, list)):
        raise DataError(f"{path}: lacks numbers for '{name}', which this data set's fits have")
    return np.asarray(value, np.float64).reshape(-1)


def fitted_motion(path: Path, values: Mapping[str, Any], convention: str, gender: Gender) -> Motion:
    """A fit of one frame, by the words of the package smplx; those that are no numbers are left out.

    Raises: DataError, one line that names the file, what was found and what was expected.
    """
    words = {word: values[word] for word in KEYS & values.keys()}
    try:
        rows = {word: np.asarray(x, np.float64).reshape(1, -1) for word, x in words.items()}
    except (ValueError, TypeError) as error:
        raise DataError(f"{path}: holds other than numbers ({error}); expected parameters of SMPL-X") from error
    missing = sorted({"global_orient", "body_pose", "transl", "betas"} - rows.keys())
    if missing:
        raise DataError(f"{path}: lacks {', '.join(missing)}; it has {', '.join(sorted(values)) or 'nothing'}")
    return motion_of_arrays(path, rows, "auto", convention, gender)
