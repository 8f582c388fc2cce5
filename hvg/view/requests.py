"""Scenes of what ``hvg sample`` would be asked: a motion and cameras, before anything is sampled."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch

from hvg.config.composition import compose, recompose
from hvg.config.request_words import RequestWords
from hvg.config.settings import RunConfig
from hvg.config.view_options import ViewOptions
from hvg.core.eight_bit import frames_to_uint8
from hvg.core.errors import HvgError
from hvg.core.required import required
from hvg.geometry.motion import Motion
from hvg.geometry.motion_files import load_motion
from hvg.geometry.motion_frames import places_note
from hvg.model.saved_run import trained_config
from hvg.parts.following import STILL
from hvg.sample.asked_path import Asked, Framing, asked_places, asked_scene, camera_file, optics, training_framing
from hvg.sample.camera_paths import CameraPath
from hvg.sample.known_pictures import KnownPictures, Moments, known_note, see_known
from hvg.sample.request_notes import first_view_note, out_of_sight_note, upright_note
from hvg.sample.whose_shape import asked_person
from hvg.values.clip import ClipBatch
from hvg.values.tensors import combine
from hvg.view.pictures import small_pictures
from hvg.view.scene import Scene, figure, make_scene

# All meshes are held: 0.3 GB of Anny's.
MOST_FRAMES = 2000


def request_scene(options: ViewOptions, overrides: Sequence[str]) -> Scene:
    """The person and the cameras that ``hvg sample`` would be asked for, with the pictures of captured cameras among them.

    overrides: of a run, without a checkpoint; else of how it is sampled. Raises: HvgError for what cannot be used.
    """
    asked_person(options)
    given, motion = camera_file(options), asked_motion(options)
    config = (
        compose([*overrides, *options.overrides])
        if options.checkpoint is None
        else recompose(trained_config(options.checkpoint), overrides)
    )
    asked, framing, notes = place(config, options, motion, given, options.seed or 0)
    cameras, names = asked.cameras, asked.names
    pictures: list[np.ndarray | None] = [None] * len(names)
    if asked.captured is not None:
        seen = _seen(config, options, asked, framing, motion)
        cameras, names = combine([cameras, seen.cameras], torch.cat), (*names, *seen.names)
        pictures += [small_pictures(x) for x in frames_to_uint8(seen.frames)]
        notes.append(known_note(seen))
    title = f"{options.motion.name if options.motion else 'a person who stands'} before {options.camera}"
    return make_scene(
        title, [figure("person", asked.shown.body)], (cameras, names), pictures, options.frames_per_second, notes
    )


def asked_motion(options: RequestWords) -> Motion:
    """The motion that the options name; somebody who stands where they name none."""
    if options.motion is None:
        return STILL
    return load_motion(options.motion, options.up, options.convention, options.person)


def place(
    config: RunConfig, options: RequestWords, motion: Motion, given: CameraPath | None, seed: int
) -> tuple[Asked, Framing, list[str]]:
    """Person and cameras of a request, its framing, and what to say of it."""
    framing = training_framing(config, options, given)
    places = asked_places(options, motion, framing, given)
    if len(places) > MOST_FRAMES:
        raise HvgError(
            f"{len(places)} frames would be shown, of at most {MOST_FRAMES}; take fewer: stride=, end=, frames="
        )
    framing = replace(framing, frames=len(places))
    asked = asked_scene(config, options, motion, places, framing, given, mesh=True, seed=seed)
    batch = ClipBatch(cameras=asked.cameras[None], clip_id=("",), subject=("",), body=asked.shown.body)
    notes = [*motion.notes, *asked.shown.notes]
    if options.motion is not None:
        notes.append(places_note(motion, places, options.frames_per_second))
    more = (first_view_note(batch), upright_note(batch, options.up), out_of_sight_note(batch))
    return asked, framing, [*notes, *filter(None, more)]


def _seen(config: RunConfig, options: ViewOptions, asked: Asked, framing: Framing, motion: Motion) -> KnownPictures:
    """The pictures of the captured cameras of a request."""
    captured, folder = required(asked.captured, "captured cameras"), required(options.known, "known")
    moments = Moments(asked_places(options, motion, framing, None), motion.num_frames)
    framed = (framing.image_size, optics(config, framing), config.data.background)
    return see_known(folder, captured, asked.shown.body, moments, *framed)
