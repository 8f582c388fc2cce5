"""Recordings on disk: their settings, where their pictures, masks, cameras and bodies lie, and an index of them."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, model_validator

from hvg.core.bounds import Colour, Count, CountFromZero, FrameCount, Side, ViewCount
from hvg.core.errors import DataError
from hvg.core.names import as_name
from hvg.core.random_keys import key_to_seed
from hvg.data.captions import CaptionedConfig
from hvg.data.driving import SIDES, close_up_sizes
from hvg.data.splits import subject_of
from hvg.geometry.motion import Motion
from hvg.media.crops import MaskKind
from hvg.media.folder_video import Place
from hvg.values.cameras import Cameras

# So many reasons are told where only some room is.
_FEW = 3


class RecordedConfig(CaptionedConfig):
    """Settings of every data set of recordings."""

    views: ViewCount | None = Field(
        None, description="V: cameras, spread evenly over those there are; null: all of them."
    )
    frames: FrameCount | None = Field(
        None, description="T: frames of a clip, into which longer recordings are cut; null: a recording is a clip."
    )
    every: Count = Field(1, description="Takes every so many frames of a recording.")
    image_size: Side | tuple[Side, Side] | None = Field(
        256,
        description="Side of the square image, or (height, width); pixels. null: of the shape that each recording was filmed in.",
    )
    shorter_side: Side = Field(256, description="Pixels of the shorter side where image_size is null.")
    crop: bool = Field(
        True,
        description="Whether each camera's pictures are cut around the person's body, the same for all frames of a clip. "
        "false: the whole picture, padded to the image's shape.",
    )
    distance: float = Field(
        3.2, gt=0, le=1000, description="How large the person is in a cut picture: as if from so many metres away,"
    )
    fov_degrees: float = Field(36.0, gt=5, lt=120, description="with this angle of view over the shorter image side.")
    background: tuple[Colour, Colour, Colour] | None = Field(
        (1.0, 1.0, 1.0),
        description="sRGB colour on which the masked person is laid; null: what was filmed behind them.",
    )
    masks: bool = Field(True, description="Whether clips carry masks; a recording without cannot be used then.")
    bodies: bool = Field(True, description="Whether clips carry bodies; a recording without cannot be used then.")
    mesh: bool = Field(True, description="Whether bodies carry their mesh (for mesh signals).")
    driving: Literal["none", "same_view", "other_view"] = Field(
        "none",
        description="The driving video of every clip. same_view: the clip itself as its first camera sees it, which "
        "data.copied_driving has to allow in training. other_view: one of the cameras that `views` leaves out.",
    )
    hand_size: int = Field(
        0,
        ge=0,
        le=1024,
        description="Side of the pictures of the two hands in the driving video, cut out of it, pixels; 0: none are made.",
    )
    face_size: int = Field(
        0,
        ge=0,
        le=1024,
        description="Side of the pictures of the face in the driving video, cut out of it, pixels; 0: none are made.",
    )
    leave_out: tuple[str, ...] = Field(
        (), max_length=10_000, description="What is not used: recordings, cameras, or 'RECORDING/CAMERA'."
    )

    @model_validator(mode="after")
    def _close_ups_are_seen(self) -> "RecordedConfig":
        close_ups = close_up_sizes(self)
        if close_ups and (self.driving == "none" or not self.bodies):
            raise ValueError(
                f"{SIDES[min(close_ups)]}: close-ups are of a driving video, and found by the body; say driving= and bodies=true"
            )
        return self

    def size(self, recording: "Recording") -> tuple[int, int]:
        """Height and width of its pictures, pixels; as of its first camera where they keep their shape, in eights."""
        if isinstance(self.image_size, int):
            return self.image_size, self.image_size
        if self.image_size is not None:
            return self.image_size
        height, width = next(iter(recording.tracks.values())).cameras().image_size
        scale = self.shorter_side / min(height, width)
        return 8 * max(1, round(scale * height / 8)), 8 * max(1, round(scale * width / 8))


class MovedConfig(RecordedConfig):
    """Settings of recordings beside which a file of the motion lies."""

    convention: str = Field(
        "auto",
        description="How the motion's parameters are meant, a name in docs/conventions.md; auto: as of its keys.",
    )
    body_every: Count = Field(1, description="The motion has a frame for every so many pictures.")
    picture_every: Count = Field(1, description="Pictures are every so many frames of the motion.")
    body_start: CountFromZero = Field(0, description="Frame of the motion that belongs to the first picture.")


@dataclass(frozen=True, kw_only=True)
class Track:
    """One camera of a recording. frames, masks: where its T pictures lie; masks None: the pictures' own alpha, if any.

    cameras: (1,) where it stands still, or (T,); their size is that of the pictures, or of larger ones of which these are
    copies. It is a function, so that it is read when it is needed, and like ``Recording.motion`` one that can be pickled, for
    processes that load: a ``partial`` of a module's own. masks_in: how a mask shows the person, as of ``as_mask``.
    """

    frames: Place
    cameras: Callable[[], Cameras]
    masks: Place | None = None
    masks_in: MaskKind = "white"


@dataclass(frozen=True, kw_only=True)
class Recording:
    """What was filmed at once; no picture is read yet.

    tracks: camera name -> its pictures. length: T. motion: reads the body's motion, in the cameras' world; None where there is
    none. body_places: where in the motion each of the T frames is, increasing, counted in the motion's frames; None: in order.
    files: those that say cameras and bodies, whose change makes other clips. filmed: frames of which there is any picture, where
    some of them cannot be used; None: T. driving: the camera of the driving video, of ``tracks`` or another; None: there is none.
    """

    tracks: Mapping[str, Track]
    length: int
    filmed: int | None = None
    motion: Callable[[], Motion] | None = None
    body_places: Sequence[float] | None = None
    files: Sequence[Path] = ()
    driving: Track | None = None


@dataclass(frozen=True)
class RecordedClip:
    """A clip: a recording, or some frames of it. size: height, width of its pictures, pixels. name: of the recording's place."""

    clip_id: str
    subject: str
    recording: Recording
    frames: range
    size: tuple[int, int]
    name: str

    @property
    def names(self) -> tuple[str, str]:
        """By which a file of captions may call it."""
        return self.clip_id, self.name


