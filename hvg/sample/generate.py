"""``hvg sample``: a user's photo, motion and camera path in, videos out; nothing but latents grows with them."""

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hvg import __version__
from hvg.config.build import build_sampler
from hvg.config.command_options import SampleOptions
from hvg.config.composition import given_settings, recompose
from hvg.config.settings import RunConfig
from hvg.config.written_options import WrittenFiles
from hvg.core import outputs, provenance
from hvg.core.checkpoint import checkpoint_digest
from hvg.core.digests import file_digest, settings_digest
from hvg.core.eight_bit import frames_to_uint8
from hvg.core.errors import HvgError
from hvg.core.files import write_text
from hvg.core.ranks import from_all_ranks, joined_ranks
from hvg.core.required import required
from hvg.geometry.foreign_cameras import COLMAP_FILES, is_colmap
from hvg.geometry.motion import Motion
from hvg.geometry.motion_files import files_of
from hvg.media.images import write_png
from hvg.media.steady_video import SteadyVideo
from hvg.model.load import load_system
from hvg.model.refining import check_given, open_refining
from hvg.model.trained_system import Latents, TrainedSystem
from hvg.model.trained_windows import sampling_notes
from hvg.parts.as_seen import photos_as_seen
from hvg.sample.asked_path import camera_file
from hvg.sample.camera_paths import CameraPath, write_cameras
from hvg.sample.driving import asked_motion, open_driving
from hvg.sample.kept_latents import keep_latents, kept_latents, remove_latents
from hvg.sample.known_pictures import known_files
from hvg.sample.memory import Size, check_memory
from hvg.sample.posed_photo import check_photo_options
from hvg.sample.request import (
    check_fields,
    given_fields,
    make_clip,
)
from hvg.sample.request_notes import first_view_note, hidden_maps_note, out_of_sight_note, upright_note
from hvg.sample.videos import Made, Request, Second, write_videos
from hvg.sample.whose_shape import asked_person
from hvg.values.clip import ClipBatch
from hvg.values.task import TASKS

# report(stage, done, total)
Report = Callable[[str, int, int], None]
OpenRequest = Callable[[Any, Sequence[str]], Request]


def generate(options: SampleOptions, overrides: Sequence[str], report: Report) -> Iterator[str]:
    """Generates and writes everything into ``options.out``; yields lines for the user. Under torchrun, ranks share the work.

    overrides: of how it is sampled, as of ``hvg.config.composition.recompose``.
    """
    return answer(options, overrides, report, request_digest(options, overrides), open_request)


def answer(
    options: SampleOptions, overrides: Sequence[str], report: Report, asked: str, open_it: OpenRequest
) -> Iterator[str]:
    """As ``generate``, of a request that ``open_it`` opens. asked: digest of all that the latents depend on."""
    if options.out.suffix == ".mp4":
        raise HvgError(f"out={options.out}: is the folder that takes the videos; give it a name without .mp4")
    with (
        joined_ranks() as (rank, world),
        outputs.unfinished(options.out, asked, options.overwrite) if rank == 0 else nullcontext(),
    ):
        request = open_it(options, overrides)
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
            keep_latents(options.out, asked, kept)
        videos = write(options, overrides, request, kept, report)
        others = ", ".join(videos[len(request.names) :])
        pictures = "images/, transforms.json, " if options.images else ""
        photo = "" if options.reference is None else "photo_as_seen.png, "
        line = f"wrote {len(request.names)} view(s), {others}, {pictures}{photo}cameras.json "
        yield line + f"and sample.json to {options.out}"


