"""Clips of procedurally dressed people, rendered from a mesh: no download, exact geometry.

Every random number comes from a generator keyed by (seed, split, subject, ...), so the people of two splits are
different by construction, and a clip has the same pixels in any process and any order.
"""

import math
from dataclasses import dataclass, replace
from typing import Annotated, Literal

import numpy as np
import torch
from pydantic import Field, field_validator, model_validator
from torch import Tensor

from hvg.core.bounds import Colour, Count, Elevations, FrameCount, FramesPerSecond, Seed, Side, ViewCount
from hvg.core.errors import ConfigError, Problem, did_you_mean
from hvg.core.random_keys import numpy_generator
from hvg.core.required import required
from hvg.data.driving import SIDES, close_up_sizes
from hvg.geometry.camera_moves import frame_by_frame, over_time
from hvg.geometry.close_ups import close_up_cameras
from hvg.geometry.meshes import vertex_normals
from hvg.geometry.motion import Motion
from hvg.parts.context import Context
from hvg.parts.scene import Dataset, Holdings, MeshImage
from hvg.values.body import MESH_FIELDS, BodyMotion
from hvg.values.cameras import Cameras, azimuths_degrees, orbit
from hvg.values.clip import ClipBatch, Reference
from hvg.values.moved import move_cameras
from hvg.values.scored_clip import Surface
from hvg.values.task import clip_task
from hvg.values.tensors import concatenate

from ..people.captions import described
from ..people.motions import MOTIONS, grounded, reference_pose
from ..people.moving_cameras import MovingCamerasConfig, moving
from ..people.person import Person, sample_look
from ..people.suit import SuitedPerson

# Whose video drives a clip, seen from where.
Driven = Literal["same_view", "other_view", "other_person", "other_both"]
# Degrees above the horizon; straight above there is no up in the picture.
# World light: from above, a little to the first camera's left and in front of the scene.
_LIGHT = np.array([-0.45, 0.70, 0.55]) / np.linalg.norm([-0.45, 0.70, 0.55])
_AMBIENT, _SKY, _KEY = 0.62, 0.10, 0.38
# Clips of a split; and rays of a clip, which are cast at once: 73 bytes each, 78 GB (decision 48).
MOST_CLIPS, MOST_RAYS = 100_000, 2**30
# Least turn, degrees, of a novel view's cameras away from the photo's; a quarter of their distance where that is less.
_NOVEL_TURN = 10.0
# Least turn, degrees, of a driving camera away from each of the clip's; a third of their distance where that is less.
_DRIVING_TURN = 30.0
# Share of ``framing_jitter`` that is used up and down: people stand, and fill the height but not the width.
_VERTICAL_JITTER = 1 / 3


@dataclass(frozen=True)
class _Scene:
    """Person, motion and cameras (V) of one clip, and these as they move (V, T). shape: the bare body's, by the body model's
    names.
    """

    shape: dict[str, float]
    person: Person
    body: BodyMotion
    cameras: Cameras
    moving: Cameras


def _counts(config: "Synthetic.Config") -> tuple[int, int]:
    """People of a split, and clips of each."""
    if config.split == "train":
        return config.num_subjects, config.clips_per_subject
    return config.num_held_out_subjects, config.clips_per_held_out_subject


def _height_width(config: "Synthetic.Config") -> tuple[int, int]:
    """Height and width of a picture, pixels."""
    size = config.image_size
    return size if isinstance(size, tuple) else (size, size)


def _subject(config: "Synthetic.Config", number: int) -> str:
    return f"{config.split}-{number:04d}"


def _clip_id(config: "Synthetic.Config", number: int, clip: int) -> str:
    return f"{_subject(config, number)}-{clip}"


def _is_view(config: "Synthetic.Config", number: int, clip: int) -> bool:
    """Whether a clip of subject ``number`` is a novel view: the share of all clips, as evenly as it goes."""
    index = number * _counts(config)[1] + clip
    return int((index + 1) * config.view_share) > int(index * config.view_share)