@dataclass(frozen=True)
class Index:
    """What a data set's folder holds. unusable: recording -> why it cannot be used. notes: a line each."""

    clips: Mapping[str, RecordedClip]
    unusable: Mapping[str, str]
    notes: tuple[str, ...] = ()


Survey = Callable[[RecordedConfig, Path], Recording]


def make_index(config: RecordedConfig, places: Mapping[str, Path], survey: Survey) -> Index:
    """Clips of the recordings that can be used, and why the others cannot."""
    clips: dict[str, RecordedClip] = {}
    unusable: dict[str, str] = {}
    notes: list[str] = []
    for name, path in places.items():
        if name in config.leave_out:
            continue
        try:
            found = _clips(config, name, _chosen(config, name, survey(config, path)))
            twice = next((clip.clip_id for clip in found if clip.clip_id in clips), None)
            if twice is not None:
                raise DataError(f"another recording's clip is named '{twice}', too")
        except DataError as error:
            unusable[name] = str(error)
            continue
        clips |= {clip.clip_id: clip for clip in found}
        notes += [f"{path}: {why}" for why in _unused(config, found)]
    return Index(
        clips, unusable, tuple(notes[:_FEW] + ([f"and {len(notes) - _FEW} more like it"] if notes[_FEW:] else []))
    )


