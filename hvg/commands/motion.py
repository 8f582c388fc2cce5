"""``hvg motion``: how a person in a video moves, with their matte and a video to check both."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import torch

from hvg.commands.progress import ProgressLines
from hvg.commands.words import only_options
from hvg.config.command_options import MotionOptions
from hvg.core import outputs
from hvg.core.arrays import write_archive
from hvg.core.eight_bit import frames_from_uint8
from hvg.core.errors import DataError
from hvg.core.files import whole_file
from hvg.geometry.keypoint_sets import MEDIAPIPE, MEDIAPIPE_BONES
from hvg.geometry.person_in_world import (
    FEET,
    SEEN,
    Landmarks,
    PersonInWorld,
    camera_intrinsics,
    in_picture,
    person_in_world,
    stature,
)
from hvg.media.person_detector import PersonDetector, detector_python
from hvg.media.person_overlay import draw_person
from hvg.media.photo import check_box
from hvg.media.steady_video import SteadyVideo, steady_video
from hvg.media.video import VideoWriter, video_frames

# Tells how many frames of how many a stage has done.
Progress = Callable[[str, int, int], None]
# Share of a video's frames in which somebody has to be found, and in which more than one may be.
FOUND, SEVERAL = 0.5, 0.25
# The joints' numbers and the side of both; "" for a bone between the sides.
BONES = [
    (MEDIAPIPE.index(a), MEDIAPIPE.index(b), a.partition("_")[0] if a.partition("_")[0] == b.partition("_")[0] else "")
    for a, b in MEDIAPIPE_BONES
]


def run(words: list[str]) -> int:
    """``hvg motion``; 0."""
    options = only_options(words, MotionOptions)
    with ProgressLines() as progress:
        for line in estimate(options, lambda stage, done, total: progress.update("motion", stage, done, total)):
            print(line, flush=True)
    return 0


def estimate(options: MotionOptions, progress: Progress) -> Iterator[str]:
    """Writes the three files; yields lines for the user.

    Raises: HvgError for outputs that cannot be and a missing detector, DataError for the video.
    """
    outputs.expect_suffix(options.out, ".npz")
    for path in (options.out, options.matte, options.overlay):
        outputs.try_file(path, "out")
        outputs.refuse_existing(path, options.overwrite)
    detector_python()
    video = steady_video(options.video, options.frames_per_second, lambda done, total: progress("read", done, total))
    if options.box is not None:
        check_box(str(options.video), options.box, video.size)
    with ExitStack() as files:
        matte, overlay = (files.enter_context(whole_file(path)) for path in (options.matte, options.overlay))
        seen = landmarks(video, matte, options, progress)
        intrinsics = camera_intrinsics(video.size, options.fov_degrees)
        person = person_in_world(
            seen,
            video.rate,
            intrinsics,
            tilt_degrees=options.tilt_degrees,
            height=options.height,
            smoothing=options.smoothing,
        )
        draw(video, matte, overlay, in_picture(person, intrinsics), person.confidence, progress)
        write_archive(options.out, arrays(person, video, intrinsics))
    yield f"{options.video}: {video.length} frames, {video.rate:.4g} a second; {found_line(seen)}"
    yield from (f"note: {note}" for note in [*video.notes, *notes(seen, person, options)])
    yield f"wrote {options.out}, {options.matte} and {options.overlay}"


def landmarks(video: SteadyVideo, matte: Path, options: MotionOptions, progress: Progress) -> Landmarks:
    """What the detector sees in every frame; the matte goes into a video. Raises: DataError where not one person is seen."""
    rows: list[tuple[np.ndarray, np.ndarray, np.ndarray, int]] = []
    total, several = len(video.picks), 0
    with VideoWriter(matte, video.rate) as writer, PersonDetector() as detector:
        for picture in video.frames():
            seen = detector.look(picture, options.box)
            several += seen.people > 1
            if several > max(1, SEVERAL * total):
                raise DataError(
                    f"{video.path}: shows {seen.people} people, as in frame {video.picks[len(rows)]}; expected one: say "
                    "box=[left,top,right,bottom], pixels, in which there is nobody else, or cut the video"
                )
            rows.append((seen.image, seen.world, seen.visibility, seen.people))
            writer.add(frames_from_uint8(torch.from_numpy(seen.matte)).expand(1, 3, -1, -1))
            progress("detect", len(rows), total)
    return often_found(video.path, Landmarks(*map(np.stack, zip(*rows, strict=True))))


def often_found(path: Path, seen: Landmarks) -> Landmarks:
    """Raises: DataError where nobody is found in too many frames."""
    found, total = int(seen.found.sum()), len(seen.found)
    if found < FOUND * total:
        raise DataError(
            f"{path}: a person is found in {found or 'none'} of its {total} frames; expected one in at least half of them, "
            "upright and mostly in the picture: cut the video, or say box=[left,top,right,bottom] around them"
        )
    return seen


def draw(
    video: SteadyVideo, matte: Path, overlay: Path, joints: np.ndarray, confidence: np.ndarray, progress: Progress
) -> None:
    """Writes the overlay. joints: (T, 33, 2), pixels, as the file's positions lie in the picture."""
    frames = zip(video.frames(), (frame for frame, _ in video_frames(matte)), joints, confidence, strict=True)
    with VideoWriter(overlay, video.rate) as writer:
        for number, (picture, mask, points, sure) in enumerate(frames, start=1):
            shown = draw_person(picture, mask[: picture.shape[0], : picture.shape[1], 0], points, sure, BONES)
            writer.add(frames_from_uint8(torch.from_numpy(shown.copy())).movedim(-1, 0)[None])
            progress("draw", number, len(joints))


def arrays(person: PersonInWorld, video: SteadyVideo, intrinsics: np.ndarray) -> dict[str, np.ndarray]:
    """What the file holds: a motion of positions as ``hvg.geometry.motion_files`` reads it, with its camera."""
    return {
        "joints": person.joints.astype(np.float32),
        "joint_names": np.array(MEDIAPIPE),
        "up": np.array("y"),
        "confidence": person.confidence.astype(np.float32),
        "frames_per_second": np.array(video.rate),
        "world_to_camera": person.world_to_camera,
        "intrinsics": intrinsics,
        "image_size": np.array(video.size),
    }


def found_line(seen: Landmarks) -> str:
    """In how many frames a person is."""
    found, total = int(seen.found.sum()), len(seen.found)
    return "a person is found in all of them" if found == total else f"a person is found in {found} of {total}"


def notes(seen: Landmarks, person: PersonInWorld, options: MotionOptions) -> Iterator[str]:
    """What a user should know of this result."""
    if several := int((seen.people > 1).sum()):
        yield f"more than one person is seen in {several} of {len(seen.found)} frames; one is followed"
    if not seen.found.all():
        missing = np.flatnonzero(~seen.found)
        yield f"nobody is found in frame {missing[0]} and {len(missing) - 1} others; joints there are guessed, confidence 0"
    if (np.median(person.confidence[:, FEET], axis=1) < SEEN).mean() > 0.5:
        yield "feet are mostly out of sight; where the floor is, is a guess"
    if options.height is None:
        yield f"the person is taken to be {stature(person.joints):.2f} m tall; height= says otherwise"
