"""Data sets of recordings on disk: what people filmed, with cameras, masks and bodies.

A reader says where things lie (``Recorded.survey``); which clips there are, how they are split, framed, cut and read is here.
"""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor

from hvg.core.digests import settings_digest
from hvg.core.errors import DataError
from hvg.core.files import read_text
from hvg.core.random_keys import key_to_seed
from hvg.core.required import required
from hvg.data.captions import caption_notes, captions_of, captions_text
from hvg.data.driving import close_up_sizes
from hvg.data.filmed_close_ups import close_up_crops, cut_close_ups
from hvg.data.framing import facing_view, person_crop, seen_through, whole_crop
from hvg.data.kept_listing import KeptListing
from hvg.data.recordings import (
    Index,
    RecordedClip,
    RecordedConfig,
    Recording,
    Track,
    facts,
    make_index,
    place_name,
    told,
)
from hvg.data.splits import of_split
from hvg.geometry.motion import Motion, resample
from hvg.media.crops import Crop, as_mask, cut, read_pictures
from hvg.media.listing import listed
from hvg.parts.context import Context
from hvg.parts.scene import Choose, Dataset, Holdings
from hvg.values.body import MESH_FIELDS, BodyMotion
from hvg.values.cameras import Cameras
from hvg.values.clip import DRIVING, ClipBatch, Reference
from hvg.values.packed import unpacked
from hvg.values.task import clip_task

# Frames whose bodies are made at once. A body's last bits depend on who else is made with it, so these are always the same.
_AT_ONCE = 16


