"""What a request says of the scene: who moves where, before which cameras. No model is needed for it."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hvg.config.camera_options import MovedCameras
from hvg.config.request_words import RequestWords
from hvg.config.settings import RunConfig
from hvg.core.errors import HvgError, did_you_mean
from hvg.geometry.camera_moves import NEAREST
from hvg.geometry.motion import Motion
from hvg.geometry.motion_frames import motion_places
from hvg.sample.camera_paths import PRESETS, CameraPath, around, moved, read_cameras
from hvg.sample.known_pictures import read_known, without_known
from hvg.sample.posed_photo import PELVIS_TO_MIDDLE
from hvg.sample.shown_body import Shown, shown_body
from hvg.values.body import BodyMotion
from hvg.values.cameras import Cameras

# Options that a file of cameras already answers.
_PRESET_OPTIONS = ("elevation_degrees", "distance", "fov_degrees", "image_size", *MovedCameras.model_fields)


@dataclass(frozen=True, kw_only=True)
class Framing:
    """Framing of people.

    distance: metres, camera to pelvis. views: cameras around the person. frames: of the video.
    """

    image_size: tuple[int, int]
    distance: float
    fov_degrees: float
    views: int
    frames: int


@dataclass(frozen=True, kw_only=True)
class Asked:
    """The person and the cameras of a request.

    cameras: (V, T), those whose pictures are to be made, with their ``names``. captured: those whose pictures are given, as
    their file has them; None where none are.
    """

    shown: Shown
    cameras: Cameras
    names: tuple[str, ...]
    captured: CameraPath | None


def training_framing(config: RunConfig, options: RequestWords, given: CameraPath | None) -> Framing:
    """The dataset's framing, with what the options and a file of cameras say instead.

    Raises: HvgError where nothing says it, or two say different numbers of frames.
    """
    told: dict[str, Any] = {
        key: getattr(options, key) or getattr(config.dataset.config, key, None) for key in Framing.__dataclass_fields__
    }
    if given is not None:
        told |= {"image_size": given.cameras.image_size, "views": given.cameras.shape[0]}
        if given.num_frames is not None:
            told["frames"] = given.num_frames
            if options.frames not in (None, given.num_frames):
                raise HvgError(
                    f"frames={options.frames}, but the cameras of {options.camera} move for {given.num_frames}"
                )
    missing = [f"{key}=" for key, value in told.items() if value is None]
    if missing:
        raise HvgError(
            f"the model's dataset '{config.dataset.name}' does not say how people are framed; give {' '.join(missing)}"
        )
    size = told["image_size"]
    return Framing(**{**told, "image_size": (size, size) if isinstance(size, int) else tuple(size)})


def camera_file(options: RequestWords) -> CameraPath | None:
    """The cameras of the file that ``camera`` names; None for a preset.

    Raises: HvgError for a name that is neither, and for options that the choice leaves no room for.
    """
    if options.camera in PRESETS:
        views = PRESETS[options.camera]
        if views is not None and options.views not in (None, views):
            raise HvgError(
                f"camera={options.camera} is of {views} view(s), not {options.views}; camera=orbit takes any number"
            )
        if options.camera_up != "auto" and options.known is None:
            raise HvgError(f"camera_up={options.camera_up} is for files of cameras; camera={options.camera} is y up")
        return None
    path = Path(options.camera)
    if path.suffix != ".json" and not path.exists():
        raise HvgError(
            f"camera: no preset is named '{options.camera}', nor is it a file of cameras. "
            f"{did_you_mean(options.camera, PRESETS)}",
            then="hvg sample --help",
        )
    given = read_cameras(path, options.camera_up)
    answered = [f"{key}=" for key in _PRESET_OPTIONS if key in options.model_fields_set]
    if answered:
        raise HvgError(f"{' '.join(answered)} cannot be given together with {path}, which says where the cameras are")
    if options.views not in (None, len(given.names)):
        raise HvgError(f"views={options.views}, but {path} holds {len(given.names)} cameras")
    return given


def asked_places(options: RequestWords, motion: Motion, framing: Framing, given: CameraPath | None) -> Tensor:
    """Places (T,) in the motion, as of ``motion_places``; of a driving video's stand-in, whole frames.

    given: cameras, in place of a preset. Raises: HvgError for frames that the motion does not have.
    """
    places = motion_places(
        motion,
        options.frames or (given and given.num_frames),
        evenly=framing.frames,
        start=options.start,
        end=options.end,
        stride=options.stride,
        real_time=options.real_time,
        frames_per_second=options.frames_per_second,
    )
    return places.round() if options.motion is None else places


def asked_scene(
    config: RunConfig,
    options: RequestWords,
    motion: Motion,
    places: Tensor,
    framing: Framing,
    given: CameraPath | None,
    *,
    mesh: bool,
    seed: int,
    poses_photo: bool = False,
) -> Asked:
    """The person at ``places`` (T,) of a motion, as of ``shown_body``, before the cameras. seed: of the unrest of cameras held
    by hand.

    Raises: HvgError for a shape or cameras that cannot be had.
    """
    shown = shown_body(config, options, motion, places, mesh=mesh, poses_photo=poses_photo)
    path = given or preset(options, framing, shown.body, seed)
    captured = read_known(options, config)
    path = path if captured is None else without_known(path, captured)
    cameras = path.cameras.expand(path.cameras.shape[0], framing.frames)
    return Asked(shown=shown, cameras=cameras, names=path.names, captured=captured)


def preset(options: RequestWords, framing: Framing, body: BodyMotion, seed: int) -> CameraPath:
    """The preset's cameras, aimed as in training: a little below the pelvis' mean position; and moved as the options say.

    Raises: HvgError for a dolly that reaches the person.
    """
    target = looked_at(body)
    path = around(
        target,
        PRESETS[options.camera] or framing.views,
        elevation_degrees=options.elevation_degrees,
        distance=framing.distance,
        fov_degrees=framing.fov_degrees,
        image_size=framing.image_size,
    )
    moves = {key: getattr(options, key) for key in MovedCameras.model_fields}
    if not any(moves.values()):
        return path
    if options.dolly > framing.distance - NEAREST:
        raise HvgError(
            f"dolly={options.dolly:g} goes to the person, {framing.distance:g} m away; stop {NEAREST:g} m before"
        )
    return replace(path, cameras=moved(path.cameras, target, framing.frames, seed=seed, **moves))


def looked_at(body: BodyMotion) -> Tensor:
    """Where training's cameras look, (3), world, metres: a little below the pelvis' mean position."""
    return body.place("pelvis")[0].mean(dim=0) - torch.tensor([0.0, PELVIS_TO_MIDDLE, 0.0])


def optics(config: RunConfig, framing: Framing) -> dict[str, float]:
    """``distance`` (metres) and ``fov_degrees`` of the cameras that training photos are taken with."""
    trained = config.dataset.config
    return {key: getattr(trained, key, getattr(framing, key)) for key in ("distance", "fov_degrees")}
