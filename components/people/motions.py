"""Procedural motions of a standing person, as ``hvg.geometry.motion.Motion`` values in SMPL-X's T-pose frame.

Signs in that frame (x to the person's left, y up, z forward): a left arm comes down by -z, a right one by +z; a hanging
arm swings forward by -x; a left elbow bends forward by -y, a right one by +y; a thigh comes forward by -x, a knee bends
by +x; the trunk bows by +x; a person turns to their left by +y.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor

from hvg.geometry.motion import Motion
from hvg.geometry.rotations import axis_angle, rotation_matrix
from hvg.parts.scene import BodyModel

SIDES = (("left", 1.0), ("right", -1.0))
_X, _Y, _Z = torch.eye(3)


@dataclass
class _Pose:
    """T frames under construction: every entry is an angle in radians, (T,) or a number.

    lift: of the arm from hanging straight down, sideways. swing: of the hanging arm, forward. elbow, thigh, knee:
    flexion.
    spread: of the leg, sideways. bow, lean, twist: of the trunk, forward, to the left, to the left. yaw: heading.
    nod, look: of the head, down and to the left. sway: of the pelvis, metres to the left.
    """

    frames: int
    values: dict[str, Tensor] = field(default_factory=dict)

    def set(self, side: str = "", **angles: np.ndarray | float) -> None:
        """Sets angles by name, of a side's limbs where one is given."""
        for name, value in angles.items():
            values = np.broadcast_to(value, self.frames).astype(np.float32).copy()
            self.values[f"{side}_{name}" if side else name] = torch.as_tensor(values)

    def turn(self, name: str, axis: Tensor) -> Tensor:
        """Rotation matrices (T, 3, 3) about ``axis`` by the named angle, 0 where it was not set."""
        return rotation_matrix(self.values.get(name, torch.zeros(self.frames))[:, None] * axis)

    def motion(self, frames_per_second: float) -> Motion:
        rotations = {"pelvis": self.turn("yaw", _Y) @ self.turn("tilt", _X)}
        trunk = {"spine1": 0.3, "spine2": 0.35, "spine3": 0.35}
        trunk_turn = axis_angle(self.turn("twist", _Y) @ self.turn("bow", _X) @ self.turn("lean", -_Z))
        rotations |= {joint: rotation_matrix(share * trunk_turn) for joint, share in trunk.items()}
        head = axis_angle(self.turn("look", _Y) @ self.turn("nod", _X))
        rotations |= {"neck": rotation_matrix(0.4 * head), "head": rotation_matrix(0.6 * head)}
        for side, sign in SIDES:
            down = rotation_matrix((0.5 * torch.pi - self.values[f"{side}_lift"])[:, None] * (-sign * _Z))
            rotations[f"{side}_shoulder"] = self.turn(f"{side}_swing", -_X) @ down
            rotations[f"{side}_elbow"] = self.turn(f"{side}_elbow", -sign * _Y)
            rotations[f"{side}_hip"] = self.turn(f"{side}_thigh", -_X) @ self.turn(f"{side}_spread", sign * _Z)
            rotations[f"{side}_knee"] = self.turn(f"{side}_knee", _X)
            rotations[f"{side}_ankle"] = self.turn(f"{side}_toes", _X)
        translation = torch.zeros(self.frames, 3)
        translation[:, 0] = self.values.get("sway", torch.zeros(self.frames))
        return Motion(
            rotations={joint: axis_angle(matrix) for joint, matrix in rotations.items()},
            translation=translation,
            frames_per_second=frames_per_second,
        )


def _standing(generator: np.random.Generator, frames: int) -> _Pose:
    """A relaxed stance with small personal differences."""
    pose = _Pose(frames)
    for side, _ in SIDES:
        pose.set(
            side,
            lift=generator.uniform(0.16, 0.32),
            swing=generator.uniform(-0.05, 0.12),
            elbow=generator.uniform(0.15, 0.4),
            spread=generator.uniform(0.0, 0.08),
        )
    pose.set(look=generator.uniform(-0.25, 0.25), nod=generator.uniform(-0.05, 0.12))
    return pose


