"""From where a photo was taken and how its person stands, for systems that look the person up in it by body and camera.

Either may be given. What is not is what training photos have on average: a camera in front, as far as theirs, of a person who
stands at rest.
"""

from dataclasses import replace
from pathlib import Path

import torch

from hvg.config.command_options import SampleOptions
from hvg.core.errors import DataError, HvgError
from hvg.geometry.motion import resample
from hvg.geometry.motion_files import load_motion
from hvg.media.images import read_image_8bit
from hvg.media.photo import photos_of_one, place
from hvg.parts.following import STILL, Shape
from hvg.parts.scene import BodyModel
from hvg.sample.camera_paths import around, read_cameras
from hvg.values.body import BodyMotion
from hvg.values.cameras import Cameras
from hvg.values.clip import Reference

_WHENCE = "the {} photos are taken to be from evenly around the person, the first from the front"
# Metres from the pelvis down to the middle of a standing person: where the training cameras look.
PELVIS_TO_MIDDLE = 0.03


def check_photo_options(options: SampleOptions) -> None:
    """Raises: HvgError for options of the photo that contradict each other."""
    if options.reference_camera is not None and options.box is not None:
        raise HvgError("box= cuts the photo, whose whole picture reference_camera= is the camera of; give one")
    if options.box is not None and len(options.reference) > 1:
        raise HvgError(
            f"box= says where the person is in one photo, and {len(options.reference)} are given; give cut-outs (PNG with alpha)"
        )


def pose_photo(
    reference: Reference, person: BodyModel, shape: Shape, options: SampleOptions, optics: dict[str, float]
) -> tuple[Reference, list[str]]:
    """The photos with the body in them and their cameras, and what to say of what was assumed.

    optics: ``distance`` (metres) and ``fov_degrees`` of the training photos' cameras. Raises: DataError for files.
    """
    body, notes = _body(person, shape, options), []
    if options.reference_motion is None:
        notes.append("the photo's person is taken to stand at rest, arms spread; reference_motion= says how they stand")
    count, (height, width) = reference.frames.shape[1], reference.frames.shape[-2:]
    if options.reference_camera is None:
        target = body.place("pelvis")[0, 0] - torch.tensor([0.0, PELVIS_TO_MIDDLE, 0.0])
        cameras = around(target, count, elevation_degrees=0.0, image_size=(height, width), **optics).cameras[:, 0]
        whence = "the photo is taken to be from the front" if count == 1 else _WHENCE.format(count)
        notes.append(
            f"{whence}, {optics['distance']:g} m away, {optics['fov_degrees']:g} degrees of view; "
            "reference_camera= says from where"
        )
    else:
        cameras = _cameras(options).resized((height, width))
    body = body.select(torch.zeros(count, dtype=torch.int64))
    return replace(reference, body=body, cameras=cameras[None]), notes


def whole_photos(options: SampleOptions, size: tuple[int, int], background: tuple[float, float, float]) -> Reference:
    """All of the photos in ``size`` (height, width), as their given cameras see them. Raises: as of ``_whole_photo``."""
    seen = _cameras(options).image_size
    return photos_of_one([_whole_photo(path, options, seen, size, background) for path in options.reference])


def _whole_photo(
    path: Path,
    options: SampleOptions,
    seen: tuple[int, int],
    size: tuple[int, int],
    background: tuple[float, float, float],
) -> Reference:
    """seen: size of the camera's picture. Raises: DataError where that has another aspect than the photo, or than ``size``."""
    photo, alpha = read_image_8bit(path)
    for what, (height, width) in (("the photo is", photo.shape[1:]), ("the video is", size)):
        if abs(height * seen[1] - width * seen[0]) > max(seen):
            raise DataError(
                f"{options.reference_camera}: its picture is {seen[1]} wide and {seen[0]} high, {what} {width} wide and {height} "
                "high; expected the same aspect"
            )
    return place(photo, alpha, size, 1.0, background)


def _cameras(options: SampleOptions) -> Cameras:
    """The cameras (R) of the file that is given, one for each photo."""
    assert options.reference_camera is not None
    cameras = read_cameras(options.reference_camera, options.camera_up).cameras
    count = len(options.reference)
    if cameras.shape != (count, 1):
        whose = "the camera of the photo alone" if count == 1 else f"those of the {count} photos alone"
        raise DataError(
            f"{options.reference_camera}: holds {cameras.shape[0]} view(s) of {cameras.shape[1]} frame(s); expected {whose}"
        )
    return cameras[:, 0]


def _body(person: BodyModel, shape: Shape, options: SampleOptions) -> BodyMotion:
    """The person (B = T = 1) as the first frame of the given motion has them, or at rest."""
    if options.reference_motion is None:
        return person.animate(STILL, shape, mesh=True)
    motion = load_motion(options.reference_motion, options.up, options.convention, options.person)
    return person.animate(resample(motion, torch.arange(1)), shape, mesh=True)