class Synthetic(Dataset):
    """People in vivid, partly loose clothes who walk, wave, squat, turn, dance or pose before an orbit of cameras, or stand as in
    the photo.
    """

    class Config(MovingCamerasConfig):
        """Settings of the rendered people."""

        seed: Seed = Field(0, description="Everything that is random follows from it and the indices.")
        split: Literal["train", "val", "test"] = Field("train", description="People of two splits are different.")
        num_subjects: Count = Field(192, description="Number of people to train on.")
        num_held_out_subjects: Count = Field(16, description="Number of people in val, and in test.")
        clips_per_subject: Count = Field(1, description="Clips of each training person, each its own motion.")
        clips_per_held_out_subject: Count = Field(1, description="Clips of each person in val and in test.")
        views: ViewCount = Field(4, description="V: cameras, spread evenly around the person.")
        frames: FrameCount = Field(4, description="T: frames in a clip.")
        image_size: Side | tuple[Side, Side] = Field(
            64, description="Side of the square image, or (height, width); pixels."
        )
        distance: float = Field(3.2, gt=1, le=1000, description="From the cameras to the person, metres.")
        fov_degrees: float = Field(
            36.0,
            gt=5,
            lt=120,
            description="Angle of view over the shorter image side. At 38 no hand touches the border; at 36 one in 64 does.",
        )
        elevation_degrees: Elevations = Field(
            (0.0, 12.0), description="Range of the cameras' height above the person's pelvis, drawn per clip."
        )
        azimuth_jitter_degrees: float = Field(
            20.0,
            ge=0,
            le=180,
            description="Largest turn of all cameras of a clip, away from the front; of a novel view's away from the photo's.",
        )
        framing_jitter: float = Field(
            0.0,
            ge=0,
            lt=0.5,
            description="Largest shift of the person from the picture's centre, as a fraction of its shorter side, drawn per "
            "view; the photo has its own. Sideways the whole of it, up and down a third. At 0.12 and 36 degrees one picture in "
            "50 touches the border, at 40 degrees none of 320 does.",
        )
        clothes: Literal["sampled", "suit"] = Field(
            "sampled",
            description="Everybody in their own clothes, or all in a suit that gives every limb a hue of its own, so that "
            "keypoints=suit finds their poses without a network.",
        )
        motions: tuple[str, ...] = Field(
            ("walk", "wave", "squat", "turn", "dance", "pose"),
            min_length=1,
            max_length=1000,
            description="Motions to draw from.",
        )
        view_share: float = Field(
            0.0,
            ge=0,
            le=1,
            description="Share of every split's clips, spread evenly over them, that are novel views: the person stands as in "
            "the photo, and none of the cameras is the photo's. The others are novel poses.",
        )
        photos: Literal["front", "front_back"] = Field(
            "front",
            description="Photos of a person, who stands the same in all. front: one. front_back: one from behind as well.",
        )
        frames_per_second: FramesPerSecond = Field(
            8.0, description="Rate of the video; a lower rate spreads a motion's cycle over fewer frames."
        )
        driving: Literal["none"] | Driven | Annotated[tuple[Driven, ...], Field(min_length=1, max_length=100)] = Field(
            "none",
            description="The driving video of every clip. same_view: the clip itself as its first camera sees it, which "
            "data.copied_driving has to allow in training. other_view: from between two of its cameras. other_person: "
            "somebody who is in no clip moves alike, before the first camera. other_both: that one from elsewhere. Several: "
            "each clip draws one of them; one that is named twice is drawn twice as often.",
        )
        hand_size: int = Field(
            0,
            ge=0,
            le=1024,
            description="Side of the pictures of the two hands in the driving video, each from nearby, pixels; 0: none are made.",
        )
        face_size: int = Field(
            0,
            ge=0,
            le=1024,
            description="Side of the pictures of the face in the driving video, from nearby, pixels; 0: none are made.",
        )
        supersampling: int = Field(2, ge=1, le=8, description="Rays per pixel along each side; makes alpha a coverage.")
        mesh: bool = Field(True, description="Whether clips carry the bare body's vertices (for mesh signals).")
        background: tuple[Colour, Colour, Colour] = Field(
            (1.0, 1.0, 1.0), description="sRGB colour behind the person, each in [0, 1]."
        )

        @model_validator(mode="after")
        def _can_be_made(self) -> "Synthetic.Config":
            for split, people, clips in (
                ("train", self.num_subjects, self.clips_per_subject),
                ("val and test", self.num_held_out_subjects, self.clips_per_held_out_subject),
            ):
                if people * clips > MOST_CLIPS:
                    raise ValueError(
                        f"{people} people with {clips} clips each are asked for in {split}; at most {MOST_CLIPS} clips are"
                    )
            if (close_ups := close_up_sizes(self)) and self.driving == "none":
                raise ValueError(
                    f"{SIDES[min(close_ups)]}: close-ups are of a driving video; choose one, as driving=other_view"
                )
            if "dolly" in self.camera_moves and self.dolly_metres > self.distance / 2:
                raise ValueError(
                    f"dolly_metres {self.dolly_metres:g} is more than half of the distance, {self.distance:g}"
                )
            height, width = _height_width(self)
            rays = self.views * self.frames * height * width * self.supersampling**2
            if rays > MOST_RAYS:
                raise ValueError(
                    f"{self.views} views x {self.frames} frames of {height}x{width} pixels, {self.supersampling}x supersampled, "
                    f"are {rays:.1e} rays, more than the {MOST_RAYS:.1e} that are cast for a clip"
                )
            return self

        @field_validator("motions")
        @classmethod
        def _known_motions(cls, names: tuple[str, ...]) -> tuple[str, ...]:
            for name in names:
                if name not in MOTIONS:
                    raise ValueError(f"no motion is named '{name}'. {did_you_mean(name, MOTIONS)}")
            return names

    def __init__(self, config: Config, context: Context) -> None:
        """Raises: ConfigError when the context lacks the body model or the renderer."""
        problems = [
            Problem(name, f"dataset=synthetic needs a {what}, and none was built; choose {name}={choice}")
            for name, what, choice in (("body", "body model", "anny"), ("renderer", "mesh renderer", "warp"))
            if getattr(context, name) is None
        ]
        if problems:
            raise ConfigError(problems)
        self.config = config
        self._num_subjects, self._clips_per_subject = _counts(config)
        self._body = required(context.body, "Context.body")
        self._renderer = required(context.renderer, "Context.renderer")

    @classmethod
    def provides(cls, config: "Synthetic.Config") -> frozenset[str]:
        """Fields of ClipBatch that every clip holds."""
        always = {
            "frames",
            "alpha",
            "cameras",
            "body",
            "reference",
            "task",
            "valid",
            "frame_index",
            "caption",
            "clip_id",
            "subject",
        }
        always |= {"driving"} if config.driving != "none" else set()
        always |= close_up_sizes(config).keys()
        return frozenset(always | (MESH_FIELDS if config.mesh else set()))

    @classmethod
    def num_photos(cls, config: "Synthetic.Config") -> int:
        return 1 if config.photos == "front" else 2

    @classmethod
    def drives_itself(cls, config: "Synthetic.Config") -> bool:
        kinds = config.driving
        return "same_view" in ((kinds,) if isinstance(kinds, str) else kinds)

    @classmethod
    def holdings(cls, config: "Synthetic.Config") -> Holdings:
        """Whom every clip shows: a model may be scored on files that were written of this dataset."""
        num_subjects, num_clips = _counts(config)
        named = [(subject, clip) for subject in range(num_subjects) for clip in range(num_clips)]
        return Holdings(subjects={_clip_id(config, *clip): _subject(config, clip[0]) for clip in named})

    def __len__(self) -> int:
        return self._num_subjects * self._clips_per_subject

    def load(self, index: int) -> ClipBatch:
        """Clip ``index``: clips of one person are neighbours. Raises: IndexError outside the dataset."""
        if not 0 <= index < len(self):
            raise IndexError(f"clip {index} of a dataset with {len(self)} clips")
        config = self.config
        number, clip = divmod(index, self._clips_per_subject)
        subject = _subject(config, number)
        scene = self._scene(number, clip)
        frames, alpha = self._render(scene.person, scene.body, scene.moving)
        v, t = config.views, config.frames
        loaded = ClipBatch(
            frames=self._grid(frames)[None],
            alpha=self._grid(alpha)[None],
            cameras=scene.moving[None],
            body=scene.body if config.mesh else scene.body.without_mesh(),
            reference=self._reference(number, scene.shape, scene.person),
            valid=torch.ones(1, v, t, dtype=torch.bool),
            frame_index=torch.arange(t)[None],
            caption=(described(scene.person, self._doing(number, clip)),),
            clip_id=(_clip_id(config, number, clip),),
            subject=(subject,),
        )
        return replace(loaded, task=clip_task(loaded), **self._driving(number, clip, scene, loaded))

    def surface(self, index: int) -> Surface:
        """The dressed mesh of clip ``index``, and what the pixel centres of its pictures see of it."""
        scene = self._scene(*divmod(index, self._clips_per_subject))
        vertices = _dressed(scene.person, scene.body)
        image = self._renderer.render(vertices, scene.person.faces, frame_by_frame(scene.moving, len(vertices)))
        return Surface(
            depth=self._grid(image.depth),
            face=self._grid(image.face),
            barycentric=self._grid(image.barycentric),
            vertices=vertices,
            faces=scene.person.faces,
            regions=scene.person.regions,
        )

    def _scene(self, number: int, clip: int) -> _Scene:
        """Subject ``number`` in motion, or as in the photo, before the cameras of a clip."""
        config = self.config
        shape, person = self._person(number)
        generator = numpy_generator(config.seed, config.split, number, "cameras", clip)
        is_view = _is_view(config, number, clip)
        if is_view:
            body, photo = self._photo(number, shape)
            body = body.select(torch.zeros(config.frames, dtype=torch.int64))
            cameras = self._cameras(body, generator, away_from=float(azimuths_degrees(photo)))
        else:
            motion = grounded(self._motion(number, clip), self._body, shape)
            body = self._body.animate(motion, shape, mesh=True)
            cameras = self._cameras(body, generator)
        cameras = self._framed(cameras, number, clip)
        moved = over_time(cameras, config.frames)
        if not is_view:
            moved = moving(moved, _middle(body), config, config.seed, config.split, number, "moves", clip)
        return _Scene(shape, person, body, cameras, moved)

    def _driving(self, number: int, clip: int, scene: _Scene, loaded: ClipBatch) -> dict[str, Tensor]:
        """The driving video of a clip, and close-ups of it, by the names of their fields."""
        kind = self._driver(number, clip)
        if kind == "none":
            return {}
        person, body = scene.person, scene.body
        if kind in ("other_person", "other_both"):
            shape, person = self._person(number, f"driving-person-{clip}")
            body = self._moving_alike(number, clip, shape)
        camera, frames = scene.moving[:1], required(loaded.frames, "frames")[:, 0]
        if kind in ("other_view", "other_both"):
            camera = over_time(self._camera_between(number, clip, body, scene.cameras), self.config.frames)
        if kind != "same_view":
            frames = self._render(person, body, camera)[0][None]
        sizes = close_up_sizes(self.config).items()
        cameras = {close_up: close_up_cameras(body, camera[0], close_up, size) for close_up, size in sizes}
        return {"driving": frames, **{close_up: self._near(person, body, x) for close_up, x in cameras.items()}}

    def _driver(self, number: int, clip: int) -> str:
        """What drives a clip, a word of ``driving``."""
        kinds = self.config.driving
        if isinstance(kinds, str):
            return kinds
        draw = numpy_generator(self.config.seed, self.config.split, number, "driver", clip)
        return kinds[int(draw.integers(len(kinds)))]

    def _moving_alike(self, number: int, clip: int, shape: dict[str, float]) -> BodyMotion:
        """A person of this shape who moves as subject ``number`` does in a clip, or stands as in its photo."""
        if _is_view(self.config, number, clip):
            body, _ = self._photo(number, shape)
            return body.select(torch.zeros(self.config.frames, dtype=torch.int64))
        motion = grounded(self._motion(number, clip), self._body, shape)
        return self._body.animate(motion, shape, mesh=True)

    def _camera_between(self, number: int, clip: int, body: BodyMotion, cameras: Cameras) -> Cameras:
        """A camera (1) between two neighbours of a clip's, not near either, at a height and with a framing of its own."""
        config, count = self.config, len(cameras.world_to_camera)
        drawn = numpy_generator(config.seed, config.split, number, "driving", clip)
        gap = 360.0 / count
        least = min(_DRIVING_TURN, gap / 3)
        beside = float(azimuths_degrees(cameras[int(drawn.integers(count))]))
        camera = self._orbit(torch.tensor([beside + float(drawn.uniform(least, gap - least))]), body, drawn)
        return self._framed(camera, number, f"driving-{clip}")

    def _near(self, person: Person, body: BodyMotion, cameras: Cameras) -> Tensor:
        """A close-up of a clip (1, T, N, 3, h, w), each picture by its own camera (T, N)."""
        seen = [
            self._render(person, body.select(torch.tensor([t])), cameras[t])[0] for t in range(body.joints.shape[1])
        ]
        return torch.stack(seen)[None]

    def _grid(self, images: Tensor) -> Tensor:
        """(T * V, ...), frame by frame -> (V, T, ...)."""
        return images.unflatten(0, (self.config.frames, self.config.views)).transpose(0, 1)

    def _person(self, number: int, role: str = "person") -> tuple[dict[str, float], Person]:
        """Body shape and dressed person of subject ``number``; role: of somebody else, who drives one of their clips."""
        generator = numpy_generator(self.config.seed, self.config.split, number, role)
        shape = self._body.random_shape(generator)
        rest = self._body.animate(Motion(rotations={"pelvis": torch.zeros(1, 3)}), shape, mesh=True)
        if self.config.clothes == "suit":
            return shape, SuitedPerson(rest, generator)
        return shape, Person(rest, sample_look(generator), generator)

    def _drawn(self, number: int, clip: int) -> tuple[str, np.random.Generator]:
        """Name of a clip's motion, and what draws the rest of it."""
        config = self.config
        generator = numpy_generator(config.seed, config.split, number, "motion", clip)
        return config.motions[generator.integers(len(config.motions))], generator

    def _motion(self, number: int, clip: int) -> Motion:
        name, generator = self._drawn(number, clip)
        return MOTIONS[name](generator, self.config.frames, self.config.frames_per_second)

    def _doing(self, number: int, clip: int) -> str | None:
        """Name of the motion that a clip shows; None where the person stands as in the photo."""
        return None if _is_view(self.config, number, clip) else self._drawn(number, clip)[0]

    def _cameras(
        self,
        body: BodyMotion,
        generator: np.random.Generator,
        views: int | None = None,
        away_from: float | None = None,
        facing: float = 0.0,
    ) -> Cameras:
        """Cameras (V) on an orbit around the mean place of the pelvis; they stand still for the whole clip.

        away_from: azimuth of the photo's camera, degrees, near which the first one stands, and where none does. facing: azimuth
        around which the first one stands otherwise, 0 before the person.
        """
        config = self.config
        views = views or config.views
        jitter, apart = config.azimuth_jitter_degrees, 360.0 / views
        if away_from is None:
            turn = facing + float(generator.uniform(-jitter, jitter))
        else:
            least = min(_NOVEL_TURN, apart / 4)
            side = float(generator.uniform(-1, 1))
            turn = away_from + math.copysign(least, side) + side * (min(max(jitter, least), apart / 2) - least)
        return self._orbit(torch.arange(views) * apart + turn, body, generator)

    def _orbit(self, azimuths: Tensor, body: BodyMotion, generator: np.random.Generator) -> Cameras:
        """Cameras (V) at these azimuths, degrees, on an orbit at a height that is drawn."""
        config = self.config
        return orbit(
            azimuths,
            elevation_degrees=float(generator.uniform(*config.elevation_degrees)),
            distance=config.distance,
            target=_middle(body),
            fov_degrees=config.fov_degrees,
            image_size=_height_width(config),
        )

    def _framed(self, cameras: Cameras, number: int, clip: int | str) -> Cameras:
        """The cameras (V) with their principal points moved, so that the person is off the middle, in each by its own draw."""
        config = self.config
        draws = [
            numpy_generator(config.seed, config.split, number, "framing", clip, view).uniform(-1, 1, size=2)
            for view in range(len(cameras.intrinsics))
        ]
        largest = config.framing_jitter * min(cameras.image_size)
        shifts = largest * np.array(draws) * (1, _VERTICAL_JITTER)
        return move_cameras(cameras, torch.from_numpy(shifts))

    def _photo(self, number: int, shape: dict[str, float]) -> tuple[BodyMotion, Cameras]:
        """How subject ``number`` stands for the photo, relaxed and from the front, and its camera (1)."""
        generator = numpy_generator(self.config.seed, self.config.split, number, "reference")
        motion = grounded(reference_pose(generator), self._body, shape)
        body = self._body.animate(motion, shape, mesh=True)
        return body, self._framed(self._cameras(body, generator, views=1), number, "reference")

    def _photo_cameras(self, number: int, body: BodyMotion, front: Cameras) -> Cameras:
        """The cameras (R) of all photos of subject ``number``, who stands as in the first one."""
        if self.config.photos == "front":
            return front
        generator = numpy_generator(self.config.seed, self.config.split, number, "back")
        behind = self._cameras(body, generator, views=1, facing=180.0)
        return concatenate([front, self._framed(behind, number, "back")])

    def _reference(self, number: int, shape: dict[str, float], person: Person) -> Reference:
        """Separate photos of the person, each with its own camera."""
        body, front = self._photo(number, shape)
        cameras = self._photo_cameras(number, body, front)
        frames, alpha = self._render(person, body, cameras)
        body = body.select(torch.zeros(len(frames), dtype=torch.int64))
        return Reference(
            frames=frames[None],
            alpha=alpha[None],
            cameras=cameras[None],
            body=body if self.config.mesh else body.without_mesh(),
        )

    def _render(self, person: Person, body: BodyMotion, cameras: Cameras) -> tuple[Tensor, Tensor]:
        """Frames (T * V, 3, H, W) in [-1, 1] and alpha (T * V, 1, H, W), frame by frame; both are bytes over 255."""
        vertices = _dressed(person, body)
        height, width = cameras.image_size
        fine = cameras.resized((height * self.config.supersampling, width * self.config.supersampling))
        fine = frame_by_frame(fine, len(vertices))
        image = self._renderer.render(vertices, person.faces, fine)
        sums = _shade(person, image, fine, self.config.supersampling)
        coverage = sums[..., 3:]
        colour = sums[..., :3] + (1 - coverage) * np.array(self.config.background)
        pixels = torch.from_numpy(np.concatenate([colour, coverage], axis=-1)).permute(0, 3, 1, 2)
        pixels = (pixels * 255).round().clamp(0, 255).float()
        return pixels[:, :3] / 127.5 - 1, pixels[:, 3:] / 255