def _cycle(generator: np.random.Generator, frames: int, seconds: float, frames_per_second: float) -> np.ndarray:
    """Phase (T,) in radians of a movement that repeats about every ``seconds``, from a random start."""
    period = seconds * generator.uniform(0.85, 1.2)
    return generator.uniform(0, 2 * np.pi) + 2 * np.pi * np.arange(frames) / (frames_per_second * period)


def _bend_legs(pose: _Pose, side: str, thigh: np.ndarray, knee: np.ndarray) -> None:
    """Sets a leg and keeps its sole about level."""
    pose.set(side, thigh=thigh, knee=knee, toes=np.clip(thigh - knee, -0.9, 0.4))


def walk(generator: np.random.Generator, frames: int, frames_per_second: float = 8.0) -> Motion:
    """Walking on the spot, as on a treadmill; arms swing against the legs."""
    pose = _standing(generator, frames)
    phase = _cycle(generator, frames, 1.1, frames_per_second)
    stride, arms = generator.uniform(0.32, 0.52), generator.uniform(0.5, 1.0)
    for side, offset in (("left", 0.0), ("right", np.pi)):
        step = np.sin(phase + offset)
        knee = 0.1 + stride * 1.5 * np.clip(np.cos(phase + offset), 0, None) ** 1.5
        _bend_legs(pose, side, 0.08 + stride * step, knee)
        pose.set(side, swing=-arms * stride * step * 1.3, elbow=0.35 + 0.3 * arms * np.clip(-step, 0, None))
    pose.set(twist=0.12 * np.sin(phase), bow=generator.uniform(0.0, 0.12), sway=0.02 * np.cos(phase))
    return _headed(pose, generator).motion(frames_per_second)


def wave(generator: np.random.Generator, frames: int, frames_per_second: float = 8.0) -> Motion:
    """Greeting with one raised arm."""
    pose = _standing(generator, frames)
    phase = _cycle(generator, frames, 0.9, frames_per_second)
    side, _ = SIDES[generator.integers(2)]
    pose.set(
        side, swing=0.15, lift=generator.uniform(1.6, 2.0) + 0.15 * np.sin(phase), elbow=0.75 + 0.5 * np.sin(phase)
    )
    pose.set(lean=(0.1 if side == "right" else -0.1) + 0.04 * np.sin(phase))
    return _headed(pose, generator).motion(frames_per_second)


def squat(generator: np.random.Generator, frames: int, frames_per_second: float = 8.0) -> Motion:
    """Knee bends with the arms coming forward."""
    pose = _standing(generator, frames)
    depth = generator.uniform(0.7, 1.25) * 0.5 * (1 + np.sin(_cycle(generator, frames, 1.3, frames_per_second)))
    spread = generator.uniform(0.12, 0.25)
    for side, _ in SIDES:
        _bend_legs(pose, side, depth, 1.85 * depth)
        pose.set(side, spread=spread, swing=1.15 * depth, elbow=0.2)
    pose.set(tilt=0.25 * depth, bow=0.4 * depth)
    return _headed(pose, generator).motion(frames_per_second)


def turn(generator: np.random.Generator, frames: int, frames_per_second: float = 8.0) -> Motion:
    """Turning on the spot with small steps."""
    pose = _standing(generator, frames)
    phase = _cycle(generator, frames, 1.0, frames_per_second)
    for side, offset in (("left", 0.0), ("right", np.pi)):
        lifted = np.clip(np.sin(phase + offset), 0, None)
        _bend_legs(pose, side, 0.45 * lifted, 0.85 * lifted)
        pose.set(side, swing=-0.2 * np.sin(phase + offset))
    speed = generator.choice([-1.0, 1.0]) * generator.uniform(1.5, 2.6)
    pose.set(yaw=generator.uniform(-np.pi, np.pi) + speed * np.arange(frames) / frames_per_second)
    return pose.motion(frames_per_second)