class Recorded(Dataset):
    """Clips of recordings on disk. A reader gives ``survey``, and ``find`` where a recording is not a folder of the root."""

    Config: ClassVar[type[RecordedConfig]] = RecordedConfig

    @classmethod
    def find(cls, config: RecordedConfig) -> Mapping[str, Path]:
        """Name -> where a recording lies; the names become clip ids. By default every folder in the root."""
        return {path.name: path for path in listed(Path(config.root)) if path.is_dir()}

    @classmethod
    @abstractmethod
    def survey(cls, config: RecordedConfig, path: Path) -> Recording:
        """What the recording at ``path`` holds: folders are listed, nothing large is read.

        Raises: DataError, one line that says why it cannot be used: file, what was found, what was expected.
        """

    @classmethod
    def index(cls, config: RecordedConfig) -> Index:
        """What the root holds, looked at once a process. Raises: DataError where there is no such folder, or nothing to use."""
        if not Path(config.root).is_dir():
            raise DataError(f"{config.root}: no such folder; expected dataset.root=FOLDER with the recordings")
        places = cls.find(config)
        if not places:
            raise DataError(f"{config.root}: holds no recordings; expected a folder for each")
        settings = config.model_copy(update={"split": "train"}).model_dump_json()
        index = _index(cls, settings, tuple((name, path, path.stat().st_mtime_ns) for name, path in places.items()))
        if not index.clips:
            raise DataError(
                f"{config.root}: no recording can be used: {'; '.join(told(index.unusable)) or 'all are left out'}"
            )
        return index

    @classmethod
    def _of_split(cls, config: RecordedConfig, index: Index) -> list[RecordedClip]:
        """The clips of the split. Raises: DataError, with why others cannot be used, where there are too few."""
        try:
            names = of_split(config, {name: clip.subject for name, clip in index.clips.items()})
        except DataError as error:
            raise DataError("; ".join([str(error), *told(index.unusable)])) from error
        return [index.clips[name] for name in names]

    @classmethod
    def uncut(cls, config: RecordedConfig, shorter: int) -> RecordedConfig:
        """The settings with which clips are whole recordings with masks and meshes, of pictures as they were filmed, their
        shorter side of so many pixels. Cameras of another aspect than the first of their recording are padded.
        """
        wanted = {"crop": False, "frames": None, "image_size": None, "mesh": True, "masks": True, "bodies": True}
        return config.model_copy(update={**wanted, "shorter_side": shorter})

    @classmethod
    def provides(cls, config: RecordedConfig) -> frozenset[str]:
        names = {"frames", "cameras", "reference", "valid", "frame_index"}
        names |= {"alpha"} if config.masks else set()
        names |= {"body", "task"} if config.bodies else set()
        names |= {"caption"} if config.captions else set()
        names |= {DRIVING} if config.driving != "none" else set()
        names |= close_up_sizes(config).keys()
        return frozenset(names | (MESH_FIELDS if config.bodies and config.mesh else set()))

    @classmethod
    def num_photos(cls, config: RecordedConfig) -> int:
        return 1

    @classmethod
    def drives_itself(cls, config: RecordedConfig) -> bool:
        return config.driving == "same_view"

    @classmethod
    def holdings(cls, config: RecordedConfig) -> Holdings:
        if not Path(config.root).is_dir():
            # A configuration may be judged where its data are not.
            return Holdings(notes=(f"{config.root}: no such folder is here, so whether its clips fit is not judged",))
        index = cls.index(config)
        clips = cls._of_split(config, index)
        captions = captions_of(config, {clip.clip_id: clip.names for clip in clips})
        known = (name for clip in index.clips.values() for name in clip.names)
        return Holdings(
            sizes={clip.clip_id: (len(clip.recording.tracks), len(clip.frames), *clip.size) for clip in clips},
            subjects={clip.clip_id: clip.subject for clip in clips},
            unusable=index.unusable,
            notes=(*index.notes, *told(index.unusable), *caption_notes(config, captions, known)),
            captions=captions,
        )

    @classmethod
    def content(cls, config: RecordedConfig) -> str:
        """Digest of which files there are, and of when folders and small files changed."""
        if not Path(config.root).is_dir():
            return ""
        clips = cls.index(config).clips
        splits = read_text(config.rules) if config.rules else ""
        files = ([name, *facts(clip.recording)] for name, clip in sorted(clips.items()))
        return settings_digest([splits, *captions_text(config), *files])

    def __init__(self, config: RecordedConfig, context: Context | None = None) -> None:
        """Raises: DataError where there is no such folder, or no clip of the split."""
        super().__init__(config)
        index = self.index(config)
        self.config, self._clips = config, self._of_split(config, index)
        self._captions = captions_of(config, {clip.clip_id: clip.names for clip in self._clips})
        if not self._clips:
            found = "; ".join(told(index.unusable)) or f"{len(index.clips)} clips of other splits"
            raise DataError(f"{config.root}: no clip of split '{config.split}' can be used: {found}")
        self._body = required(context.body if context else None, "Context.body") if config.bodies else None
        self._kept: dict[int, BodyMotion] = {}
        self._read: tuple[Recording, Motion] | None = None

    def __len__(self) -> int:
        return len(self._clips)

    def camera_names(self, index: int) -> list[str]:
        """Names of a clip's cameras, in the order of its views."""
        return list(self._clips[index].recording.tracks)

    def load(self, index: int) -> ClipBatch:
        """Clip ``index``. Raises: DataError for pictures, masks or bodies that cannot be used."""
        return unpacked(self._load(index, None))

    def load_part(self, index: int, choose: Choose, signals: frozenset[str]) -> ClipBatch | None:
        """Reads the chosen pictures alone, in 8 bits; control maps are not here."""
        return None if signals else self._load(index, choose)

    def _load(self, index: int, choose: Choose | None) -> ClipBatch:
        if not 0 <= index < len(self):
            raise IndexError(f"clip {index} of a dataset with {len(self)} clips")
        clip, (cameras, crops) = self._clips[index], self._framed(index)
        count, length = cameras.shape
        whole = ClipBatch(
            cameras=cameras[None],
            clip_id=(clip.clip_id,),
            subject=(clip.subject,),
            valid=torch.ones(1, count, length, dtype=torch.bool),
            frame_index=torch.arange(length)[None],
            caption=(self._captions[clip.clip_id],) if self._captions else None,
        )
        views, chosen = (range(count), range(length)) if choose is None else choose(count, length)
        part = whole if choose is None else whole.select(views, chosen)
        tracks, frames = list(clip.recording.tracks.values()), clip.frames[chosen.start : chosen.stop]
        pictures = [self._pictures(tracks[view], crops[view], frames, cameras.image_size) for view in views]
        photo = self._photo(clip)
        found = replace(
            part,
            frames=torch.stack([frames for frames, _ in pictures])[None],
            alpha=torch.stack([alpha for _, alpha in pictures])[None] if self.config.masks else None,
            reference=photo,
            **self._driving(index, frames, chosen),
        )
        if not self.config.bodies:
            return found
        # Of the whole clip, whatever part of it is read.
        task = clip_task(replace(whole, body=self._joints(index), reference=photo))
        return replace(found, body=self._body_of(clip, chosen), task=task)

    def _driving(self, index: int, frames: Sequence[int], chosen: range) -> dict[str, Tensor]:
        """The driving video of a clip and close-ups of it, uint8, by the names of their fields. chosen: of the clip's frames."""
        config, clip = self.config, self._clips[index]
        track, size = clip.recording.driving, clip.size
        if track is None:
            return {}
        body = self._joints(index) if config.bodies else None
        cameras = _at(track.cameras(), clip.frames)
        crop = self._crop(cameras, body, size) or whole_crop(cameras, size)
        found = {DRIVING: self._pictures(track, crop, frames, size)[0][None]}
        some = slice(chosen.start, chosen.stop)
        for close_up, side in close_up_sizes(config).items():
            crops = close_up_crops(required(body, "body").select(some), cameras[some], close_up)
            found[close_up] = cut_close_ups(track, frames, crops, side, config.background, config.masks)
        return found

    def _pictures(
        self, track: Track, crop: Crop, frames: Sequence[int], size: tuple[int, int]
    ) -> tuple[Tensor, Tensor]:
        """Frames (T, 3, H, W) and alpha (T, 1, H, W) of a camera, uint8. size: H and W."""
        masks = None
        if track.masks is not None and self.config.masks:
            masks = (as_mask(mask, track.masks_in) for mask in read_pictures(track.masks, frames))
        pictures = read_pictures(track.frames, frames)
        colour, alpha = cut(pictures, masks, crop, size, self.config.background)
        if alpha is None and self.config.masks:
            raise DataError(f"{place_name(track.frames)}: no masks, and no alpha; expected one, or dataset.masks=false")
        return colour, torch.empty(0) if alpha is None else alpha

    def _photo(self, clip: RecordedClip) -> Reference:
        """The person in a frame drawn of the whole recording, from the camera that sees them most from the front."""
        config, recording = self.config, clip.recording
        frame = key_to_seed(config.seed, "photo", clip.clip_id) % recording.length
        tracks, size = list(recording.tracks.values()), clip.size
        body = self._animated(clip, [frame], config.mesh) if config.bodies else None
        seen = [_at(track.cameras(), [frame]) for track in tracks]
        view = 0 if body is None else facing_view(seen, body)
        crop = self._crop(seen[view], body, size) or whole_crop(seen[view], size)
        frames, alpha = self._pictures(tracks[view], crop, [frame], size)
        return Reference(
            frames=frames[None],
            alpha=alpha[None] if config.masks else None,
            cameras=seen_through(seen[view], crop, size)[None],
            body=body,
        )

    def _crop(self, cameras: Cameras, body: BodyMotion | None, size: tuple[int, int]) -> Crop | None:
        """Where a camera (T,) is cut for pictures of ``size``; None where it does not see the body."""
        config = self.config
        if body is None or not config.crop:
            return whole_crop(cameras, size)
        return person_crop(cameras, body.joints[0], size, config.distance, config.fov_degrees)

    def _framed(self, index: int) -> tuple[Cameras, list[Crop]]:
        """Cameras (V, T) of a clip's cut pictures, and where those of each view are cut; a view that does not see the person
        stays whole. Raises: DataError if none does.
        """
        clip, config = self._clips[index], self.config
        body, size = self._joints(index) if config.bodies and config.crop else None, clip.size
        filmed = [_at(track.cameras(), clip.frames) for track in clip.recording.tracks.values()]
        found = [self._crop(cameras, body, size) for cameras in filmed]
        if not any(found):
            raise DataError(
                f"clip '{clip.clip_id}': no camera sees any joint of its body, so cameras or body are not what they are said "
                "to be",
                then="hvg prepare check",
            )
        crops = [crop or whole_crop(cameras, size) for crop, cameras in zip(found, filmed, strict=True)]
        seen = [seen_through(cameras, crop, size) for cameras, crop in zip(filmed, crops, strict=True)]
        cameras = Cameras(
            world_to_camera=torch.stack([camera.world_to_camera for camera in seen]),
            intrinsics=torch.stack([camera.intrinsics for camera in seen]),
            image_size=size,
        )
        return cameras, crops

    def _joints(self, index: int) -> BodyMotion:
        """The body of a clip in all its frames, without a mesh; the last one is kept."""
        if index not in self._kept:
            clip = self._clips[index]
            self._kept = {index: self._body_of(clip, range(len(clip.frames)), mesh=False)}
        return self._kept[index]

    def _body_of(self, clip: RecordedClip, chosen: range, mesh: bool | None = None) -> BodyMotion:
        """The body in some frames of a clip; mesh: None as the settings say."""
        mesh = self.config.mesh if mesh is None else mesh
        first, last = chosen.start // _AT_ONCE, (chosen.stop - 1) // _AT_ONCE
        groups = [clip.frames[number * _AT_ONCE : (number + 1) * _AT_ONCE] for number in range(first, last + 1)]
        body = BodyMotion.in_turn([self._animated(clip, frames, mesh) for frames in groups])
        return body.select(slice(chosen.start - first * _AT_ONCE, chosen.stop - first * _AT_ONCE))

    def _animated(self, clip: RecordedClip, frames: Sequence[int], mesh: bool) -> BodyMotion:
        """The body in some frames of the recording. Raises: DataError where its file has others."""
        motion, body = self._motion(clip), required(self._body, "Context.body")
        places = clip.recording.body_places or range(clip.recording.length)
        chosen = torch.tensor([float(places[frame]) for frame in frames], dtype=torch.float64)
        return body.animate(resample(motion, chosen), body.told_shape(motion) or {}, mesh=mesh)

    def _motion(self, clip: RecordedClip) -> Motion:
        """The motion of a clip's recording; the last one is kept."""
        recording = clip.recording
        if self._read is None or self._read[0] is not recording:
            motion = required(recording.motion, "Recording.motion")()
            needed = recording.length if recording.body_places is None else recording.body_places[-1] + 1
            fits = motion.num_frames == needed if recording.body_places is None else motion.num_frames >= needed
            if not fits:
                what = f"{recording.length} frames were filmed and its body's file has {motion.num_frames}"
                raise DataError(f"{clip.clip_id}: {what}; {_hint(recording.length, motion.num_frames)}")
            self._read = (recording, motion)
        return self._read[1]


@lru_cache(maxsize=8)
def _index(cls: type[Recorded], settings: str, found: tuple[tuple[str, Path, int], ...]) -> Index:
    """found: name, place and time of change of every recording."""
    config, listing = cls.Config.model_validate_json(settings), KeptListing(cls.survey, cls.__module__, settings)
    index = make_index(config, {name: path for name, path, _ in found}, listing)
    listing.keep()
    return index


def _at(cameras: Cameras, frames: Sequence[int]) -> Cameras:
    """The cameras (T,) of some frames, of one that stands still (1,) or moves."""
    return cameras[list(frames)] if len(cameras.world_to_camera) > 1 else cameras.expand(len(frames))


def _hint(pictures: int, bodies: int) -> str:
    """What to say where the numbers of pictures and bodies differ."""
    many, few = max(pictures, bodies), min(pictures, bodies)
    step = next((step for step in range(2, 61) if few > 1 and few in (many // step, -(-many // step))), None)
    if step is None:
        return "expected as many"
    if pictures > bodies:
        return f"expected as many, or dataset.body_every={step} if there is a body for every {step} pictures"
    return (
        f"expected as many, or dataset.picture_every={step} if the pictures are every {step} frames of the body's file"
    )
