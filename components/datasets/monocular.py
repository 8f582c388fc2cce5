"""People filmed by one camera: a folder for each recording, with a video, masks, and a body as an estimator sees it.

In ``<root>/<recording>/``:

- ``video.mp4`` (or another video named so), or ``images/<frame>.jpg``.
- ``masks/<frame>.png`` or ``masks.mp4``, the person bright; none, where the pictures have an alpha channel.
- ``motion.npz``, ``motion.bvh`` or ``motion/`` (EasyMocap's JSON): the body in the camera's axes, x right, y down, z forward,
  as estimators give it; ``hvg convert motion=... axes=camera`` writes one. A camera that moves needs nothing more then.
- ``intrinsics.json``: ``fx``, ``fy``, ``cx``, ``cy`` in pixels of pictures of ``w`` x ``h``; without, ``lens_degrees`` says it.
"""

import json
from functools import partial
from pathlib import Path
from typing import Annotated

import torch
from pydantic import BaseModel, Field, ValidationError

from hvg.core.axes import AskedUp
from hvg.core.bounds import Side
from hvg.core.errors import DataError
from hvg.core.files import read_text
from hvg.data.recorded import Recorded
from hvg.data.recording_files import body_places, find_motion, first_size, make_tracks, masks_folder
from hvg.data.recordings import MovedConfig, Recording
from hvg.geometry.motion_files import files_of, load_motion
from hvg.media.folder_video import Place
from hvg.media.listing import VIDEOS, listed, pictures_in
from hvg.values.cameras import Cameras, intrinsics_from_fov

Pixels = Annotated[float, Field(gt=0, le=1e6)]
_CAMERA = "camera"


class _Lens(BaseModel, extra="ignore"):
    """An ``intrinsics.json``."""

    fx: Pixels
    fy: Pixels
    cx: Annotated[float, Field(ge=-1e6, le=1e6)]
    cy: Annotated[float, Field(ge=-1e6, le=1e6)]
    w: Side
    h: Side


class Monocular(Recorded):
    """Videos of one person, V = 1."""

    class Config(MovedConfig):
        """Settings of recordings of one camera."""

        lens_degrees: float = Field(
            50.0,
            gt=5,
            lt=150,
            description="Angle of view of the camera over the shorter side of its picture, where no intrinsics.json says it.",
        )
        body_up: AskedUp = Field(
            "-y", description="Axis of the motion's file that is up: -y in the camera's axes; auto: as its keys say."
        )

    @classmethod
    def survey(cls, config: Config, path: Path) -> Recording:
        pictures = _pictures(path, "video", path / "images")
        if pictures is None:
            raise DataError(f"{path}: has no video.mp4 and no folder images; expected one of them")
        masks = _pictures(path, "masks", masks_folder(path)) if config.masks else None
        lens, camera = (
            path / "intrinsics.json",
            partial(_camera, path / "intrinsics.json", pictures, config.lens_degrees),
        )
        tracks, filmed = make_tracks({_CAMERA: pictures}, masks and {_CAMERA: masks}, {_CAMERA: camera})
        motion = find_motion(path) if config.bodies else None
        length, places = body_places(filmed, config.body_every, config.picture_every, config.body_start)
        return Recording(
            tracks=tracks,
            length=filmed if motion is None else length,
            filmed=filmed,
            motion=None if motion is None else partial(load_motion, motion, config.body_up, config.convention),
            body_places=places,
            files=[*([lens] if lens.exists() else []), *([] if motion is None else files_of(motion))],
        )


def _pictures(recording: Path, name: str, folder: Path | None) -> Place | None:
    """A video of that name, or the pictures of a folder. Raises: DataError for both, or an empty folder."""
    videos = [path for path in listed(recording) if path.stem == name and path.suffix.lower() in VIDEOS]
    there = folder is not None and folder.is_dir()
    if len(videos) + there > 1:
        raise DataError(
            f"{recording}: has {videos[0].name} and also {folder.name if folder and there else videos[1].name}"
        )
    if videos:
        return videos[0]
    if folder is None or not there:
        return None
    images = pictures_in(folder)
    if not images:
        raise DataError(f"{folder}: holds no pictures")
    return images


def _camera(lens: Path, pictures: Place, lens_degrees: float) -> Cameras:
    """(1,): at the origin of a world with y up, looking along -z, so that the camera's axes are the motion's."""
    pose = torch.diag(torch.tensor([1.0, -1.0, -1.0, 1.0]))[None]
    if not lens.exists():
        size = first_size(pictures)
        return Cameras(world_to_camera=pose, intrinsics=intrinsics_from_fov(lens_degrees, size)[None], image_size=size)
    try:
        k = _Lens.model_validate(json.loads(read_text(lens)))
    except ValidationError as error:
        first = error.errors()[0]
        raise DataError(
            f"{lens}: {'.'.join(map(str, first['loc']))}: {first['msg']}; expected fx, fy, cx, cy, w, h"
        ) from None
    except (ValueError, RecursionError) as error:
        raise DataError(f"{lens}: is no JSON: {' '.join(str(error).split())}") from error
    matrix = torch.tensor([[[k.fx, 0.0, k.cx], [0.0, k.fy, k.cy], [0.0, 0.0, 1.0]]])
    return Cameras(world_to_camera=pose, intrinsics=matrix, image_size=(k.h, k.w))