def dance(generator: np.random.Generator, frames: int, frames_per_second: float = 8.0) -> Motion:
    """Swaying hips, stepping from foot to foot, arms in the air."""
    pose = _standing(generator, frames)
    phase = _cycle(generator, frames, 1.2, frames_per_second)
    height = generator.uniform(0.9, 1.7)
    for side, offset in (("left", 0.0), ("right", np.pi)):
        beat = np.sin(phase + offset)
        _bend_legs(pose, side, 0.18 + 0.3 * np.clip(beat, 0, None), 0.3 + 0.55 * np.clip(beat, 0, None))
        pose.set(
            side,
            spread=0.15,
            lift=height + 0.45 * np.sin(phase + offset + 0.6),
            swing=0.35,
            elbow=0.9 + 0.5 * np.cos(phase + offset),
        )
    pose.set(lean=0.14 * np.sin(phase), twist=0.3 * np.sin(phase + 0.8), sway=-0.04 * np.sin(phase))
    return _headed(pose, generator).motion(frames_per_second)


def pose(generator: np.random.Generator, frames: int, frames_per_second: float = 8.0) -> Motion:
    """One of a few poses, held with a little breathing: hands on hips, arms out, hand on the chin, lunge, relaxed."""
    held = _standing(generator, frames)
    kind = generator.integers(5)
    side, _ = SIDES[generator.integers(2)]
    if kind == 0:
        for each, _ in SIDES:
            held.set(each, lift=0.75, swing=-0.35, elbow=1.55)
    elif kind == 1:
        for each, _ in SIDES:
            held.set(each, lift=generator.uniform(1.2, 1.7), elbow=0.1)
    elif kind == 2:
        held.set(side, swing=0.8, elbow=2.2)
    elif kind == 3:
        _bend_legs(held, side, np.full(frames, 0.85), np.full(frames, 0.95))
        other = "right" if side == "left" else "left"
        _bend_legs(held, other, np.full(frames, -0.35), np.full(frames, 0.35))
        held.set(other, toes=-0.0)
    held.set(bow=0.03 * np.sin(_cycle(generator, frames, 3.0, frames_per_second)))
    return _headed(held, generator).motion(frames_per_second)


def reference_pose(generator: np.random.Generator) -> Motion:
    """One frame: a relaxed stance that faces the camera, arms clear of the body."""
    stance = _standing(generator, 1)
    for side, _ in SIDES:
        stance.set(side, lift=generator.uniform(0.25, 0.5), swing=0.05)
    stance.set(look=generator.uniform(-0.1, 0.1), yaw=generator.uniform(-0.12, 0.12))
    return stance.motion(1.0)


def _headed(pose: _Pose, generator: np.random.Generator) -> _Pose:
    """Facing nearly any way within half a right angle of the first camera."""
    pose.set(yaw=generator.uniform(-0.6, 0.6))
    return pose


MOTIONS: Mapping[str, Callable[..., Motion]] = {
    "walk": walk,
    "wave": wave,
    "squat": squat,
    "turn": turn,
    "dance": dance,
    "pose": pose,
}


def grounded(motion: Motion, body: BodyModel, shape: Mapping[str, float]) -> Motion:
    """``motion`` with the height of the pelvis changed so that, in every frame, the lower foot is on the floor."""
    rest = Motion(rotations={"pelvis": torch.zeros(1, 3)})
    standing, moving = (body.animate(m, shape, mesh=False) for m in (rest, motion))
    feet = [k for k, name in enumerate(standing.joint_names) if name.endswith(("_ankle", "_foot"))]
    above = (moving.joints[0, :, feet, 1] - standing.joints[0, :, feet, 1]).amin(dim=1)
    translation = torch.zeros(motion.num_frames, 3) if motion.translation is None else motion.translation.clone()
    translation[:, 1] -= above
    return replace(motion, translation=translation)
