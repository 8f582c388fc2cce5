"""``hvg sample``: a user's photo, motion and camera path in, videos out; nothing but the latents grows with their length."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor
from torch.nn.functional import normalize

from hvg import __version__, outputs, provenance, wiring
from hvg.alignment import photo_as_seen
from hvg.bounds import Count, CountFromZero, FrameCount, Seed, Side, SolverSteps, ViewCount
from hvg.build import build_body
from hvg.camera_paths import PRESETS, CameraPath, around, read_cameras, write_cameras
from hvg.cameras import Cameras, project
from hvg.checkpoint import checkpoint_digest
from hvg.config import RunConfig, recompose
from hvg.digests import file_digest, settings_digest
from hvg.errors import HvgError, did_you_mean
from hvg.files import write_text
from hvg.kept_latents import keep_latents, kept_latents, remove_latents
from hvg.motion import Motion, load_motion, resample
from hvg.motion_frames import motion_places, places_note
from hvg.photo import Box, load_photo, person_fraction
from hvg.ranks import from_all_ranks, joined_ranks
from hvg.sample_memory import Size, check_memory
from hvg.sample_videos import Request, write_videos
from hvg.system import HumanVideoSystem
from hvg.task import NOVEL_POSE
from hvg.trained_windows import sampling_notes
from hvg.training import load_system
from hvg.types import BodyMotion, ClipBatch, Reference
from hvg.video import write_png

# report(stage, done, total)
Report = Callable[[str, int, int], None]
# Metres from the pelvis down to the middle of a standing person: where the training cameras look.
PELVIS_TO_MIDDLE = 0.03
# From how many degrees on the first camera no longer counts as one in front of the person.
SIDEWAYS_DEGREES = 45.0
# From how many degrees on a person does not stand.
LYING_DEGREES = 60.0
# What a photo, a motion and cameras give.
GIVEN_FIELDS = frozenset({"cameras", "body", "body.vertices", "reference", "task", "frame_index"})
# Options that a file of cameras already answers.
_PRESET_OPTIONS = ("elevation_degrees", "distance", "fov_degrees", "image_size")


class SampleOptions(BaseModel):
    """What ``hvg sample`` takes besides overrides of how it is sampled."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    checkpoint: Path = Field(description="A trained model: a checkpoint, or a run folder for its newest one.")
    reference: Path = Field(description="Photo of the person; with an alpha channel the background is taken away.")
    box: Box | None = Field(
        None,
        description="Where the person is in the photo: [left,top,right,bottom], pixels; null: all of it, or its alpha.",
    )
    motion: Path = Field(description="An .npz of SMPL-X body parameters (AMASS keys) or of joints.")
    up: Literal["auto", "y", "z"] = Field(
        "auto",
        description="Which axis of the motion's world is up; auto: as its file says, or as is usual for its keys.",
    )
    start: CountFromZero = Field(0, description="First frame of the motion that is used, counted from 0.")
    end: Count | None = Field(None, description="Frame of the motion before which it ends; null: its whole length.")
    stride: Count | None = Field(
        None, description="Take every so many frames of the motion; null: `frames` of them, evenly spaced."
    )
    real_time: bool = Field(
        False,
        description="Take those frames of the motion with which the video, at its frames_per_second, is as fast as the motion.",
    )
    caption: str | None = Field(None, description="What the video shows, for models that read it.")
    camera: str = Field(
        "orbit",
        description="orbit: views all around. static: one from the front. front_back: two. Or a JSON file of cameras, as "
        "hvg/camera_paths.py describes it.",
    )
    out: Path = Field(
        Path("sample"), description="Folder that takes the videos, photo_as_seen.png, cameras.json and sample.json."
    )
    overwrite: bool = Field(False, description="Write into `out` even if something else is there.")
    views: ViewCount | None = Field(None, description="Number of views of an orbit; null: as in training.")
    frames: FrameCount | None = Field(
        None,
        description="Frames of the video; null: as the moving cameras, as many as stride or real_time give, or as the dataset's "
        "clips.",
    )
    elevation_degrees: float = Field(5.0, ge=-89, le=89, description="Height of the cameras above the horizon.")
    distance: float | None = Field(
        None, gt=0, le=1000, description="From the cameras to the pelvis, metres; null: as in training."
    )
    fov_degrees: float | None = Field(None, gt=0, lt=180, description="Field of view; null: as in training.")
    image_size: Side | tuple[Side, Side] | None = Field(
        None, description="Side of the video, or [height,width], pixels; null: as in training."
    )
    steps: SolverSteps | None = Field(None, description="Solver steps; null: as configured.")
    seed: Seed | None = Field(None, description="Seed of the noise; null: as configured.")
    frames_per_second: float = Field(8.0, ge=0.1, le=240, description="Of the video.")
    weights: Literal["ema", "raw"] | None = Field(None, description="Averaged or raw weights; null: as configured.")
    memory: float = Field(
        8.0,
        gt=0,
        le=1e6,
        description="GB of the host's memory that the request may need besides the model; one that needs more is refused.",
    )


