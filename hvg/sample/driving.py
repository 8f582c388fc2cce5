"""A user's driving video as training showed such videos: one person on the background, as large as there."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from hvg.config.command_options import SampleOptions
from hvg.config.settings import RunConfig
from hvg.config.wiring import needed_fields
from hvg.core.errors import DataError, HvgError
from hvg.core.next_commands import FILM
from hvg.core.required import required
from hvg.data.driving import close_up_sizes
from hvg.geometry.motion import Motion
from hvg.geometry.motion_files import load_motion
from hvg.geometry.motion_frames import ASSUMED_RATE
from hvg.media.crops import Crop, Picture, cut
from hvg.media.person_detector import PersonDetector, Sighting, environment
from hvg.media.photo import HALF, Box, check_box, place
from hvg.media.steady_video import SteadyVideo, steady_video
from hvg.media.video import video_frames
from hvg.values.clip import CLOSE_UPS, DRIVING_FIELDS, ClipBatch

# Pictures are held at so many times the size that is wanted, at most.
FINER = 4
# Side of the pictures of close-ups, pixels, where the data set of training does not say it.
CLOSE_UP_SIZE = 64
# MediaPipe's points of the left hand: wrist, little finger, index finger, thumb; and the elbow. The right one's follow each.
HAND_POINTS, ELBOW, WRIST = (15, 17, 19, 21), 13, 15
# Side of a hand's picture to the length of the forearm below it: .3 m to .25 m.
HAND_SIDE = 1.2
# Its points of the face, each left and right: eyes, ears, corners of the mouth.
EYES, EARS, MOUTH = (2, 5), (7, 8), (9, 10)
# Side of a face's picture to its breadth from ear to ear, .3 m to .15 m; and that breadth to the way from eyes to mouth, which a
# face shows that is seen from the side, too.
FACE_SIDE, FACE_BREADTH = 2.0, 2.3


@dataclass(frozen=True)
class DrivingView:
    """How driving videos looked in training. size: (height, width), pixels. fraction: of the height, that the person takes.

    background: sRGB in [0, 1]. close_ups: close-up that is wanted -> side of its pictures, pixels.
    """

    size: tuple[int, int]
    fraction: float
    background: tuple[float, float, float]
    close_ups: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class _Moment:
    """A frame: picture (h, w, 3) uint8; cover (h, w) uint8, 255 where the person is, None where nobody says; points of it."""

    picture: np.ndarray
    cover: np.ndarray | None = None
    seen: Sighting | None = None


def open_driving(options: SampleOptions) -> SteadyVideo | None:
    """The driving video, read once for its length; None where none is given. Raises: DataError for one that cannot be used."""
    if options.driving is None:
        if options.driving_box is not None or options.driving_matte is not None:
            raise HvgError("driving_box= and driving_matte= are of a driving video; give driving=VIDEO")
        return None
    video = steady_video(options.driving)
    if options.driving_box is not None:
        check_box(str(options.driving), options.driving_box, video.size)
    return video


def finds_people() -> bool:
    """Whether the detector of `hvg motion` is installed."""
    return (environment() / "bin" / "python").is_file()


def still_motion(video: SteadyVideo) -> Motion:
    """A person who stands for as long as a video lasts, so that its frames can be chosen as a motion's are."""
    return Motion(
        rotations={"pelvis": torch.zeros(len(video.picks), 3)},
        frames_per_second=video.rate,
        notes=tuple(f"{video.path}: {note}" for note in video.notes),
    )


def asked_motion(options: SampleOptions, video: SteadyVideo | None) -> Motion:
    """The motion that the options name, or of one who stands as long as the driving video. Raises: HvgError without both."""
    if options.motion is not None:
        return load_motion(options.motion, options.up, options.convention, options.person)
    if video is None:
        raise HvgError(
            "motion: nothing says how the person moves; give motion=FILE, or driving=VIDEO to a model that reads one",
            then=FILM,
        )
    return still_motion(video)


def moments_beside(video: SteadyVideo, motion: Motion, places: Tensor) -> list[int]:
    """The moments of a driving video that belong to places (T) of a motion: both begin together, and are equally fast.

    Raises: HvgError where the video ends before.
    """
    rate = motion.frames_per_second or ASSUMED_RATE
    seconds = (places - places[0]) / rate
    found = (seconds * video.rate).round().long().tolist()
    if found[-1] >= len(video.picks):
        raise HvgError(
            f"{video.path}: lasts {len(video.picks) / video.rate:.2f} s, and the motion's frames that are taken "
            f"{float(seconds[-1]):.2f} s; take fewer of them (end=), or leave motion= out"
        )
    return found


