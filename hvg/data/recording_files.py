"""Pictures, masks and motions in a recording's folder, found and counted without being read."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from hvg.core.errors import DataError
from hvg.data.recordings import Track, place_name
from hvg.media.folder_video import Place
from hvg.media.images import picture_size
from hvg.media.listing import VIDEOS, listed, pictures_in
from hvg.media.video import video_frames, video_length
from hvg.values.cameras import Cameras

MASKS = ("masks", "fmasks", "fmask", "mask")
# Of ``motion``, what is looked for; a folder is EasyMocap's.
_MOTIONS = ("motion.npz", "motion.bvh", "motion")


def pictures_of(folder: Path) -> dict[str, Place]:
    """Camera -> its pictures, in natural order: a folder or a video each, or one picture each. Raises: DataError."""
    if not folder.is_dir():
        raise DataError(f"{folder}: there is no such folder; expected a folder, a video or a picture for each camera")
    inner = [path for path in listed(folder) if path.is_dir() or path.suffix.lower() in VIDEOS]
    images = pictures_in(folder)
    if inner and images:
        raise DataError(f"{folder}: holds pictures and also '{inner[0].name}'; expected either")
    places: dict[str, Place] = {name: {name: file} for name, file in images.items()}
    for path in inner:
        name = path.name if path.is_dir() else path.stem
        if name in places:
            raise DataError(f"{folder}: two cameras are named '{name}'")
        places[name] = pictures_in(path) if path.is_dir() else path
        if not places[name]:
            raise DataError(f"{path}: holds no pictures")
    if not places:
        raise DataError(f"{folder}: holds no folders, videos or pictures; expected one for each camera")
    return places


def masks_folder(recording: Path) -> Path | None:
    """Where masks lie; None where there is no such folder."""
    return next((recording / name for name in MASKS if (recording / name).is_dir()), None)


def find_motion(recording: Path) -> Path | None:
    """The motion's file or folder; None where there is none."""
    return next((recording / name for name in _MOTIONS if (recording / name).exists()), None)


def length_of(place: Place) -> int:
    """T. Raises: DataError for a video that cannot be read."""
    return video_length(place) if isinstance(place, Path) else len(place)


def first_size(place: Place) -> tuple[int, int]:
    """Height and width of the first picture as it is shown. Raises: DataError where it cannot be read."""
    if not isinstance(place, Path):
        return picture_size(next(iter(place.values())))
    frame, _ = next(video_frames(place))
    return frame.shape[0], frame.shape[1]


def make_tracks(
    pictures: Mapping[str, Place], masks: Mapping[str, Place] | None, cameras: Mapping[str, Callable[[], Cameras]]
) -> tuple[dict[str, Track], int]:
    """The tracks of some cameras, and T. Raises: DataError where cameras or masks lack what others have."""
    tracks: dict[str, Track] = {}
    first_name, first = next(iter(pictures.items()))
    length = length_of(first)
    for name, place in pictures.items():
        if (found := length_of(place)) != length:
            raise DataError(
                f"{place_name(place)}: {found} frames, but camera '{first_name}' has {length}; expected equally many"
            )
        if masks is not None:
            _check_masks(name, place, masks)
        tracks[name] = Track(frames=place, cameras=cameras[name], masks=None if masks is None else masks[name])
    return tracks, length


def _check_masks(name: str, place: Place, masks: Mapping[str, Place]) -> None:
    """Raises: DataError where a camera's masks are not those of its pictures."""
    if name not in masks:
        raise DataError(f"camera '{name}' has no masks; expected them beside those of {', '.join(list(masks)[:3])}")
    mask = masks[name]
    if isinstance(place, Path) or isinstance(mask, Path) or len(place) == len(mask) == 1:
        if (found := length_of(mask)) != length_of(place):
            raise DataError(f"{place_name(mask)}: {found} masks; expected {length_of(place)}, one for each picture")
        return
    lacking = next((frame for frame in place if frame not in mask), None)
    if lacking is not None:
        raise DataError(f"{place_name(mask)}: has no mask '{lacking}'; expected one for {place[lacking].name}")
    if len(mask) != len(place):
        extra = next(frame for frame in mask if frame not in place)
        raise DataError(f"{place_name(mask)}: mask '{extra}' has no picture; expected one for each")


def body_places(length: int, body_every: int, picture_every: int, start: int) -> tuple[int, Sequence[float] | None]:
    """T of the frames that have bodies, and where in the motion each is; None: one for one.

    body_every: bodies are there of every so many pictures; between them they are interpolated. picture_every: pictures are
    every so many frames of the motion. start: that of the first picture.
    """
    if (body_every, picture_every, start) == (1, 1, 0):
        return length, None
    # Past the last picture that has a body of its own there is none to come.
    count = (length - 1) // body_every * body_every + 1
    return count, [start + frame * picture_every / body_every for frame in range(count)]