def _unused(config: RecordedConfig, clips: Sequence[RecordedClip]) -> Iterator[str]:
    """Which frames of a recording are in none of its clips, but for those between that ``every`` leaves out."""
    recording = clips[0].recording
    filmed = recording.filmed or recording.length
    if lacking := filmed - recording.length:
        yield f"{lacking} of its {filmed} frames lack a body, or a picture or mask of some camera, and are not used"
    if lost := -(-recording.length // config.every) - sum(len(clip.frames) for clip in clips):
        yield f"its last {lost} frames are no whole clip of dataset.frames={config.frames} and not used"


def _chosen(config: RecordedConfig, name: str, recording: Recording) -> Recording:
    """The recording with the cameras that the settings choose. Raises: DataError where it lacks what they ask for."""
    tracks = {
        camera: track
        for camera, track in recording.tracks.items()
        if not {camera, f"{name}/{camera}"} & {*config.leave_out}
    }
    wanted = config.views or len(tracks)
    if wanted > len(tracks) or not tracks:
        raise DataError(f"has {len(tracks)} cameras that can be used; expected dataset.views={max(1, wanted)}")
    spread = [list(tracks)[len(tracks) * number // wanted] for number in range(wanted)]
    if config.bodies and recording.motion is None:
        raise DataError("has no body; expected one, or dataset.bodies=false")
    chosen = {camera: tracks[camera] for camera in spread}
    return replace(recording, tracks=chosen, driving=_driving_track(config, name, tracks, chosen))


def _driving_track(
    config: RecordedConfig, name: str, tracks: Mapping[str, Track], chosen: Mapping[str, Track]
) -> Track | None:
    """The camera of a recording's driving video. Raises: DataError where all that there are are views."""
    if config.driving == "none":
        return None
    if config.driving == "same_view":
        return next(iter(chosen.values()))
    others = [camera for camera in tracks if camera not in chosen]
    if not others:
        raise DataError(
            f"has {len(tracks)} cameras, all of which are views; expected one more for dataset.driving=other_view, or fewer "
            "dataset.views"
        )
    return tracks[others[key_to_seed(config.seed, "driving", name) % len(others)]]


def _clips(config: RecordedConfig, name: str, recording: Recording) -> list[RecordedClip]:
    """The clips of a recording. Raises: DataError where it is too short for one."""
    frames = range(0, recording.length, config.every)
    length = config.frames or len(frames)
    if length > len(frames) or not length:
        raise DataError(f"has {len(frames)} frames that can be used; expected at least dataset.frames={max(1, length)}")
    clip_id, subject = as_name(name).replace(".", "_"), subject_of(config, name)
    cuts = [frames[start : start + length] for start in range(0, len(frames) - length + 1, length)]
    names = [clip_id] if config.frames is None else [f"{clip_id}-{cut[0]:06d}" for cut in cuts]
    size = config.size(recording)
    return [RecordedClip(own, subject, recording, cut, size, name) for own, cut in zip(names, cuts, strict=True)]


def told(unusable: Mapping[str, str]) -> tuple[str, ...]:
    """Notes on the recordings that cannot be used: the first few, and how many more there are."""
    lines = [f"'{name}' cannot be used: {reason}" for name, reason in list(unusable.items())[:_FEW]]
    more = len(unusable) - _FEW
    return (*lines, f"and {more} more cannot be used; `hvg prepare` lists them all") if more > 0 else tuple(lines)


def facts(recording: Recording) -> list[Any]:
    """What changes where a recording's files do: names and numbers of pictures, and when folders and small files changed."""
    places = [
        place
        for track in (*recording.tracks.values(), *filter(None, [recording.driving]))
        for place in (track.frames, track.masks)
        if place is not None
    ]
    return [*map(_place_facts, places), *([str(file), file.stat().st_mtime_ns] for file in recording.files)]


def _place_facts(place: Place) -> list[Any]:
    if isinstance(place, Path):
        return [str(place), place.stat().st_mtime_ns]
    first = next(iter(place.values()))
    return [str(first), len(place), first.parent.stat().st_mtime_ns]


def place_name(place: Place) -> str:
    """Where pictures lie, in messages."""
    return str(place) if isinstance(place, Path) else str(next(iter(place.values())).parent)
