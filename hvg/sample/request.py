"""A request of ``hvg sample``: photo, motion and cameras as a clip, and what speaks against it."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from PIL import Image

from hvg.config import wiring
from hvg.config.command_options import SampleOptions
from hvg.config.settings import RunConfig
from hvg.core.errors import HvgError
from hvg.core.next_commands import VIDEO_ENV
from hvg.core.required import required
from hvg.geometry.motion import Motion
from hvg.geometry.motion_frames import places_note
from hvg.media.photo import Box, load_photo, person_fraction, photos_of_one
from hvg.media.steady_video import SteadyVideo
from hvg.model.trained_system import TrainedSystem
from hvg.sample.asked_path import Framing, asked_places, asked_scene, optics, training_framing
from hvg.sample.camera_paths import PRESETS, CameraPath
from hvg.sample.driving import DrivingView, driven, finds_people, moments_beside
from hvg.sample.known_pictures import Moments, add_known, known_note, see_known
from hvg.sample.memory import Size, check_memory
from hvg.sample.posed_photo import pose_photo, whole_photos
from hvg.sample.request_notes import prompt_note, task_note
from hvg.values.body import MESH_FIELDS, BodyMotion
from hvg.values.cameras import Cameras
from hvg.values.clip import CLOSE_UPS, DRIVING, ClipBatch, Reference
from hvg.values.task import TASKS, stands_still

Photo = Path | Image.Image
# Fields of a clip that a photo, a motion and cameras give.
GIVEN_FIELDS = MESH_FIELDS | {"cameras", "body", "reference", "task", "frame_index"}
# Those of them that a motion gives.
OF_MOTION = MESH_FIELDS | {"body"}


def check_fields(config: RunConfig, options: SampleOptions, besides: frozenset[str] = frozenset()) -> None:
    """Raises: HvgError where a part of the model reads what the request does not give, or looks at more photos.

    besides: fields of a clip that are there all the same.
    """
    count = len(options.reference)
    for slot, choice in config.conditioners.items():
        asked = choice.cls.num_photos(choice.config)
        if asked > count:
            raise HvgError(
                f"reference: {wiring.path_of_slot(config, slot)}={choice.name} looks at {asked} photos of the person, of which "
                f"{count} is given; give {asked}, as reference=[front.png,back.png]"
            )
    given = given_fields(options) | besides
    for path, (name, fields) in wiring.needed_fields(config, training=False).items():
        lacking = fields - given
        if DRIVING in lacking or (DRIVING not in given and lacking & CLOSE_UPS.keys()):
            raise HvgError(f"driving: {path}={name} takes the motion from a video; give driving=VIDEO")
        if lacking & CLOSE_UPS.keys():
            shown = "the hands" if "driving_hands" in lacking else "the face"
            raise HvgError(
                f"driving: {path}={name} looks at {shown}, which the detector of `hvg motion` finds in a video, and it is not "
                "installed",
                then=VIDEO_ENV,
            )
        if OF_MOTION & (fields - given):
            raise HvgError(
                f"motion: {path}={name} reads the body's motion, which a driving video does not tell; give motion=FILE"
            )
        if "caption" in fields - given:
            raise HvgError(
                f"prompt: {path}={name} reads what the video shows, and nothing says it; give prompt='a woman in red walks'"
            )
        for field in sorted(fields - given):
            raise HvgError(
                f"{options.checkpoint}: {path}={name} reads '{field}', which a photo, a motion and cameras do not give"
            )


def given_fields(options: SampleOptions) -> frozenset[str]:
    """Names of the fields of a clip that the request gives."""
    given = GIVEN_FIELDS | ({"caption"} if options.prompt is not None else set())
    given |= {"frames"} if options.known is not None else set()
    given -= set() if options.motion is not None else OF_MOTION
    return given | (set() if options.driving is None else {DRIVING, *(CLOSE_UPS if finds_people() else ())})


def make_clip(
    system: TrainedSystem,
    config: RunConfig,
    options: SampleOptions,
    motion: Motion,
    given: CameraPath | None,
    photo: Photo | Sequence[Photo] | None = None,
    driving: SteadyVideo | None = None,
) -> tuple[ClipBatch, tuple[str, ...], list[str]]:
    """The one clip that is asked for, its views' names, and what to say of the motion, the prompt and the photo.

    given: cameras, in place of a preset. photo: an open picture, or several, in place of the files that the options name.
    driving: video whose motion is taken; where the options name no motion, ``motion`` is its ``still_motion``.
    Raises: HvgError for anything that cannot be used.
    """
    framing = training_framing(config, options, given)
    # At first of what is asked for, since already the places take memory; then of what they come to.
    refines, redraws = config.refiner.cls.refines(config.refiner.config), config.refiner.cls.redraws
    views = (given and len(given.names)) or PRESETS.get(options.camera) or framing.views
    refined = 0 if not refines else views if redraws else 1
    asked_frames = options.frames or (given and given.num_frames) or 1
    size = Size(views=views, frames=asked_frames, image_size=framing.image_size, refined=refined, grid=options.grid)
    check_memory(system, size, options.memory)
    places = asked_places(options, motion, framing, given)
    framing = replace(framing, frames=len(places))
    check_memory(system, replace(size, frames=len(places)), options.memory)
    seed = options.seed or 0
    asked = asked_scene(
        config,
        options,
        motion,
        places,
        framing,
        given,
        mesh=system.reads_mesh,
        poses_photo=system.poses_photo,
        seed=seed,
    )
    shown, captured = asked.shown, asked.captured
    body, cameras = shown.body, asked.cameras[None]
    check_size(system, config, options.steps or config.evaluation.steps, cameras)
    reference, told = _reference(system, config, options, framing, cameras.image_size, photo)
    if system.poses_photo:
        model, shape = required(shown.model, "a body model"), required(shown.shape, "a shape")
        reference, assumed = pose_photo(reference, model, shape, options, optics(config, framing))
        told += assumed
    batch = ClipBatch(
        cameras=cameras,
        clip_id=(f"{person_name(options)}+{required(options.motion or options.driving, 'motion').name}",),
        subject=(person_name(options),),
        body=body,
        reference=reference,
        task=torch.tensor([asked_task(options, body)]),
        frame_index=torch.arange(framing.frames)[None],
        caption=None if options.prompt is None else (options.prompt,),
    )
    names = asked.names
    if captured is not None:
        given_views = len(captured.names)
        check_memory(system, replace(size, views=len(names), frames=len(places), known=given_views), options.memory)
        moments, folder = Moments(places, motion.num_frames), required(options.known, "known")
        framed = (cameras.image_size, optics(config, framing), config.data.background)
        seen = see_known(folder, captured, body, moments, *framed)
        batch, names = add_known(batch, seen), (*names, *seen.names)
        told.append(known_note(seen))
    if driving is not None:
        background = config.data.background
        moments = places.long().tolist() if options.motion is None else moments_beside(driving, motion, places)
        fraction = person_fraction(**optics(config, framing), size=framing.image_size)
        batch, seen = driven(
            batch, config, options, driving, moments, DrivingView(framing.image_size, fraction, background)
        )
        told = [*told, *seen]
    system.check_captions(batch.captions)
    taken = places_note(motion, places, options.frames_per_second)
    said = (*motion.notes, taken, *shown.notes)
    notes = (*said, prompt_note(config, options), task_note(config, options, batch), *told)
    return batch, names, [note for note in notes if note]


def check_size(system: TrainedSystem, config: RunConfig, num_steps: int, cameras: Cameras) -> None:
    """Raises: HvgError where the picture does not survive every halving that the system does."""
    cell = system.picture_cell(config, num_steps, cameras.shape[-1])
    if any(side % cell for side in cameras.image_size):
        nearest = [max(1, round(side / cell)) * cell for side in cameras.image_size]
        raise HvgError(
            f"image_size {list(cameras.image_size)} is not divisible by {cell}, as this model needs; nearest: {nearest}"
        )


def _reference(
    system: TrainedSystem,
    config: RunConfig,
    options: SampleOptions,
    framing: Framing,
    size: tuple[int, int],
    photo: Photo | Sequence[Photo] | None,
) -> tuple[Reference, list[str | None]]:
    """The photos as the network sees them, and what to say of them."""
    if options.reference_camera is not None and system.poses_photo:
        return whole_photos(options, size, config.data.background), []
    posed = {"reference_camera": options.reference_camera, "reference_motion": options.reference_motion}
    unread = [
        f"no part of this model asks for {key}=" for key, x in posed.items() if x is not None and not system.poses_photo
    ]
    given = options.reference if photo is None else [photo] if isinstance(photo, Photo) else photo
    found = [fit_reference(source, options.box, config, framing, size) for source in given]
    advice = [advice for _, advice in found]
    return photos_of_one([reference for reference, _ in found]), [*unread, *advice, _unseen_note(config, options)]


def _unseen_note(config: RunConfig, options: SampleOptions) -> str | None:
    """Note where photos are given that no part looks at; else None."""
    seen = max((choice.cls.num_photos(choice.config) for choice in config.conditioners.values()), default=0)
    given = len(options.reference)
    return f"{given} photos are given, of which this model looks at the first {seen}" if 0 < seen < given else None


def person_name(options: SampleOptions) -> str:
    """Name of the photos' person, who has none: those of the files."""
    return ",".join(path.name for path in options.reference)


def fit_reference(
    photo: Path | Image.Image, box: Box | None, config: RunConfig, framing: Framing, size: tuple[int, int]
) -> tuple[Reference, str | None]:
    """The photo framed as the training photos were, whatever the video's cameras do; and advice, if any."""
    fraction = person_fraction(**optics(config, framing), size=size)
    return load_photo(photo, size, fraction=fraction, box=box, background=config.data.background)


def asked_task(options: SampleOptions, body: BodyMotion) -> int:
    """The task of a request, as of ``hvg.values.task``: nobody knows the photo's pose, so that one held still is taken for it."""
    if options.task == "auto":
        return TASKS.index("view" if options.motion is not None and stands_still(body) else "pose")
    return TASKS.index(options.task)