def driven(
    batch: ClipBatch,
    config: RunConfig,
    options: SampleOptions,
    video: SteadyVideo,
    moments: Sequence[int],
    view: DrivingView,
) -> tuple[ClipBatch, list[str]]:
    """The clip (B = 1) with the driving video at these moments, and what to say of it; with close-ups that are read."""
    read = frozenset[str]().union(*(fields for _, fields in needed_fields(config, training=False).values()))
    sizes = close_up_sizes(config.dataset.config)
    view = replace(view, close_ups={name: sizes.get(name, CLOSE_UP_SIZE) for name in CLOSE_UPS if name in read})
    frames, near, notes = driving_frames(options, video, moments, view)
    unread = [] if read & {*DRIVING_FIELDS} else ["no part of this model reads the driving video"]
    return replace(batch, driving=frames, **near), [*notes, *unread]


def driving_frames(
    options: SampleOptions, video: SteadyVideo, moments: Sequence[int], view: DrivingView
) -> tuple[Tensor, dict[str, Tensor], list[str]]:
    """The frames (1, T, 3, H, W) of a driving video at these moments, its close-ups (1, T, N, 3, h, h), and what to say of them.

    All frames are cut alike, around all places where the person is. Raises: DataError where nobody is in any of them.
    """
    found = dict(zip(sorted({*moments}), _moments(options, video, sorted({*moments}), view), strict=True))
    covers = [x.cover for x in found.values() if x.cover is not None]
    empty = sum(not (cover >= HALF).any() for cover in covers)
    if covers and empty == len(covers):
        where = "" if options.driving_box is None else " inside driving_box="
        raise DataError(
            f"{options.driving_matte or video.path}: shows nobody{where} in the {len(covers)} frames that are taken; expected a "
            "video of one person, mostly in the picture"
        )
    box = _around(covers) or _scaled(options.driving_box, video.size, next(iter(found.values())).picture)
    fraction = 1.0 if box is None else view.fraction
    made = {moment: _placed(x, box, fraction, view) for moment, x in found.items()}
    frames = torch.stack([made[moment] for moment in moments])[None]
    near = {}
    for close_up in view.close_ups:
        shown = {moment: _near(x, view, close_up) for moment, x in found.items()}
        near[close_up] = torch.stack([shown[moment] for moment in moments])[None]
    return frames, near, _notes(options, video, len(covers), empty)


def _notes(options: SampleOptions, video: SteadyVideo, looked: int, empty: int) -> list[str]:
    if not looked:
        return [
            f"{video.path}: nobody looked whether it shows a person, and what is around them stays: give driving_matte=, or "
            "install the detector of `hvg motion`"
        ]
    return [f"{options.driving_matte or video.path}: nobody is seen in {empty} of {looked} frames"] if empty else []


def _moments(
    options: SampleOptions, video: SteadyVideo, moments: Sequence[int], view: DrivingView
) -> Iterator[_Moment]:
    """The frames at these moments, increasing, with the person in them: by the matte where there is one, else as the detector
    sees them, which finds hands and face, too.
    """
    wanted = {*moments}
    pictures = (x for number, x in enumerate(video.frames()) if number in wanted)
    matte, box = options.driving_matte, options.driving_box
    covers = None if matte is None else _covers(matte, video, moments)
    looks = finds_people() and (covers is None or len(view.close_ups) > 0)
    with PersonDetector(still=True) if looks else nullcontext() as detector:
        for picture in pictures:
            seen = None if detector is None else detector.look(picture, box)
            found = (seen and seen.matte) if covers is None else next(covers)
            cover = None if found is None else _inside(found, _scaled(box, video.size, found))
            yield _Moment(*_smaller(picture, cover, view), seen)


def _covers(matte: Path, video: SteadyVideo, moments: Sequence[int]) -> Iterator[np.ndarray]:
    """(H, W) uint8 of a matte at these moments. Raises: DataError for one of another length or shape."""
    wanted = {int(video.picks[moment]) for moment in moments}
    held: dict[int, np.ndarray] = {}
    count = 0
    for number, (pixels, _) in enumerate(video_frames(matte)):
        count += 1
        if number in wanted:
            if abs(pixels.shape[0] * video.size[1] - pixels.shape[1] * video.size[0]) > max(video.size):
                raise DataError(
                    f"{matte}: is {pixels.shape[1]} x {pixels.shape[0]} pixels, the driving video {video.size[1]} x "
                    f"{video.size[0]}; expected the same shape"
                )
            held[number] = np.ascontiguousarray(pixels.max(axis=-1))
    if count != video.length:
        raise DataError(f"{matte}: has {count} frames, the driving video {video.length}; expected as many")
    yield from (held[int(video.picks[moment])] for moment in moments)


