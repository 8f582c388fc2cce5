"""People filmed by several cameras: a folder for each recording, with pictures and masks of every camera, and a body's motion.

In ``<root>/<recording>/``:

- ``transforms.json`` (nerfstudio's, as in processed DNA-Rendering of Diffuman4D; OpenGL axes), or a COLMAP model in text
  (``cameras.txt`` and ``images.txt``), here or in ``sparse/0/`` or ``sparse/``.
- ``images/<camera>/<frame>.jpg``, or ``images/<camera>.mp4``; or ``images/<camera>.jpg`` where one moment was filmed.
- ``masks/`` (or ``fmasks/``) with the same names, the person bright; none, where the pictures have an alpha channel.
- ``motion.npz``, ``motion.bvh`` or ``motion/`` (EasyMocap's JSON): what ``hvg.geometry.motion_files`` reads, in the world of
  the cameras.
"""

from collections.abc import Mapping
from functools import lru_cache, partial
from pathlib import Path

from pydantic import Field

from hvg.core.axes import AskedUp
from hvg.core.errors import DataError
from hvg.data.recorded import Recorded
from hvg.data.recording_files import body_places, find_motion, make_tracks, masks_folder, pictures_of
from hvg.data.recordings import MovedConfig, Recording
from hvg.geometry.filmed_cameras import named_cameras
from hvg.geometry.foreign_cameras import is_colmap
from hvg.geometry.motion_files import files_of, load_motion
from hvg.values.cameras import Cameras


class Multiview(Recorded):
    """Recordings of several cameras that see one person."""

    class Config(MovedConfig):
        """Settings of recordings of several cameras."""

        up: AskedUp = Field("auto", description="Axis of the cameras' world that is up; auto: z of a transforms.json.")
        body_up: AskedUp = Field(
            "auto", description="The same of the motion's file; auto: that of the cameras, whose world it is."
        )

    @classmethod
    def survey(cls, config: Config, path: Path) -> Recording:
        source = _source(path)
        if config.up == "auto" and source.is_dir():
            raise DataError(f"{source}: a COLMAP world has no up; say which axis of it is: dataset.up=y, -y, z or -z")
        pictures = pictures_of(path / "images")
        used = {name: place for name, place in pictures.items() if name not in config.leave_out}
        known = _cameras(source, config.up, _changed(source))
        if missing := sorted(used.keys() ^ (known.keys() - {*config.leave_out})):
            where = (
                "no camera, but pictures" if missing[0] in used else f"a camera, but no pictures in {path / 'images'}"
            )
            raise DataError(f"{source}: '{missing[0]}' has {where}; dataset.leave_out=['{missing[0]}'] does without it")
        masks = masks_folder(path) if config.masks else None
        cameras = {name: partial(_camera, source, config.up, name) for name in used}
        tracks, filmed = make_tracks(used, masks and pictures_of(masks), cameras)
        motion, up = find_motion(path) if config.bodies else None, config.body_up
        if up == "auto":
            up = "z" if config.up == "auto" else config.up
        length, places = body_places(filmed, config.body_every, config.picture_every, config.body_start)
        return Recording(
            tracks=tracks,
            length=filmed if motion is None else length,
            filmed=filmed,
            motion=None if motion is None else partial(load_motion, motion, up, config.convention),
            body_places=places,
            files=[*_files(source), *([] if motion is None else files_of(motion))],
        )


def _source(path: Path) -> Path:
    """The transforms.json of a recording, or the folder of its COLMAP model. Raises: DataError."""
    if (path / "transforms.json").is_file():
        return path / "transforms.json"
    model = next((folder for folder in (path, path / "sparse" / "0", path / "sparse") if is_colmap(folder)), None)
    if model is None:
        raise DataError(
            f"{path}: has no transforms.json, and no cameras.txt and images.txt of COLMAP; expected one of them"
        )
    return model


def _files(source: Path) -> list[Path]:
    return [source] if source.is_file() else [file for file in sorted(source.glob("*.txt"))]


def _changed(source: Path) -> tuple[int, ...]:
    return tuple(file.stat().st_mtime_ns for file in _files(source))


@lru_cache(maxsize=16)
def _cameras(source: Path, up: AskedUp, changed: tuple[int, ...]) -> Mapping[str, Cameras]:
    """The cameras of a recording, read once for all of them. changed: when its files were."""
    return named_cameras(source, up)


def _camera(source: Path, up: AskedUp, name: str) -> Cameras:
    return _cameras(source, up, _changed(source))[name]
