"""What is shown of a scene at a time: plain values, whatever draws them.

World and cameras are those of ``hvg.values.cameras``: metres, y up; a camera looks along its z, its x is right, its y down.
Rotations are quaternions (w, x, y, z) from an own frame to the world. Colours are sRGB of 8 bits.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

from hvg.core.errors import DataError
from hvg.geometry.body_ellipsoids import body_ellipsoids
from hvg.geometry.body_parts import bone_codes, part_colours
from hvg.geometry.camera_moves import common_point
from hvg.geometry.ellipsoids import Ellipsoids
from hvg.geometry.rotations import of_quaternion, quaternion
from hvg.geometry.skeleton import JOINTS, bone_index, complete_joints
from hvg.values.body import BodyMotion
from hvg.values.cameras import Cameras

Colour = tuple[int, int, int]
# Of a person alone; of a true body beside a fitted one, and of that: those of `hvg show`.
PLAIN, TRUE, FITTED = (178, 188, 204), (255, 51, 51), (26, 140, 255)
# How many metres in front of their cameras people are looked for where none are known.
AHEAD = 3.0
# Height of the lowest point of somebody who stands on the floor, at most, metres.
NEAR_FLOOR = 0.2
# Share of the distance from cameras to people that a picture is before its camera, and between how many metres.
PICTURE_SHARE, PICTURE_NEAREST, PICTURE_FARTHEST = 0.13, 0.08, 1.0


@dataclass(frozen=True, kw_only=True)
class Figure:
    """A person over time, T frames.

    joints: (T, J, 3). bones: ellipsoids (T, 24) around them, and ends: (T, 24, 2, 3), the two joints of each; None of a body that
    lacks some of these. vertices: (T, P, 3) of the body's mesh, faces: (F, 3); None where there is none. Of one in
    the colour ``PLAIN`` those of ellipsoids and bones say which part they are, else all of it is in its colour.
    """

    name: str
    colour: Colour
    joints: Tensor
    bones: Ellipsoids | None
    ends: Tensor | None
    vertices: Tensor | None
    faces: Tensor | None

    def bone_colours(self) -> np.ndarray:
        """(24, 3) uint8."""
        if self.colour != PLAIN:
            return np.broadcast_to(np.array(self.colour, np.uint8), (len(bone_codes()), 3)).copy()
        return (part_colours(bone_codes()) * 255).round().to(torch.uint8).numpy()


def figure(name: str, body: BodyMotion, colour: Colour = PLAIN) -> Figure:
    """The person of a body (B = 1)."""
    try:
        joints = complete_joints(body.joints, body.joint_names)
        first, second = bone_index(JOINTS, joints.device)
        bones = body_ellipsoids(body)
    except DataError:
        # A body that lacks some is shown as it is.
        joints, bones, ends = body.joints, None, None
    else:
        bones = Ellipsoids(**{key: x[0] for key, x in vars(bones).items()})
        ends = torch.stack([joints[0][:, first], joints[0][:, second]], dim=2)
    mesh = body.vertices is not None and body.faces is not None
    return Figure(
        name=name,
        colour=colour,
        joints=joints[0],
        bones=bones,
        ends=ends,
        vertices=body.vertices[0] if mesh and body.vertices is not None else None,
        faces=body.faces if mesh else None,
    )


@dataclass(frozen=True, kw_only=True)
class Scene:
    """People and cameras over T frames.

    cameras: (V, T), with their names. seen: the cameras (V, T) that took ``pictures``: of each view (T, H, W, 3) uint8, of any
    size, None where it took none. title, notes: what is said of it. target: (3), what the cameras look at.
    floor: height of it, metres. rate: frames per second.
    """

    title: str
    figures: tuple[Figure, ...]
    cameras: Cameras
    names: tuple[str, ...]
    pictures: tuple[np.ndarray | None, ...]
    seen: Cameras
    target: Tensor
    floor: float
    rate: float
    notes: tuple[str, ...] = ()

    @property
    def num_frames(self) -> int:
        """T."""
        return self.cameras.shape[1]


def make_scene(
    title: str,
    figures: Sequence[Figure],
    path: tuple[Cameras, Sequence[str]],
    pictures: Sequence[np.ndarray | None],
    rate: float,
    notes: Sequence[str] = (),
) -> Scene:
    """A scene whose cameras, and their names, stand where their pictures were taken."""
    cameras, names = path
    ahead = cameras.centers + AHEAD * cameras.world_to_camera[..., 2, :3]
    people = [person.joints.reshape(-1, 3).mean(dim=0) for person in figures[:1]]
    target = common_point(cameras, people[0] if people else ahead.reshape(-1, 3).mean(dim=0))
    return Scene(
        title=title,
        figures=tuple(figures),
        cameras=cameras,
        names=tuple(names),
        pictures=tuple(pictures),
        seen=cameras,
        target=target,
        floor=_floor(figures),
        rate=rate,
        notes=tuple(notes),
    )


def _floor(figures: Sequence[Figure]) -> float:
    """Height of the floor: 0 of our worlds, where feet are near it; else where people are lowest."""
    points = [person.joints if person.vertices is None else person.vertices for person in figures]
    lowest = min((float(x[..., 1].min()) for x in points), default=0.0)
    return 0.0 if abs(lowest) < NEAR_FLOOR else lowest


@dataclass(frozen=True, kw_only=True)
class Balls:
    """Ellipsoids: center (N, 3), rotation (N, 4) of their axes, half_axes (N, 3), the third along the bone; colour (N, 3)."""

    center: np.ndarray
    rotation: np.ndarray
    half_axes: np.ndarray
    colour: np.ndarray


@dataclass(frozen=True, kw_only=True)
class ShownFigure:
    """A person at a time. mesh: vertices (P, 3). bones: (24, 2, 3), from joint to joint. joints: (J, 3)."""

    name: str
    mesh: np.ndarray | None
    ellipsoids: Balls | None
    bones: np.ndarray | None
    joints: np.ndarray


@dataclass(frozen=True, kw_only=True)
class ShownCamera:
    """A camera at a time. center: (3). rotation: (4), of its axes. corners: (4, 3), where those of the picture are in the world:
    top left, top right, bottom right, bottom left. picture: (H, W, 3) uint8 that it saw, None for none.
    """

    name: str
    center: np.ndarray
    rotation: np.ndarray
    corners: np.ndarray
    picture: np.ndarray | None

    @property
    def picture_size(self) -> tuple[float, float]:
        """Width and height of the picture in the world, metres."""
        sides = self.corners[[1, 3]] - self.corners[0]
        width, height = np.linalg.norm(sides, axis=-1).tolist()
        return width, height


@dataclass(frozen=True, kw_only=True)
class Moment:
    """All that is shown at a time."""

    figures: tuple[ShownFigure, ...]
    cameras: tuple[ShownCamera, ...]


def moment(scene: Scene, frame: int, picture_distance: float) -> Moment:
    """What is shown of a scene in a frame. picture_distance: from a camera to its picture, metres.

    A camera that is no more where it took its pictures shows none.
    """
    return Moment(
        figures=tuple(_shown(person, frame) for person in scene.figures),
        cameras=tuple(_cameras(scene, frame, picture_distance)),
    )


def fitting_distance(scene: Scene) -> float:
    """Distance from cameras to their pictures at which these are neither tiny nor in the way, metres."""
    away = (scene.cameras.centers - scene.target).norm(dim=-1).median()
    return min(PICTURE_FARTHEST, max(PICTURE_NEAREST, PICTURE_SHARE * float(away)))


def _shown(person: Figure, frame: int) -> ShownFigure:
    return ShownFigure(
        name=person.name,
        mesh=None if person.vertices is None else person.vertices[frame].numpy(),
        ellipsoids=None if person.bones is None else _balls(person, person.bones, frame),
        bones=None if person.ends is None else person.ends[frame].numpy(),
        joints=person.joints[frame].numpy(),
    )


def _balls(person: Figure, bones: Ellipsoids, frame: int) -> Balls:
    axis, across = bones.axis[frame], bones.radius[frame]
    # Any two directions across the bone will do: the third axis is what matters.
    upright = axis[:, 1:2].abs() > 0.9
    aside = torch.where(upright, axis.new_tensor([1.0, 0.0, 0.0]), axis.new_tensor([0.0, 1.0, 0.0]))
    first = normalize(torch.linalg.cross(aside, axis), dim=-1)
    turn = torch.stack([first, torch.linalg.cross(axis, first), axis], dim=-1)
    return Balls(
        center=bones.center[frame].numpy(),
        rotation=quaternions(turn),
        half_axes=torch.stack([across, across, bones.half_length[frame]], dim=-1).numpy(),
        colour=person.bone_colours(),
    )


def _cameras(scene: Scene, frame: int, distance: float) -> Iterator[ShownCamera]:
    cameras = scene.cameras[:, frame]
    rotations, corners = quaternions(cameras.world_to_camera[:, :3, :3].mT), picture_corners(cameras, distance)
    same = (cameras.world_to_camera == scene.seen.world_to_camera[:, frame]).all(dim=(1, 2)).tolist()
    for v, name in enumerate(scene.names):
        pictures = scene.pictures[v]
        yield ShownCamera(
            name=name,
            center=cameras.centers[v].numpy(),
            rotation=rotations[v],
            corners=corners[v].numpy(),
            picture=pictures[frame] if pictures is not None and same[v] else None,
        )


def picture_corners(cameras: Cameras, distance: float) -> Tensor:
    """Corners (V, 4, 3) of the pictures of cameras (V) in the world, ``distance`` metres before them, clockwise from top left."""
    height, width = cameras.image_size
    pixels = cameras.intrinsics.new_tensor([[0, 0, 1], [width, 0, 1], [width, height, 1], [0, height, 1]])
    rays = distance * pixels @ torch.linalg.inv(cameras.intrinsics).mT
    rotation, shift = cameras.world_to_camera[:, :3, :3], cameras.world_to_camera[:, None, :3, 3]
    # The rows of a rotation are the camera's axes in the world.
    return (rays - shift) @ rotation


def quaternions(rotations: Tensor) -> np.ndarray:
    """(w, x, y, z), (..., 4), of rotation matrices (..., 3, 3)."""
    return quaternion(rotations).numpy()


def rotation_of(found: Sequence[float] | np.ndarray) -> Tensor:
    """The rotation matrix (3, 3), float64, of (w, x, y, z)."""
    return of_quaternion(normalize(torch.as_tensor(np.asarray(found, np.float64)), dim=-1))