def _dressed(person: Person, body: BodyMotion) -> Tensor:
    """Vertices (T, P, 3) of a person, clothes and hair included, who moves like the bare body; world, metres."""
    bare, faces = required(body.vertices, "BodyMotion.vertices"), required(body.faces, "BodyMotion.faces")
    return person.vertices(body, vertex_normals(bare[0], faces))


def _middle(body: BodyMotion) -> Tensor:
    """Where cameras look (3): slightly below the mean place of the pelvis lies the middle of a standing person."""
    pelvis = body.joints[0, :, body.joint_names.index("pelvis")].mean(dim=0)
    return pelvis - torch.tensor([0.0, 0.03, 0.0])


def _shade(person: Person, image: MeshImage, cameras: Cameras, supersampling: int) -> np.ndarray:
    """Mean colour times coverage, then coverage, (N, H, W, 4), of the samples in every pixel."""
    view, row, column = (part.numpy() for part in (image.face >= 0).nonzero(as_tuple=True))
    face = image.face.numpy()[view, row, column]
    albedo = person.colour(face, image.barycentric.numpy()[view, row, column])
    normal = image.normal.numpy()[view, row, column]
    # A loose cloth is seen from both sides; its inside is lit like its outside, but darker.
    inside = normal[:, 2] > 0.3
    normal = np.where(inside[:, None], -normal, normal)
    in_world = np.einsum("nij,ni->nj", cameras.world_to_camera[:, :3, :3].numpy()[view], normal)
    light = _AMBIENT + _SKY * in_world[:, 1] + _KEY * np.clip(in_world @ _LIGHT, 0, None)
    light = light * np.where(inside, 0.6, 1.0) * (0.82 + 0.18 * np.clip(-normal[:, 2], 0, 1) ** 0.5)
    samples = np.concatenate([np.clip(albedo * light[:, None], 0, 1), np.ones((len(face), 1))], axis=1)
    height, width = (side // supersampling for side in cameras.image_size)
    count = len(cameras.world_to_camera)
    pixel = (view * height + row // supersampling) * width + column // supersampling
    sums = [np.bincount(pixel, weights=channel, minlength=count * height * width) for channel in samples.T]
    return np.stack(sums, axis=-1).reshape(count, height, width, 4) / supersampling**2