def _inside(cover: np.ndarray, box: Box | None) -> np.ndarray:
    """The cover (H, W), 0 outside of a box."""
    if box is None:
        return cover
    left, top, right, bottom = box
    kept = np.zeros_like(cover)
    kept[top:bottom, left:right] = cover[top:bottom, left:right]
    return kept


def _smaller(picture: np.ndarray, cover: np.ndarray | None, view: DrivingView) -> tuple[np.ndarray, np.ndarray | None]:
    """Picture and cover, of one size, no more than ``FINER`` times as fine as wanted."""
    height, width = picture.shape[:2]
    scale = min(1.0, FINER * max(view.size) / max(height, width))
    size = max(1, round(width * scale)), max(1, round(height * scale))

    def resized(x: np.ndarray) -> np.ndarray:
        image = Image.fromarray(np.ascontiguousarray(x))
        return np.asarray(image if image.size == size else image.resize(size, Image.Resampling.BILINEAR))

    return resized(picture), None if cover is None else resized(cover)


def _around(covers: Sequence[np.ndarray]) -> Box | None:
    """The box around all that the covers cover; None without any."""
    if not covers:
        return None
    whole = np.max(np.stack(covers), axis=0) >= HALF
    rows, columns = np.flatnonzero(whole.any(axis=1)), np.flatnonzero(whole.any(axis=0))
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def _scaled(box: Box | None, size: tuple[int, int], picture: np.ndarray) -> Box | None:
    """A box of the video's pixels in those of a picture of it that was made smaller."""
    if box is None:
        return None
    scale = picture.shape[1] / size[1]
    left, top, right, bottom = (round(edge * scale) for edge in box)
    return left, top, max(left + 1, right), max(top + 1, bottom)


def _placed(moment: _Moment, box: Box | None, fraction: float, view: DrivingView) -> Tensor:
    """A frame (3, H, W) in [-1, 1], what is in the box in its middle."""
    height, width = moment.picture.shape[:2]
    left, top, right, bottom = box or (0, 0, width, height)
    picture = torch.from_numpy(moment.picture[top:bottom, left:right].copy()).movedim(-1, 0)
    cover = None if moment.cover is None else torch.from_numpy(moment.cover[top:bottom, left:right].copy())[None]
    return place(picture, cover, view.size, fraction, view.background).frames[0, 0]


def _near(moment: _Moment, view: DrivingView, close_up: str) -> Tensor:
    """The pictures (N, 3, h, h) in [-1, 1] of a frame's close-up; the background where nobody is."""
    size, count = view.close_ups[close_up], len(CLOSE_UPS[close_up])
    behind = torch.tensor(view.background).view(3, 1, 1).expand(count, 3, size, size) * 2 - 1
    seen = required(moment.seen, "what the detector saw")
    if seen.is_empty:
        return behind
    scale = moment.picture.shape[1] / seen.matte.shape[1]
    points, whole = seen.image * scale, moment.picture.shape[:2]
    is_face = close_up == "driving_face"
    crops = [face_crop(points, whole)] if is_face else [hand_crop(points, side, whole) for side in range(2)]
    pictures = [Picture("a driving frame", moment.picture, moment.cover)]
    made = [cut(pictures, None, crop, (size, size), view.background)[0][0] for crop in crops]
    return torch.stack(made) / 127.5 - 1


def hand_crop(points: np.ndarray, side: int, size: tuple[int, ...]) -> Crop:
    """The square around a hand, left (0) or right (1), of the detector's points (33, 2), pixels, in a picture of ``size``."""
    hand = points[[point + side for point in HAND_POINTS]].mean(axis=0)
    return _square(hand, HAND_SIDE * float(np.linalg.norm(points[WRIST + side] - points[ELBOW + side])), size)


def face_crop(points: np.ndarray, size: tuple[int, ...]) -> Crop:
    """The square around the face of the detector's points (33, 2), pixels, in a picture of ``size``."""
    eyes, ears, mouth = (points[[*pair]] for pair in (EYES, EARS, MOUTH))
    breadth = float(np.linalg.norm(ears[0] - ears[1]))
    length = float(np.linalg.norm(eyes.mean(axis=0) - mouth.mean(axis=0)))
    return _square(ears.mean(axis=0), FACE_SIDE * max(breadth, FACE_BREADTH * length), size)


def _square(middle: np.ndarray, side: float, size: tuple[int, ...]) -> Crop:
    """The square around a place of a picture of ``size``, pixels; one of two pixels at least."""
    length = max(2.0, side)
    return Crop(float(middle[0]) - length / 2, float(middle[1]) - length / 2, length, length, (size[0], size[1]))
