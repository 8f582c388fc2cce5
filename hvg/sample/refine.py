"""``hvg refine``: anybody's videos in, those that a trained video model makes of them out.

What is not given is not told: slots that read it get what stands in for a dropped signal, and a note says which.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from pydantic import ValidationError
from torch import Tensor

from hvg import __version__
from hvg.config.build import build_sampler
from hvg.config.command_options import SampleOptions
from hvg.config.composition import given_settings, recompose
from hvg.config.refine_options import RefineOptions
from hvg.config.settings import PartChoice, RunConfig
from hvg.config.wiring import path_of_slot
from hvg.config.written_options import WrittenFiles
from hvg.core.digests import file_digest, settings_digest
from hvg.core.errors import DataError, HvgError
from hvg.geometry.foreign_cameras import COLMAP_FILES, is_colmap
from hvg.geometry.motion import Motion
from hvg.geometry.motion_files import files_of, load_motion
from hvg.media.folder_clips import views_of
from hvg.media.folder_video import Place, Room, Video, survey
from hvg.model.load import as_video_model, load_system
from hvg.model.refining import open_refining
from hvg.model.trained_windows import sampling_notes
from hvg.parts import registry
from hvg.parts.following import STILL
from hvg.sample.asked_path import camera_file
from hvg.sample.camera_paths import PRESETS, CameraPath
from hvg.sample.driving import open_driving, still_motion
from hvg.sample.generate import Report, answer, model_digests
from hvg.sample.posed_photo import check_photo_options
from hvg.sample.request import check_fields, make_clip
from hvg.sample.videos import Request, Second
from hvg.sample.whose_shape import asked_person
from hvg.values.clip import CLOSE_UPS, DRIVING_FIELDS, ClipBatch

# Word -> the fields of a clip that it gives, by their first names.
GIVEN_BY = {"reference": "reference", "motion": "body", "camera": "cameras", "driving": "driving"}
# What of a clip stands in for a driving video that is not given.
NOBODY = frozenset(DRIVING_FIELDS)
# Frames per second of pictures, which do not say when they are shown; two rates that part by less are the same.
PICTURES_RATE, SAME_RATE = 8.0, 0.01


@dataclass(frozen=True)
class GivenVideo:
    """frames: (1, V, T, 3, H, W) uint8. names: of the views. rate: frames per second, None where no file says it."""

    frames: Tensor
    names: tuple[str, ...]
    rate: float | None

    @property
    def size(self) -> tuple[int, int]:
        """(height, width)."""
        return self.frames.shape[4], self.frames.shape[5]


def refine(options: RefineOptions, overrides: Sequence[str], report: Report) -> Iterator[str]:
    """Refines and writes everything into ``options.out``; yields lines for the user.

    overrides: of how it is sampled, as of ``hvg.config.composition.recompose``; without a refiner among them it is ``sdedit``.
    Raises: HvgError for anything that cannot be used.
    """
    if any(key.startswith("refiner.checkpoint") for key in given_settings(overrides)):
        raise HvgError("refiner.checkpoint: the model that refines is that of checkpoint= here")
    words = [*([] if any(word.startswith("refiner=") for word in overrides) else ["refiner=sdedit"]), *overrides]
    words += [f"refiner.steps={options.steps}"] * (options.steps is not None)
    places = views_of(_there(options.video))
    digest = request_digest(options, words, places)
    return answer(options, words, report, digest, partial(open_request, places=places, report=report))


def request_digest(options: RefineOptions, overrides: Sequence[str], places: Mapping[str, Place]) -> str:
    """Digest of all that the latents depend on: the words, and what the files hold that they name."""
    words = options.model_dump(mode="json", exclude={"memory", *WrittenFiles.model_fields})
    files = [path for place in places.values() for path in ([place] if isinstance(place, Path) else place.values())]
    people = (*(options.reference or ()), options.reference_body, options.reference_camera)
    files += [path for path in (*people, options.driving, options.driving_matte) if path]
    files += [path for motion in (options.motion, options.reference_motion) if motion for path in files_of(motion)]
    if options.camera is not None and options.camera not in PRESETS:
        camera = Path(options.camera)
        files += [camera / name for name in COLMAP_FILES] if is_colmap(camera) else [camera]
    digests = [file_digest(path) for path in files]
    return settings_digest([__version__, words, list(overrides), digests, model_digests(options.checkpoint, ())], 16)


def open_request(
    options: RefineOptions, overrides: Sequence[str], places: Mapping[str, Place], report: Report
) -> Request:
    """Reads what the options name and puts it together. places: view -> where its pictures lie.

    Raises: HvgError for anything that cannot be used, or that differs from the video in size, length or rate.
    """
    video = read_video(options.video, places, int(options.memory * 1e9), partial(report, "read"))
    lacking = [word for word in GIVEN_BY if getattr(options, word) is None]
    asked, notes, photos = as_sampled(options, video), list[str](), list[Image.Image]()
    driving = open_driving(asked)
    motion = STILL if driving is None else still_motion(driving)
    motion = motion if options.motion is None else _same_length(options, video)
    asked_person(asked)
    check_photo_options(asked)
    cameras = None if options.camera is None else _same_cameras(asked, video)

    def change(config: RunConfig) -> RunConfig:
        config, told = without_what_lacks(recompose(config, overrides), lacking, options.prompt is None)
        notes.extend(told)
        told_of: dict[str, Any] = {"prompt": asked.prompt or "", "motion": asked.motion or options.video}
        if options.reference is None:
            count = max((part.cls.num_photos(part.config) for part in config.conditioners.values()), default=1)
            photos.extend([Image.new("RGBA", (64, 64), (255, 255, 255, 255))] * max(count, 1))
            told_of["reference"] = (options.video,) * len(photos)
        check_fields(config, asked.model_copy(update=told_of), frozenset() if options.driving else NOBODY)
        return config

    system, config = load_system(options.checkpoint, options.weights, change)
    system = as_video_model(system, config, options.checkpoint)
    refining = open_refining(config, system)
    if refining is None:
        raise HvgError("refiner=none: nothing would be changed; choose another")
    if missing := [f"{word}=" for word in lacking if GIVEN_BY[word] in refining.refiner.requires]:
        raise HvgError(f"refiner={config.refiner.name} looks for the person in the pictures; give {' '.join(missing)}")
    batch, names, told = make_clip(system, config, asked, motion, cameras, photos or None, driving)
    if options.driving is None and any(
        "driving" in part.cls.needs(part.config) for part in config.conditioners.values()
    ):
        batch = without_driver(batch)
    # By the name goes the noise: of a video whose photo and motion are told it is that of ``hvg sample``.
    named = (options.video.name,) if {"reference", "motion"} & {*lacking} else batch.clip_id
    batch = replace(batch, clip_id=named, subject=named, caption=batch.caption or ("",)).to(system.device)
    # Of a stand-in there is nothing to say.
    whose = tuple(str(path) for path in (*(options.reference or ()), options.driving, options.driving_matte) if path)
    notes += told if options.motion is not None else [note for note in told if note.startswith(whose)]
    if options.camera is None:
        notes.append(
            "cameras.json has stand-ins: views are taken to stand evenly around the person; camera= says where"
        )
    notes += sampling_notes(config, build_sampler(config), refining.steps, [batch.grid[1:]])
    return Request(
        system=system,
        config=config,
        batch=batch,
        names=video.names if options.camera is None else names,
        notes=tuple(dict.fromkeys(notes)),
        second=Second(refining=refining, batch=batch),
        given=video.frames,
        rate=video.rate or PICTURES_RATE,
    )


def without_driver(batch: ClipBatch) -> ClipBatch:
    """The clip with a grey driving video, and grey close-ups, for slots that read one and tell nothing."""
    clips, frames, size = batch.grid[0], batch.grid[2], batch.cameras.image_size
    near = {name: torch.zeros(clips, frames, len(shown), 3, *size) for name, shown in CLOSE_UPS.items()}
    return replace(batch, driving=torch.zeros(clips, frames, 3, *size), **near)


def as_sampled(options: RefineOptions, video: GivenVideo) -> SampleOptions:
    """The request as one of ``hvg sample``, of the video's views, frames and size; stand-ins for what is not given.

    Raises: HvgError for a video of more views or frames, or faster, than a request may be.
    """
    shared = {key: getattr(options, key) for key in options.model_fields_set & SampleOptions.model_fields.keys()}
    given = {key: value for key, value in shared.items() if value is not None}
    asked: dict[str, Any] = {
        "reference": (options.video,),
        # Beside a driving video a person who stands would say which of its frames are taken.
        "motion": options.video if options.driving is None else None,
        "stride": None if options.motion is None else 1,
        # That nobody says how the person moves does not mean that they stand still.
        "task": "pose" if options.motion is None else "auto",
    }
    asked |= {"frames_per_second": options.frames_per_second or video.rate or PICTURES_RATE}
    asked |= {"frames": video.frames.shape[2]}
    if options.camera is None or options.camera in PRESETS:
        asked |= {"views": video.frames.shape[1], "image_size": video.size}
    try:
        return SampleOptions(**{**asked, **given})
    except ValidationError as error:
        first = error.errors()[0]
        raise HvgError(f"{options.video}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from None


def without_what_lacks(config: RunConfig, lacking: Sequence[str], no_prompt: bool) -> tuple[RunConfig, list[str]]:
    """The configuration with what stands in for a dropped signal in every slot that reads something that is not given, and a
    line on each. lacking: of the words of ``GIVEN_BY``.
    """
    fields = {GIVEN_BY[word]: word for word in lacking} | ({"caption": "prompt"} if no_prompt else {})
    words, notes = list[str](), list[str]()
    for slot, choice in config.conditioners.items():
        reads = {name.partition(".")[0] for name in choice.cls.needs(choice.config)}
        if missing := [f"{word}=" for field, word in fields.items() if field in reads]:
            path = path_of_slot(config, slot)
            words.append(f"{path}.strength=0")
            notes.append(f"{path}={choice.name} tells the model nothing: it reads {' and '.join(missing)}, not given")
    config = recompose(config, words)
    reads = {name.partition(".")[0] for name in config.alignment.cls.requires}
    if missing := [f"{word}=" for field, word in fields.items() if field in reads]:
        notes.append(
            f"people stay where they are: alignment={config.alignment.name} reads {' and '.join(missing)}, not given"
        )
        cls = registry.load("alignment", "none")
        config = config.model_copy(update={"alignment": PartChoice("alignment", "none", cls, cls.Config())})
    return config, notes


def read_video(
    path: Path,
    places: Mapping[str, Place],
    most_bytes: int,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> GivenVideo:
    """The views of a video, all of one size, length and rate. most_bytes: that its frames may take.

    Raises: DataError naming the view that is not like the first one, or a file that cannot be read; HvgError where it is too
    large.
    """
    room, found = Room(most_bytes), dict[str, Video]()
    for name, place in places.items():
        found[name] = survey(place, "white", room)
        if not room.is_left:
            raise HvgError(
                f"{path}: its frames take more than memory={most_bytes / 1e9:g} GB; give fewer, or more memory"
            )
        progress(len(found), len(places))
    (first, whole), *others = found.items()
    for name, video in others:
        if (video.size, video.length) != (whole.size, whole.length):
            raise DataError(
                f"{path}: view '{name}' is {video.size_text(count=True)}, view '{first}' {whole.size_text(count=True)}; expected "
                "all alike"
            )
    rates = {name: _rate(video) for name, video in found.items()}
    if other := next((name for name, rate in rates.items() if not _same(rate, rates[first])), None):
        raise DataError(
            f"{path}: view '{other}' has {rates[other]:.4g} frames a second, view '{first}' {rates[first]:.4g}; expected all "
            "alike"
        )
    held = [video.held for video in found.values() if video.held is not None]
    names = tuple(name or path.stem for name in found)
    return GivenVideo(frames=torch.stack(held)[None].contiguous(), names=names, rate=rates[first])


def _rate(video: Video) -> float | None:
    """Frames per second; None where that is not known."""
    times = video.times
    return (len(times) - 1) / (times[-1] - times[0]) if times and len(times) > 1 and times[-1] > times[0] else None


def _same(rate: float | None, other: float | None) -> bool:
    return rate is None or other is None or abs(rate / other - 1) <= SAME_RATE


def _there(path: Path) -> Path:
    if not path.exists():
        raise DataError(f"{path}: there is no such file or folder; expected a video, pictures, or a folder of views")
    return path


def _same_length(options: RefineOptions, video: GivenVideo) -> Motion:
    """The motion that is given. Raises: HvgError where its frames are not as many or as fast as the video's."""
    assert options.motion is not None
    motion = load_motion(options.motion, options.up, options.convention, options.person)
    stride, frames = options.stride or 1, video.frames.shape[2]
    last = motion.num_frames if options.end is None else min(options.end, motion.num_frames)
    found = len(range(options.start, last, stride))
    if found != frames:
        raise HvgError(
            f"{options.motion}: has {found} frames (start={options.start} end={last} stride={stride}), {options.video} has "
            f"{frames}; expected as many: start=, end= and stride= take a part"
        )
    rate, own = options.frames_per_second or video.rate, motion.frames_per_second
    if own is not None and not _same(own / stride, rate):
        raise HvgError(
            f"{options.motion}: has {own / stride:.4g} frames a second with stride={stride}, {options.video} {rate:.4g}; "
            "expected the same: stride= takes every so many, frames_per_second= says what the video has"
        )
    return motion


def _same_cameras(asked: SampleOptions, video: GivenVideo) -> CameraPath | None:
    """The cameras of a file; None for a preset. Raises: HvgError where they are not those of the video."""
    cameras = camera_file(asked)
    if cameras is None:
        return None
    views, frames = video.frames.shape[1:3]
    given = len(cameras.names), cameras.num_frames or frames, tuple(cameras.cameras.image_size)
    if given != (views, frames, video.size):
        raise HvgError(
            f"{asked.camera}: holds {given[0]} camera(s) of {given[1]} frames, {given[2][1]} x {given[2][0]} pixels; the video "
            f"has {views} view(s) of {frames} frames, {video.size[1]} x {video.size[0]}"
        )
    return cameras
