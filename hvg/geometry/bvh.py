"""Motions in BVH: a skeleton of somebody's own with a frame of angles a line, as positions of joints under SMPL-X's names.

Written here, for it is a simple format and no library for it is kept without others that hvg has no use for (``bvh`` rests since
2017, ``bvhio`` and ``bvhTools`` bring OpenGL's mathematics or a game library). Format: M. Meredith and S. Maddock, Motion Capture
File Formats Explained, 2001. Rotations are in the order of the channels, each about the axes that the ones before it
have turned; y is up.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from hvg.core.errors import DataError
from hvg.geometry.foreign_motion import limb_length, nearest_unit

# Bytes. An hour at 120 frames a second takes 0.5 GB.
LARGEST = 2**30
_AXES = "XYZ"
_CHANNELS = frozenset(f"{axis}{kind}" for axis in _AXES for kind in ("position", "rotation"))
# Usual names of joints, in lower case, without the rig's and without _, :, - and spaces; {s} stands for left or l, right or r.
# Mixamo, CMU and LAFAN1 have hips, UpLeg, Leg, Foot, ToeBase, Shoulder, Arm, ForeArm and Hand. Where no joint is called an arm,
# the one called a shoulder is one.
_CENTRAL: Mapping[str, tuple[str, ...]] = {
    "pelvis": ("hips", "pelvis", "hip", "root"),
    "spine1": ("lowerback", "spine", "spine0", "abdomen"),
    "spine2": ("spine1", "chest"),
    "spine3": ("spine2", "spine3", "chest2", "upperchest"),
    "neck": ("neck", "neck1", "head"),
    "head": ("head",),
}
_SIDED: Mapping[str, tuple[str, ...]] = {
    "hip": ("{s}upleg", "{s}thigh", "{s}hip"),
    "knee": ("{s}leg", "{s}shin", "{s}knee", "{s}calf"),
    "ankle": ("{s}foot", "{s}ankle"),
    "foot": ("{s}toebase", "{s}toe", "{s}toes"),
    "shoulder": ("{s}arm", "{s}upperarm", "{s}uparm", "{s}shldr", "{s}shoulder"),
    "collar": ("{s}collar", "{s}clavicle", "{s}shoulder"),
    "elbow": ("{s}forearm", "{s}lowerarm", "{s}elbow", "{s}lowarm"),
    "wrist": ("{s}hand", "{s}wrist"),
    "middle1": ("{s}handmiddle1", "{s}middle1"),
}
_SIDES = {"left": ("left", "l"), "right": ("right", "r")}
_NEEDED = ("pelvis", *(f"{side}_{joint}" for side in _SIDES for joint in ("hip", "shoulder")))


@dataclass
class _Joint:
    name: str
    parent: int
    offset: np.ndarray = field(default_factory=lambda: np.zeros(3))
    channels: tuple[str, ...] = ()


def read_bvh(path: Path) -> tuple[dict[str, np.ndarray], tuple[str, ...]]:
    """Arrays by the keys of ``hvg.geometry.motion_files`` in metres, and notes. Raises: DataError."""
    if path.stat().st_size > LARGEST:
        raise DataError(f"{path}: {path.stat().st_size} bytes; at most {LARGEST} are read")
    head, _, rest = path.read_text(encoding="utf-8", errors="replace").partition("MOTION")
    try:
        joints = _hierarchy(head.split())
        seconds, values = _frames(rest, sum(len(joint.channels) for joint in joints))
    except (ValueError, IndexError) as error:
        raise DataError(f"{path}: damaged or no BVH ({' '.join(str(error).split())[:120]})") from error
    places = _positions(joints, values)
    named = _named(joints)
    missing = [name for name in _NEEDED if name not in named]
    if missing:
        raise DataError(
            f"{path}: none of its joints is the {missing[0]}; it has {', '.join(j.name for j in joints)[:200]}; expected names "
            "as of Mixamo, CMU or LAFAN1 (docs/motions.md)"
        )
    chosen = {name: torch.from_numpy(places[:, k]) for name, k in named.items()}
    unit, per_metre = nearest_unit(limb_length(chosen))
    arrays = {
        "joints": places[:, list(named.values())] / per_metre,
        "joint_names": np.array(list(named)),
        "fps": np.array(1 / seconds),
    }
    return arrays, (f"lengths in {path} were read as {unit}, by those of arms and legs",)


def _plain(name: str) -> str:
    """A joint's name without the rig's before it, and without what separates words."""
    return re.sub(r"[_:\-\s.]", "", re.sub(r"^(mixamorig\d*|.*):", "", name)).lower().removeprefix("mixamorig")


def _named(joints: list[_Joint]) -> dict[str, int]:
    """SMPL-X joint -> the number of the one that is called so."""
    called = {_plain(joint.name): k for k, joint in reversed(list(enumerate(joints)))}
    usual = dict(_CENTRAL) | {
        f"{side}_{joint}": tuple(name.format(s=short) for name in names for short in shorts)
        for side, shorts in _SIDES.items()
        for joint, names in _SIDED.items()
    }
    named: dict[str, int] = {}
    for joint, names in usual.items():
        free = (
            called[name] for name in names if name in called and (joint == "head" or called[name] not in named.values())
        )
        if (found := next(free, None)) is not None:
            named[joint] = found
    return named


def _hierarchy(words: list[str]) -> list[_Joint]:
    """Joints, parents before children; ends of bones have no channels. Raises: ValueError, IndexError."""
    joints: list[_Joint] = []
    open_ones: list[int] = []
    k = 1
    if not words or words[0] != "HIERARCHY":
        raise ValueError("expected HIERARCHY first")
    while k < len(words):
        word = words[k]
        if word in ("ROOT", "JOINT", "End"):
            start = words.index("{", k)
            name = "_".join(words[k + 1 : start])
            joints.append(_Joint(name if word != "End" else "", open_ones[-1] if open_ones else -1))
            open_ones.append(len(joints) - 1)
            k = start + 1
        elif word == "OFFSET":
            x, y, z = map(float, words[k + 1 : k + 4])
            joints[open_ones[-1]].offset = np.array([x, y, z])
            k += 4
        elif word == "CHANNELS":
            count = int(words[k + 1])
            joints[open_ones[-1]].channels = channels = tuple(words[k + 2 : k + 2 + count])
            unknown = next((channel for channel in channels if channel not in _CHANNELS), None)
            if unknown is not None or len(set(channels)) != count:
                raise ValueError(f"{str(unknown)[:40]!r} is no channel, or one is there twice")
            k += 2 + count
        elif word == "}":
            open_ones.pop()
            k += 1
        else:
            raise ValueError(f"{word[:40]!r} where a joint was expected")
    return joints


def _frames(rest: str, channels: int) -> tuple[float, np.ndarray]:
    """Seconds of a frame and its values (T, channels). Raises: ValueError."""
    said = re.match(r"\s*Frames:\s*(\d+)\s*Frame Time:\s*(\S+)", rest)
    if said is None:
        raise ValueError("expected MOTION, Frames: and Frame Time:")
    values = np.array(rest[said.end() :].split(), dtype=np.float64)
    frames, seconds = int(said[1]), float(said[2])
    if frames < 1 or not seconds > 0 or len(values) != frames * channels or not np.isfinite(values).all():
        raise ValueError(f"{len(values)} numbers for {frames} frames of {channels} channels, {seconds:g} seconds each")
    return seconds, values.reshape(frames, channels)


def _positions(joints: list[_Joint], values: np.ndarray) -> np.ndarray:
    """(T, J, 3), in the file's unit: every joint is turned about where its parent puts it."""
    turned: list[np.ndarray] = []
    places: list[np.ndarray] = []
    used = 0
    for joint in joints:
        offset, local = (
            np.broadcast_to(joint.offset, (len(values), 3)).copy(),
            np.broadcast_to(np.eye(3), (len(values), 3, 3)),
        )
        given = dict(zip(joint.channels, values[:, used : used + len(joint.channels)].T, strict=True))
        used += len(joint.channels)
        if any(channel.endswith("position") for channel in given):
            # As all tools have it, a position takes the place of the offset.
            offset = np.stack([given.get(f"{axis}position", offset[:, i]) for i, axis in enumerate(_AXES)], axis=1)
        for channel, degrees in given.items():
            if channel.endswith("rotation"):
                local = local @ _turn(_AXES.index(channel[0]), np.radians(degrees))
        if joint.parent < 0:
            places.append(offset)
            turned.append(local)
        else:
            above = turned[joint.parent]
            places.append(places[joint.parent] + (above @ offset[..., None])[..., 0])
            turned.append(above @ local)
    return np.stack(places, axis=1)


def _turn(axis: int, angle: np.ndarray) -> np.ndarray:
    """Rotations (T, 3, 3) about a coordinate axis."""
    matrix = np.broadcast_to(np.eye(3), (len(angle), 3, 3)).copy()
    i, j = (axis + 1) % 3, (axis + 2) % 3
    matrix[:, i, i] = matrix[:, j, j] = np.cos(angle)
    matrix[:, j, i], matrix[:, i, j] = np.sin(angle), -np.sin(angle)
    return matrix