def generate(options: SampleOptions, overrides: Sequence[str], report: Report) -> Iterator[str]:
    """Generates and writes everything into ``options.out``; yields lines for the user. Under torchrun, ranks share the work.

    overrides: of how it is sampled, as of ``hvg.config.recompose``.
    """
    if options.out.suffix == ".mp4":
        raise HvgError(f"out={options.out}: is the folder that takes the videos; give it a name without .mp4")
    asked = request_digest(options, overrides)
    with (
        joined_ranks() as (rank, world),
        outputs.unfinished(options.out, asked, options.overwrite) if rank == 0 else nullcontext(),
    ):
        request = prepare(options, overrides)
        if rank == 0:
            yield from (f"note: {note}" for note in request.notes)
        # The first one decides for all: they have to denoise together.
        kept = kept_latents(options.out, asked, request.system.device) if rank == 0 else None
        is_denoised = from_all_ranks(kept is not None)[0]
        if rank:
            if not is_denoised:
                denoise(options, request, None, share=True)
            return
        if is_denoised:
            yield f"continues with the latents that an earlier start of this command left in {options.out}"
        if kept is None:
            kept = denoise(options, request, report, share=world > 1)
            keep_latents(options.out, asked, *kept)
        videos = write(options, overrides, request, kept, report)
        others = ", ".join(videos[len(request.names) :])
        line = f"wrote {len(request.names)} view(s), {others}, photo_as_seen.png, cameras.json "
        yield line + f"and sample.json to {options.out}"


def denoise(
    options: SampleOptions, request: Request, report: Report | None, *, share: bool
) -> tuple[Tensor, Tensor | None]:
    """The latents and offsets of the request, as of ``HumanVideoSystem.sample_latents``."""
    evaluation = request.config.evaluation
    try:
        return request.system.sample_latents(
            request.batch,
            num_steps=options.steps or evaluation.steps,
            seed=evaluation.seed if options.seed is None else options.seed,
            progress=report and (lambda done, total: report("denoise", done, total)),
            windows_per_call=evaluation.windows_per_call,
            share=share,
        )
    except KeyboardInterrupt:
        raise KeyboardInterrupt("nothing of the denoising is kept; the same command begins it anew") from None


def write(
    options: SampleOptions,
    overrides: Sequence[str],
    request: Request,
    latents: tuple[Tensor, Tensor | None],
    report: Report,
) -> list[str]:
    """Writes everything into ``options.out`` and removes the kept latents; returns the names of the videos.

    Raises: HvgError, KeyboardInterrupt, which say that the latents are kept.
    """
    kept = f"the latents are kept in {options.out}; the same command writes the videos without denoising"
    try:
        videos = write_videos(
            options.out,
            request,
            *latents,
            options.frames_per_second,
            lambda done, total: report("write", done, total),
        )
        seen = photo_as_seen(request.batch, request.system.alignment, request.system.background)
        write_png(options.out / "photo_as_seen.png", seen)
        write_cameras(options.out / "cameras.json", request.batch.cameras[0], request.names)
        write_text(options.out / "sample.json", json.dumps(record(options, overrides, request), indent=2))
        remove_latents(options.out)
    except KeyboardInterrupt:
        raise KeyboardInterrupt(kept) from None
    except OSError as error:
        raise HvgError(f"{options.out} cannot be written: {error.strerror or error}; {kept}") from error
    return videos


def request_digest(options: SampleOptions, overrides: Sequence[str]) -> str:
    """Of all that the latents depend on: the words, and what the files hold that they name."""
    words = options.model_dump(mode="json", exclude={"out", "overwrite", "memory"})
    files = [file_digest(path) for path in (options.reference, options.motion, Path(options.camera))]
    return settings_digest([__version__, words, list(overrides), files, checkpoint_digest(options.checkpoint)], 16)


def prepare(options: SampleOptions, overrides: Sequence[str]) -> Request:
    """Reads what the options name and puts it together. Raises: HvgError for anything that cannot be used."""
    motion, given = load_motion(options.motion, options.up), camera_file(options)

    def change(config: RunConfig) -> RunConfig:
        config = recompose(config, overrides)
        check_fields(config, options)
        return config

    system, config = load_system(options.checkpoint, options.weights, change)
    batch, names, taken = make_clip(system, config, options, motion, given)
    notes = (
        *taken,
        *sampling_notes(config, system.sampler, options.steps or config.evaluation.steps, [batch.grid[1:]]),
        first_view_note(batch),
        upright_note(batch, options.up),
        out_of_sight_note(batch),
    )
    return Request(
        system=system,
        config=config,
        batch=batch.to(system.device),
        names=names,
        notes=tuple(note for note in notes if note),
    )