def denoise(options: SampleOptions, request: Request, report: Report | None, *, share: bool) -> Made:
    """What has to be worked out of the whole request, by its system and then by the one that refines."""
    evaluation, latents = request.config.evaluation, None
    seed = evaluation.seed if options.seed is None else options.seed

    def progress(stage: str) -> Callable[[int, int], None] | None:
        return None if report is None else partial(report, stage)

    try:
        if request.given is None:
            latents = request.system.sample_latents(
                request.batch,
                num_steps=options.steps or evaluation.steps,
                seed=seed,
                progress=progress("denoise"),
                windows_per_call=evaluation.windows_per_call,
                share=share,
            )
        if request.second is None:
            return Made(latents=latents)
        refining, frames = request.second.refining, request.given
        frames = frames_of(request, latents, progress("decode")) if frames is None else frames
        refined = refining.latents(request.second.batch, frames, seed=seed, progress=progress("refine"), share=share)
        return Made(latents=refined, frames=frames if refining.keeps_frames else None)
    except KeyboardInterrupt:
        raise KeyboardInterrupt("nothing of the denoising is kept; the same command begins it anew") from None


def frames_of(request: Request, latents: Latents | None, progress: Callable[[int, int], None] | None = None) -> Tensor:
    """The frames (1, V, T, 3, H, W) uint8 that a request's own system makes, which the second one refines."""
    found, done = list[Tensor](), 0
    for piece in request.system.pieces(request.batch, latents):
        found.append(frames_to_uint8(piece).cpu())
        done += piece.shape[2]
        if progress is not None:
            progress(done, request.batch.grid[2])
    return torch.cat(found, dim=2)


def write(
    options: SampleOptions,
    overrides: Sequence[str],
    request: Request,
    made: Made,
    report: Report,
) -> list[str]:
    """Writes everything into ``options.out`` and removes the kept latents; returns the names of the videos.

    Raises: HvgError, KeyboardInterrupt, which say that the latents are kept.
    """
    kept = f"the latents are kept in {options.out}; the same command writes the videos without denoising"
    kept = "the same command writes them anew" if made.latents is None else kept
    seen = None
    if options.reference is not None:
        seen = photos_as_seen(request.batch, request.system.alignment, request.system.background).cpu()
    try:
        videos = write_videos(
            options.out,
            request,
            made,
            options.frames_per_second or request.rate,
            lambda done, total: report("write", done, total),
            images=options.images,
            grid=options.grid,
            photo=None if seen is None else seen[0],
        )
        if seen is not None:
            # Several side by side.
            write_png(options.out / "photo_as_seen.png", torch.cat([*seen], dim=-1))
        write_cameras(options.out / "cameras.json", request.batch.cameras[0], request.names)
        write_text(options.out / "sample.json", json.dumps(record(options, overrides, request), indent=2))
        remove_latents(options.out)
    except KeyboardInterrupt:
        raise KeyboardInterrupt(kept) from None
    except OSError as error:
        raise HvgError(f"{options.out} cannot be written: {error.strerror or error}; {kept}") from error
    return videos


def request_digest(options: SampleOptions, overrides: Sequence[str]) -> str:
    """Digest of all that the latents depend on: the words, and what the files hold that they name."""
    words = options.model_dump(mode="json", exclude={"memory", *WrittenFiles.model_fields})
    camera = Path(options.camera)
    cameras = [camera / name for name in COLMAP_FILES] if is_colmap(camera) else [camera]
    people = [path for path in (options.reference_body, options.reference_camera) if path is not None]
    people += [] if options.reference_motion is None else files_of(options.reference_motion)
    moves = [] if options.motion is None else files_of(options.motion)
    moves += [path for path in (options.driving, options.driving_matte) if path is not None]
    files = [file_digest(path) for path in (*options.reference, *moves, *cameras, *people)]
    known = [] if options.known is None else [*known_files(options.known)]
    models = model_digests(options.checkpoint, overrides)
    return settings_digest([__version__, *known, words, list(overrides), files, *models], 16)


def model_digests(checkpoint: Path, overrides: Sequence[str]) -> list[str]:
    """Digests of the models of a request: its own, and the one that its words name for refining."""
    second = given_settings(overrides).get("refiner.checkpoint")
    return [checkpoint_digest(path) for path in (checkpoint, *([Path(second)] if isinstance(second, str) else []))]


