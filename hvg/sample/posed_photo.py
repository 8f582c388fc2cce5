"""From where a photo was taken and how its person stands, for systems that look the person up in it by body and camera.

Either may be given. What is not is what training photos have on average: a camera in front, as far as theirs, of a person who
stands at rest.
"""

from dataclasses import replace

import torch

from hvg.config.command_options import SampleOptions
from hvg.core.errors import DataError, HvgError
from hvg.geometry.motion import resample
from hvg.geometry.motion_files import load_motion
from hvg.media.images import read_image_8bit
from hvg.media.photo import place
from hvg.parts.following import STILL, Shape
from hvg.parts.scene import BodyModel
from hvg.sample.camera_paths import around, read_cameras
from hvg.values.body import BodyMotion
from hvg.values.cameras import Cameras
from hvg.values.clip import Reference

# Metres from the pelvis down to the middle of a standing person: where the training cameras look.
PELVIS_TO_MIDDLE = 0.03


def check_photo_options(options: SampleOptions) -> None:
    """Raises: HvgError for options of the photo that contradict each other."""
    if options.reference_camera is not None and options.box is not None:
        raise HvgError("box= cuts the photo, whose whole picture reference_camera= is the camera of; give one")


def pose_photo(
    reference: Reference, person: BodyModel, shape: Shape, options: SampleOptions, optics: dict[str, float]
) -> tuple[Reference, list[str]]:
    """The photo with the body in it and its camera, and what to say of what was assumed.

    optics: ``distance`` (metres) and ``fov_degrees`` of the training photos' cameras. Raises: DataError for files.
    """
    body, notes = _body(person, shape, options), []
    if options.reference_motion is None:
        notes.append("the photo's person is taken to stand at rest, arms spread; reference_motion= says how they stand")
    height, width = reference.frames.shape[-2:]
    if options.reference_camera is None:
        target = body.place("pelvis")[0, 0] - torch.tensor([0.0, PELVIS_TO_MIDDLE, 0.0])
        cameras = around(target, 1, elevation_degrees=0.0, image_size=(height, width), **optics).cameras
        notes.append(
            f"the photo is taken to be from the front, {optics['distance']:g} m away, {optics['fov_degrees']:g} degrees of view; "
            "reference_camera= says from where"
        )
    else:
        cameras = _camera(options).resized((height, width))[None]
    return replace(reference, body=body, cameras=cameras), notes


def whole_photo(options: SampleOptions, size: tuple[int, int], background: tuple[float, float, float]) -> Reference:
    """All of the photo in ``size`` (height, width), as its given camera sees it.

    Raises: DataError where that camera is of a picture of another aspect.
    """
    photo, alpha = read_image_8bit(options.reference)
    seen = _camera(options).image_size
    for what, (height, width) in (("the photo is", photo.shape[1:]), ("the video is", size)):
        if abs(height * seen[1] - width * seen[0]) > max(seen):
            raise DataError(
                f"{options.reference_camera}: its picture is {seen[1]} wide and {seen[0]} high, {what} {width} wide and {height} "
                "high; expected the same aspect"
            )
    return place(photo, alpha, size, 1.0, background)


def _camera(options: SampleOptions) -> Cameras:
    """The one camera (1) of the file that is given."""
    assert options.reference_camera is not None
    cameras = read_cameras(options.reference_camera, options.camera_up).cameras
    if cameras.shape != (1, 1):
        raise DataError(
            f"{options.reference_camera}: holds {cameras.shape[0]} view(s) of {cameras.shape[1]} frame(s); expected the camera "
            "of the photo alone"
        )
    return cameras[:, 0]


def _body(person: BodyModel, shape: Shape, options: SampleOptions) -> BodyMotion:
    """The person (B = T = 1) as the first frame of the given motion has them, or at rest."""
    if options.reference_motion is None:
        return person.animate(STILL, shape, mesh=True)
    motion = load_motion(options.reference_motion, options.up, options.convention, options.person)
    return person.animate(resample(motion, torch.arange(1)), shape, mesh=True)