def check_fields(config: RunConfig, options: SampleOptions) -> None:
    """Raises: HvgError where a part of the model reads what the request does not give."""
    given = GIVEN_FIELDS | ({"caption"} if options.caption is not None else set())
    for path, (name, fields) in wiring.needed_fields(config).items():
        if "caption" in fields - given:
            raise HvgError(
                f"caption: {path}={name} reads a caption, and none is given; give caption='what the video shows'"
            )
        for field in sorted(fields - given):
            raise HvgError(
                f"{options.checkpoint}: {path}={name} reads '{field}', which a photo, a motion and cameras do not give"
            )


def make_clip(
    system: HumanVideoSystem, config: RunConfig, options: SampleOptions, motion: Motion, given: CameraPath | None
) -> tuple[ClipBatch, tuple[str, ...], list[str]]:
    """The one clip that is asked for, its views' names, and what to say of the motion, the caption and the photo.

    given: cameras, in place of a preset. Raises: HvgError for anything that cannot be used.
    """
    framing = training_framing(config, options, given)
    asked = options.frames or (given and given.num_frames)
    views = (given and len(given.names)) or PRESETS.get(options.camera) or framing.views
    # At first of what is asked for, since already the places take memory; then of what they come to.
    size = Size(views=views, frames=asked or 1, image_size=framing.image_size)
    check_memory(system, size, options.memory)
    places = motion_places(
        motion,
        asked,
        evenly=framing.frames,
        start=options.start,
        end=options.end,
        stride=options.stride,
        real_time=options.real_time,
        frames_per_second=options.frames_per_second,
    )
    framing = replace(framing, frames=len(places))
    check_memory(system, replace(size, frames=len(places)), options.memory)
    mesh = any("body.vertices" in part.needs(part.config) for part in system.conditioners.values())
    body = build_body(config).animate(resample(motion, places), None, mesh=mesh)
    path = given or preset(options, framing, body)
    cameras = path.cameras.expand(path.cameras.shape[0], framing.frames)[None]
    check_size(system, config, options.steps or config.evaluation.steps, cameras)
    reference, advice = fit_reference(options, config, framing, cameras.image_size)
    batch = ClipBatch(
        cameras=cameras,
        clip_id=(f"{options.reference.name}+{options.motion.name}",),
        subject=(options.reference.name,),
        body=body,
        reference=reference,
        task=torch.tensor([NOVEL_POSE]),
        frame_index=torch.arange(framing.frames)[None],
        caption=None if options.caption is None else (options.caption,),
    )
    notes = (places_note(motion, places, options.frames_per_second), caption_note(config, options), advice)
    return batch, path.names, [note for note in notes if note]


@dataclass(frozen=True, kw_only=True)
class Framing:
    """How people are seen. distance: metres, camera to pelvis. views: cameras around the person. frames: of the video."""

    image_size: tuple[int, int]
    distance: float
    fov_degrees: float
    views: int
    frames: int


def training_framing(config: RunConfig, options: SampleOptions, given: CameraPath | None) -> Framing:
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


def camera_file(options: SampleOptions) -> CameraPath | None:
    """The cameras of the file that ``camera`` names; None for a preset.

    Raises: HvgError for a name that is neither, and for options that the choice leaves no room for.
    """
    if options.camera in PRESETS:
        views = PRESETS[options.camera]
        if views is not None and options.views not in (None, views):
            raise HvgError(
                f"camera={options.camera} is of {views} view(s), not {options.views}; camera=orbit takes any number"
            )
        return None
    path = Path(options.camera)
    if path.suffix != ".json" and not path.is_file():
        raise HvgError(
            f"camera: no preset is named '{options.camera}', nor is it a JSON file of cameras. "
            f"{did_you_mean(options.camera, PRESETS)}"
        )
    given = read_cameras(path)
    answered = [f"{key}=" for key in _PRESET_OPTIONS if key in options.model_fields_set]
    if answered:
        raise HvgError(f"{' '.join(answered)} cannot be given together with {path}, which says where the cameras are")
    if options.views not in (None, len(given.names)):
        raise HvgError(f"views={options.views}, but {path} holds {len(given.names)} cameras")
    return given


def preset(options: SampleOptions, framing: Framing, body: BodyMotion) -> CameraPath:
    """The preset's cameras, still, aimed as in training: a little below the pelvis' mean position."""
    return around(
        pelvis(body).mean(dim=0) - torch.tensor([0.0, PELVIS_TO_MIDDLE, 0.0]),
        PRESETS[options.camera] or framing.views,
        elevation_degrees=options.elevation_degrees,
        distance=framing.distance,
        fov_degrees=framing.fov_degrees,
        image_size=framing.image_size,
    )