def open_request(options: SampleOptions, overrides: Sequence[str]) -> Request:
    """Reads what the options name and puts it together. Raises: HvgError for anything that cannot be used."""
    driving = open_driving(options)
    motion, given = asked_motion(options, driving), camera_file(options)
    asked_person(options)
    check_photo_options(options)

    def change(config: RunConfig) -> RunConfig:
        config = recompose(config, overrides)
        check_fields(config, options)
        return config

    system, config = load_system(options.checkpoint, options.weights, change)
    batch, names, taken = make_clip(system, config, options, motion, given, driving=driving)
    cameras = CameraPath(cameras=batch.cameras[0], names=names)
    second, more = open_second(options, config, system, motion, cameras, batch, driving)
    notes = (
        *taken,
        *windows_notes(config, options.steps or config.evaluation.steps, batch),
        first_view_note(batch),
        upright_note(batch, options.up),
        out_of_sight_note(batch),
        hidden_maps_note(config),
        *more,
    )
    return Request(
        system=system,
        config=config,
        batch=batch.to(system.device),
        names=names,
        notes=tuple(note for note in notes if note),
        second=second,
    )


def open_second(
    options: SampleOptions,
    config: RunConfig,
    system: TrainedSystem,
    motion: Motion,
    cameras: CameraPath,
    batch: ClipBatch,
    driving: SteadyVideo | None = None,
) -> tuple[Second | None, list[str]]:
    """What refines the frames of a request, if anything does, with the same person before the same ``cameras`` (V, T) as it
    reads them; and what to say of it. system, batch: those whose frames are refined.

    Raises: as of ``open_request``.
    """
    refining = open_refining(config, system, options.weights)
    if refining is None:
        return None, []
    own, frames = refining.config, cameras.cameras.shape[1]
    check_given(refining, given_fields(options), "a photo, a motion and cameras do")
    if refining.system is not system:
        asked = options.model_copy(update={"frames": frames})
        batch, _, _ = make_clip(refining.system, own, asked, motion, cameras, driving=driving)
    size = Size(views=batch.grid[1], frames=batch.grid[2], image_size=batch.cameras.image_size, refined=True)
    check_memory(refining.system, size, options.memory)
    place = config.refiner.config.checkpoint or "the model itself"
    notes = [f"refiner={config.refiner.name}: {place} refines the frames, by {refining.steps} steps"]
    notes += [f"the model that refines: {note}" for note in windows_notes(own, refining.steps, batch)]
    return Second(refining=refining, batch=batch.to(refining.system.device)), notes


def windows_notes(config: RunConfig, steps: int, batch: ClipBatch) -> list[str]:
    """What to say of how a request is sampled."""
    known = [] if batch.known is None else batch.known[0].all(dim=1).nonzero().flatten().tolist()
    return sampling_notes(config, build_sampler(config), steps, [batch.grid[1:]], known)


def record(options: SampleOptions, overrides: Sequence[str], request: Request) -> dict[str, Any]:
    """Record of a request: options, model, and resolved values; ready for JSON."""
    config, cameras = request.config, request.batch.cameras
    seed = config.evaluation.seed if options.seed is None else options.seed
    body, (_, views, frames) = request.batch.body, request.batch.grid
    return {
        "options": options.model_dump(mode="json"),
        "overrides": list(overrides),
        "checkpoint": str(options.checkpoint),
        "config": config.name,
        "weights": options.weights or config.evaluation.weights,
        "seed": seed,
        "steps": options.steps or config.evaluation.steps,
        "sampling": {
            key: part.resolved()
            for key, part in config.parts.items()
            if key in ("sampler", "solver", "guidance") or (key == "refiner" and request.second is not None)
        },
        "strengths": {slot: choice.config.strength for slot, choice in config.conditioners.items()},
        "task": TASKS[int(required(request.batch.task, "ClipBatch.task"))],
        "views": views,
        "frames": frames,
        "image_size": list(cameras.image_size),
        "body": body and {name: value[0].tolist() for name, value in body.constants.items()},
        "frames_per_second": options.frames_per_second or request.rate,
        "cameras": {"asked": options.camera, "names": list(request.names), "file": "cameras.json"},
        "notes": list(request.notes),
        "provenance": provenance.collect(seed),
    }
