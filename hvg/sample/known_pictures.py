"""Pictures of captured cameras that a request gives: they stay, and the views between them are made.

The folder holds cameras, as transforms.json, cameras.json or a COLMAP model, and the pictures of each by its name: a folder of
them, a video, or one picture, in ``images/`` or beside the cameras. Its world is the motion's.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from hvg.config.request_words import RequestWords
from hvg.config.settings import RunConfig
from hvg.core.eight_bit import frames_from_uint8
from hvg.core.errors import DataError, HvgError
from hvg.data.framing import person_crop, seen_through, whole_crop
from hvg.geometry.foreign_cameras import COLMAP_FILES
from hvg.media.crops import cut, read_pictures
from hvg.media.folder_video import Place
from hvg.media.listing import IMAGES, VIDEOS, pictures_in
from hvg.media.video import video_length
from hvg.sample.camera_paths import CameraPath, read_cameras
from hvg.values.body import BodyMotion
from hvg.values.cameras import Cameras
from hvg.values.clip import ClipBatch
from hvg.values.tensors import combine

CAMERA_FILES = ("transforms.json", "cameras.json")
# Metres, and parts of a turn, by which poses of one camera may differ in two files.
SAME_POSE = 1e-3


@dataclass(frozen=True, kw_only=True)
class KnownPictures:
    """cameras (N, T) of pictures as the network sees them, their names, and frames (N, T, 3, H, W) in [-1, 1]. cut_out: whether
    they had an alpha channel.
    """

    cameras: Cameras
    names: tuple[str, ...]
    frames: Tensor
    cut_out: bool


@dataclass(frozen=True)
class Moments:
    """The video's frames: places (T,) in a motion of so many frames."""

    places: Tensor
    motion: int

    def of(self, what: str, count: int) -> list[int]:
        """Which pictures, or cameras, of ``count`` they are: those at the places where there are as many as the motion has
        frames, else one for each. Raises: DataError beginning with ``what``.
        """
        if count == self.motion and bool((self.places == self.places.round()).all()):
            return self.places.long().tolist()
        if count == len(self.places):
            return [*range(count)]
        if count == self.motion:
            raise DataError(
                f"{what}: there are pictures of the motion's frames, and the video's are between them; give stride="
            )
        raise DataError(
            f"{what}: there are pictures or poses of {count} moments; expected {self.motion}, as the motion has, or "
            f"{len(self.places)}, as the video has"
        )


def read_known(options: RequestWords, config: RunConfig) -> CameraPath | None:
    """The captured cameras; None where none are given. Raises: HvgError, DataError for what cannot be used."""
    if options.known is None:
        return None
    if "sampler" not in config.parts:
        raise HvgError(f"known: system={config.system.name} denoises nothing, so that nothing can stay as it is")
    if not options.known.is_dir():
        raise DataError(f"{options.known}: no such folder of captured cameras")
    return read_cameras(cameras_of(options.known), options.camera_up)


def cameras_of(folder: Path) -> Path:
    """Where a folder's cameras are: a file, or the folder itself for a COLMAP model."""
    return next((folder / name for name in CAMERA_FILES if (folder / name).exists()), folder)


def known_files(folder: Path) -> Iterator[str]:
    """What tells a folder's cameras and pictures from others: names, sizes and times."""
    names = {*CAMERA_FILES, *COLMAP_FILES}
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() in IMAGES | VIDEOS or path.name in names:
            found = path.stat()
            yield f"{path.relative_to(folder)} {found.st_size} {found.st_mtime_ns}"


def without_known(path: CameraPath, known: CameraPath) -> CameraPath:
    """The cameras that are no captured ones. Raises: HvgError where none is left."""
    poses, captured = path.cameras.world_to_camera[:, None], known.cameras.world_to_camera[None]
    if len({1, poses.shape[2], captured.shape[2]}) > 2:
        # Of captured ones that move over the whole motion the video takes some; both begin together.
        poses, captured = poses[:, :, :1], captured[:, :, :1]
    same = ((poses - captured).abs() < SAME_POSE).all(dim=(-1, -2, -3)).any(dim=1)
    left = (~same).nonzero().flatten().tolist()
    if not left:
        raise HvgError("known: every camera that is asked for is a captured one, so none is left to be made")
    return CameraPath(cameras=path.cameras[left], names=tuple(path.names[v] for v in left))


def see_known(
    folder: Path,
    known: CameraPath,
    body: BodyMotion,
    moments: Moments,
    size: tuple[int, int],
    optics: Mapping[str, float],
    background: Sequence[float],
) -> KnownPictures:
    """The captured pictures of the video's frames at ``size`` (height, width), cut around the person where theirs is another.

    optics: as of ``person_crop``. Raises: DataError naming what is missing or does not fit.
    """
    views, cut_out = list[tuple[Cameras, Tensor]](), True
    for view, name in enumerate(known.names):
        what, place, cameras = f"{folder}: camera '{name}'", place_of(folder, name), known.cameras[view]
        cameras = cameras if cameras.shape[0] == 1 else cameras[moments.of(what, cameras.shape[0])]
        same = cameras.image_size == size
        crop = whole_crop(cameras, size) if same else person_crop(cameras, body.joints[0], size, **optics)
        if crop is None:
            raise DataError(f"{what}: the person is in none of its pictures; is its world the motion's?")
        chosen = moments.of(what, _count(place))
        # A video tells each of its frames once, in order.
        once = sorted({*chosen})
        pixels, alpha = cut(read_pictures(place, once), None, crop, size, background)
        frames = frames_from_uint8(pixels[[once.index(frame) for frame in chosen]])
        views.append((seen_through(cameras, crop, size).expand(len(chosen))[None], frames))
        cut_out = cut_out and alpha is not None
    cameras, frames = zip(*views, strict=True)
    return KnownPictures(
        cameras=combine(cameras, torch.cat), names=known.names, frames=torch.stack(frames), cut_out=cut_out
    )


def add_known(batch: ClipBatch, seen: KnownPictures) -> ClipBatch:
    """The clip with the captured views behind the others."""
    _, views, length = batch.grid
    blank = seen.frames.new_zeros(1, views, *seen.frames.shape[1:])
    known = torch.arange(views + len(seen.names)) >= views
    return replace(
        batch,
        cameras=combine([batch.cameras[0], seen.cameras], torch.cat)[None],
        frames=torch.cat([blank, seen.frames[None]], dim=1),
        known=known[None, :, None].expand(1, -1, length),
    )


def place_of(folder: Path, name: str) -> Place:
    """Where the pictures of a camera are. Raises: DataError that says where they were looked for."""
    stem = Path(name).stem if Path(name).suffix.lower() in IMAGES else name
    for parent in (folder / "images", folder):
        if (parent / stem).is_dir() and (pictures := pictures_in(parent / stem)):
            return pictures
        for path in sorted(parent.glob("*")) if parent.is_dir() else ():
            if path.stem == stem and path.suffix.lower() in IMAGES | VIDEOS:
                return path if path.suffix.lower() in VIDEOS else {stem: path}
    raise DataError(
        f"{folder}: no pictures of camera '{name}'; expected a folder {stem}/, a video {stem}.mp4 or a picture {stem}.png, in "
        "images/ or beside the cameras"
    )


def _count(place: Place) -> int:
    return video_length(place) if isinstance(place, Path) else len(place)


def known_note(seen: KnownPictures) -> str:
    """Sentence on what stays as it was captured."""
    note = f"{len(seen.names)} view(s) are as captured, behind the others: {', '.join(seen.names)}"
    return note if seen.cut_out else f"{note}; without an alpha channel, they keep their background"