def pelvis(body: BodyMotion) -> Tensor:
    """(T, 3), world, metres."""
    return body.joints[0, :, body.joint_names.index("pelvis")]


def check_size(system: HumanVideoSystem, config: RunConfig, num_steps: int, cameras: Cameras) -> None:
    """Raises: HvgError where the picture does not survive every halving by codec, backbone and sampler."""
    latent, coarsest = wiring.image_cell(config)
    frames = -(-cameras.shape[-1] // system.codec.temporal_stride)
    shrink = max(system.sampler.stage(step, num_steps, frames).shrink for step in range(num_steps))
    cell = latent * coarsest * shrink
    if any(side % cell for side in cameras.image_size):
        nearest = [max(1, round(side / cell)) * cell for side in cameras.image_size]
        raise HvgError(
            f"image_size {list(cameras.image_size)} is not divisible by {cell}, as this model needs; nearest: {nearest}"
        )


def fit_reference(
    options: SampleOptions, config: RunConfig, framing: Framing, size: tuple[int, int]
) -> tuple[Reference, str | None]:
    """The photo framed as the training photos were, whatever the video's cameras do; and advice, if any."""
    trained = config.dataset.config
    fraction = person_fraction(
        getattr(trained, "distance", framing.distance), getattr(trained, "fov_degrees", framing.fov_degrees), size
    )
    return load_photo(options.reference, size, fraction=fraction, box=options.box, background=config.data.background)


def first_view_note(batch: ClipBatch) -> str | None:
    """What to say where the first camera is not in front of a person who faces +z, as in a photo."""
    assert batch.body is not None
    x, _, z = (batch.cameras.centers[0, 0, 0] - pelvis(batch.body)[0]).tolist()
    azimuth = math.degrees(math.atan2(x, z))
    if abs(azimuth) <= SIDEWAYS_DEGREES:
        return None
    return (
        f"the first view stands {azimuth:.0f} degrees from the front (+z); views are told relative to the first one, "
        "which should look as the photo does"
    )


def upright_note(batch: ClipBatch, up: str) -> str | None:
    """What to say where the person does not stand: the file may mean another axis by up."""
    assert batch.body is not None
    spine = batch.body.joints[0, :, batch.body.joint_names.index("neck")] - pelvis(batch.body)
    tilt = math.degrees(float(torch.acos(normalize(spine, dim=-1)[:, 1].clamp(-1, 1)).median()))
    if tilt < LYING_DEGREES:
        return None
    other = {"y": "up=z", "z": "up=y"}.get(up, "up=y or up=z")
    return f"the person's back is {tilt:.0f} degrees from upright; if they should stand, the motion has another axis up: {other}"


def caption_note(config: RunConfig, options: SampleOptions) -> str | None:
    """What to say where a caption is given that nothing reads."""
    read = any("caption" in fields for _, fields in wiring.needed_fields(config).values())
    return None if read or options.caption is None else "no part of this model reads the caption"


def out_of_sight_note(batch: ClipBatch) -> str | None:
    """What to say where the person walks out of the picture, or behind a camera."""
    assert batch.body is not None
    height, width = batch.cameras.image_size
    pixels, depth = project(pelvis(batch.body)[:, None], batch.cameras[0])
    x, y = pixels[..., 0, :].unbind(-1)
    seen = (x >= 0) & (x < width) & (y >= 0) & (y < height) & (depth[..., 0] > 0)
    lost = int((~seen.all(dim=0)).sum())
    if not lost:
        return None
    return (
        f"the person leaves the picture in {lost} of {seen.shape[1]} frames; stand farther away (distance=), or move the "
        "cameras along (camera=FILE.json)"
    )


def record(options: SampleOptions, overrides: Sequence[str], request: Request) -> dict[str, Any]:
    """What was asked, of which model, and what it came to; ready for JSON."""
    config, cameras = request.config, request.batch.cameras
    seed = config.evaluation.seed if options.seed is None else options.seed
    _, views, frames = request.batch.grid
    return {
        "options": options.model_dump(mode="json"),
        "overrides": list(overrides),
        "checkpoint": str(options.checkpoint),
        "config": config.name,
        "weights": options.weights or config.evaluation.weights,
        "seed": seed,
        "steps": options.steps or config.evaluation.steps,
        "sampling": {key: getattr(config, key).resolved() for key in ("sampler", "solver", "guidance")},
        "views": views,
        "frames": frames,
        "image_size": list(cameras.image_size),
        "frames_per_second": options.frames_per_second,
        "cameras": {"asked": options.camera, "names": list(request.names), "file": "cameras.json"},
        "notes": list(request.notes),
        "provenance": provenance.collect(seed),
    }
