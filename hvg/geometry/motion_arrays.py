"""A motion in arrays by the names that motion files use: parameters of a body of the SMPL family, or positions of joints."""

import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch
from torch import Tensor

from hvg.core.axes import Up
from hvg.core.errors import DataError, did_you_mean
from hvg.geometry.body_conventions import CONVENTIONS, BodyConvention, Family, Gender, GivenBody
from hvg.geometry.foreign_motion import foreign_unit, foreign_width
from hvg.geometry.given_motion import motion_of
from hvg.geometry.keypoint_sets import completed, unnamed
from hvg.geometry.motion import BODY_JOINTS, SMPLX_JOINTS, TO_Y_UP, Motion
from hvg.geometry.retargeting import NEEDED
from hvg.geometry.rotations import axis_angle

RATES = ("mocap_frame_rate", "mocap_framerate", "frames_per_second", "fps")
EXPECTED = "'poses', 'root_orient' with 'pose_body', 'global_orient' with 'body_pose', or 'joints'"
# One of these a file needs.
SOURCES = ({"poses"}, {"root_orient", "pose_body"}, {"global_orient", "body_pose"}, {"joints"})
# Words of the package smplx that a file may hold besides, and those of AMASS and EasyMocap for the same.
_FACE = ("jaw_pose", "leye_pose", "reye_pose")
_HANDS = ("left_hand_pose", "right_hand_pose")
_EASYMOCAP = ("Rh", "Th", "shapes", "handl", "handr")
_AMASS = ("pose_hand", "pose_jaw", "pose_eye")
_OTHERS = ("betas", "expression", "scale", "trans", "transl", "joint_names", "up", "convention")
KEYS = frozenset({*set().union(*SOURCES), *_FACE, *_HANDS, *_EASYMOCAP, *_AMASS, *_OTHERS, *RATES})
# Numbers of EasyMocap's poses after the first rotation -> the model, and how many each word takes of them, in their order.
_HAND_LAST = {"body_pose": 63, "left_hand_pose": 6, "right_hand_pose": 6}
_FULL_HANDS = {"left_hand_pose": 45, "right_hand_pose": 45}
_LAYOUTS: Mapping[int, tuple[Family, Mapping[str, int]]] = {
    63: ("smplh", {"body_pose": 63}),
    69: ("smpl", {"body_pose": 69}),
    75: ("smplh", _HAND_LAST),
    84: ("smplx", {**_HAND_LAST, **dict.fromkeys(_FACE, 3)}),
    153: ("smplh", {"body_pose": 63, **_FULL_HANDS}),
    162: ("smplx", {"body_pose": 63, **dict.fromkeys(_FACE, 3), **_FULL_HANDS}),
}
# Joints of poses in AMASS's order, with the first -> the same.
_FULL_LAYOUTS: Mapping[int, tuple[Family, Mapping[str, int]]] = {
    22: ("smplx", {"body_pose": 63}),
    24: _LAYOUTS[69],
    52: _LAYOUTS[153],
    55: _LAYOUTS[162],
}
# Largest entry of R R^T - 1: files hold float16 at worst.
ROTATION_TOLERANCE = 1e-2
# No number of a person in metres and radians is as large, and single precision would lose centimetres of it.
_BEYOND = 1e6
_SCALES = (0.01, 100.0)
# Metres above or below the floor where no pelvis is.
_FAR = 20.0


def motion_of_arrays(
    path: str | Path, arrays: Mapping[str, np.ndarray], up: str, convention: str, gender: str | None
) -> Motion:
    """The motion. path: of the file, for messages. up, convention: what was asked for, or ``auto``. gender: what the file says.

    Raises: DataError, one line that names the file, what was found and what was expected.
    """
    rate = _rate(path, arrays)
    if "joints" in arrays:
        return replace(_from_joints(path, arrays, up), frames_per_second=rate)
    if {"Rh", "Th"} & set(arrays) and "poses" in arrays:
        default, (family, values) = "easymocap", _of_easymocap(path, arrays)
    elif "poses" in arrays:
        default, (family, values) = "amass", _of_poses(path, arrays)
    else:
        default, (family, values) = _of_words(path, arrays)
    values |= _constants(path, arrays, len(values["body_pose"]))
    # EasyMocap's first rotation is about the pelvis where it is not in Rh.
    about_pelvis = default == "easymocap" and "Rh" not in arrays
    meant, notes = _convention(path, arrays, convention, default, values)
    meant = replace(meant, up=_up(path, arrays, meant.up, up), about="pelvis" if about_pelvis else meant.about)
    _check_height(path, values, meant)
    known: Gender | None = next((each for each in get_args(Gender) if each == str(gender).lower()), None)
    body = GivenBody(family=family, gender=known, convention=meant, values=values)
    return replace(motion_of(body, rate), notes=notes)


Values = dict[str, Tensor]


def _of_poses(path: str | Path, arrays: Mapping[str, np.ndarray]) -> tuple[Family, Values]:
    """Of AMASS and others: all rotations in one array."""
    poses = rotations(path, arrays, "poses", tuple(_FULL_LAYOUTS))
    family, layout = _FULL_LAYOUTS[poses.shape[1]]
    return family, _split(poses.flatten(1), layout) | _shift(path, arrays, "trans", len(poses))


def _split(poses: Tensor, layout: Mapping[str, int]) -> Values:
    """Word -> (T, numbers), of poses (T, numbers) that begin with the first rotation."""
    pieces = poses.split([3, *layout.values()], dim=1)
    return dict(zip(("global_orient", *layout), pieces, strict=True))


def _of_easymocap(path: str | Path, arrays: Mapping[str, np.ndarray]) -> tuple[Family, Values]:
    """``Rh`` and ``Th`` with ``poses`` with the first rotation, which is zero then, or without it.

    Source: github.com/zju3dv/EasyMocap, doc/02_output.md and easymocap/smplmodel/body_model.py.
    """
    poses = numbers(path, arrays, "poses", (None, None))
    frames, width = poses.shape
    if width not in _LAYOUTS:
        poses, own = poses[:, 3:], poses[:, :3]
        width -= 3
    else:
        own = torch.zeros(frames, 3)
    if width not in _LAYOUTS:
        expected = ", ".join(str(count + 3) for count in _LAYOUTS)
        raise DataError(
            f"{path}: 'poses' has {width + 3} numbers a frame beside 'Rh' and 'Th'; EasyMocap's have {expected}"
        )
    family, layout = _LAYOUTS[width]
    first = numbers(path, arrays, "Rh", (frames, 3)) if "Rh" in arrays else own
    if "Rh" in arrays and own.any():
        raise DataError(
            f"{path}: turns the body in 'Rh' and in the first 3 numbers of 'poses', too; EasyMocap's are 0 there"
        )
    values = _split(torch.cat([first, poses], dim=1), layout) | _shift(path, arrays, "Th", frames)
    for key, word in (("handl", _HANDS[0]), ("handr", _HANDS[1])):
        if key in arrays:
            values[word] = numbers(path, arrays, key, (frames, None))
    return family, values


def _of_words(path: str | Path, arrays: Mapping[str, np.ndarray]) -> tuple[str, tuple[Family, Values]]:
    """The convention, model and values of a file in AMASS's words, or in those of the package smplx."""
    amass = "root_orient" in arrays and "pose_body" in arrays
    root, body = ("root_orient", "pose_body") if amass else ("global_orient", "body_pose")
    first, rest = rotations(path, arrays, root, (1,)), rotations(path, arrays, body, (21, 23))
    frames = len(first)
    if frames != len(rest):
        raise DataError(f"{path}: '{root}' has {frames} frames and '{body}' {len(rest)}; expected equally many")
    values = {"global_orient": first.flatten(1), "body_pose": rest.flatten(1)}
    if amass:
        whole = {"pose_jaw": (1, _FACE[:1]), "pose_eye": (2, _FACE[1:]), "pose_hand": (30, _HANDS)}
        for key, (count, words) in whole.items():
            if key in arrays:
                pose = _as_long(path, key, rotations(path, arrays, key, (count,)), frames)
                values |= dict(zip(words, pose.flatten(1).chunk(len(words), dim=1), strict=True))
    for word in (*_FACE, *_HANDS):
        if word in arrays and word not in values:
            values[word] = _as_long(path, word, _one_pose(path, arrays, word), frames)
    smpl = rest.shape[1] == 23
    values |= _shift(path, arrays, "trans" if amass else "transl", frames)
    hand = values.get("left_hand_pose", values.get("right_hand_pose", torch.zeros(1, 45)))
    default = "amass" if amass else "smplx_flat" if hand.shape[1] == 45 else "smplx"
    return default, ("smpl" if smpl else "smplx", values)


def _one_pose(path: str | Path, arrays: Mapping[str, np.ndarray], word: str) -> Tensor:
    """(T, numbers): rotations, or a hand's components."""
    shape = arrays[word].shape
    if word in _HANDS and len(shape) == 2 and shape[1] < 45:
        return numbers(path, arrays, word, (None, None))
    return rotations(path, arrays, word, (15,) if word in _HANDS else (1,)).flatten(1)


def _as_long(path: str | Path, key: str, values: Tensor, frames: int) -> Tensor:
    """Raises: DataError for other than one value, or one for each frame."""
    if len(values) not in (1, frames):
        raise DataError(f"{path}: '{key}' has {len(values)} frames; expected {frames}, or 1 for all")
    return values


def _shift(path: str | Path, arrays: Mapping[str, np.ndarray], key: str, frames: int) -> Values:
    if key not in arrays:
        return {}
    shape = (frames, 1, 3) if arrays[key].ndim == 3 else (frames, 3)
    return {"transl": numbers(path, arrays, key, shape).reshape(-1, 3)}


def _constants(path: str | Path, arrays: Mapping[str, np.ndarray], frames: int) -> Values:
    """Betas, expression and scale, each (1 or T, ...)."""
    found = {}
    for key, word in (("shapes", "betas"), ("betas", "betas"), ("expression", "expression"), ("scale", "scale")):
        if key not in arrays or not arrays[key].size:
            continue
        given = arrays[key]
        given = given.reshape(-1, 1) if word == "scale" else given[None] if given.ndim == 1 else given
        values = numbers(path, {key: given}, key, (None, None))
        found[word] = _as_long(path, key, values, frames)
    low, high = _SCALES
    for scale in found.get("scale", torch.ones(1)).reshape(-1).tolist():
        if not low <= scale <= high:
            raise DataError(f"{path}: 'scale' is {scale:g}; expected numbers from {low:g} to {high:g}")
    return found


def _convention(
    path: str | Path, arrays: Mapping[str, np.ndarray], asked: str, default: str, values: Values
) -> tuple[BodyConvention, tuple[str, ...]]:
    """How the values are meant, hands as wide as they are; and a note where a file in words of smplx does not say it."""
    name = asked if asked != "auto" else text(arrays["convention"].tolist()) if "convention" in arrays else default
    if name not in CONVENTIONS:
        raise DataError(f"{path}: no convention is named '{name}'. {did_you_mean(name, CONVENTIONS)}")
    hands = {word: values[word].shape[1] for word in _HANDS if word in values}
    if len(set(hands.values())) > 1:
        raise DataError(f"{path}: hands differ in their numbers a frame: {hands}; expected the same for both")
    width = next(iter(hands.values()), None)
    whole = width in (None, 45)
    meant = replace(CONVENTIONS[name], components=None if whole else width)
    if default == "easymocap" and width == 45:
        # Whoever writes EasyMocap's hands in full has added the mean.
        meant = replace(meant, hands="flat")
    told = asked != "auto" or "convention" in arrays or width is None or not default.startswith("smplx")
    if told:
        return meant, ()
    other = (
        "convention=smplx, if 0 is the model's mean hand"
        if whole
        else "convention=custom_humans, if 0 is the flat hand"
    )
    read = "rotations from the flat hand" if whole else "components from the mean hand"
    return meant, (f"the {width} numbers of a hand in {path} were read as {read}; say {other}",)


def _check_height(path: str | Path, values: Values, convention: BodyConvention) -> None:
    """Raises: DataError for a person as far above the floor as millimetres make them."""
    if "transl" not in values:
        return
    up = (values["transl"] @ TO_Y_UP[convention.up].mT)[:, 1] / convention.per_metre
    if float(up.abs().median()) > _FAR:
        raise DataError(
            f"{path}: its translation is {float(up.median()):.4g} along the axis that is up; expected metres (from "
            "millimetres: save it / 1000)"
        )


def numbers(path: str | Path, arrays: Mapping[str, np.ndarray], key: str, shape: tuple[int | None, ...]) -> Tensor:
    """Array ``key`` in float32; ``shape`` holds the sizes that are known, None elsewhere."""
    array = arrays[key]
    fits = array.ndim == len(shape) and all(want in (None, size) for want, size in zip(shape, array.shape, strict=True))
    wanted = f"({', '.join('any' if size is None else str(size) for size in shape)})"
    # Complex numbers are numbers too.
    if not fits or array.dtype.kind not in "iuf":
        raise DataError(f"{path}: '{key}' has shape {array.shape} and type {array.dtype}; expected numbers {wanted}")
    if not array.size:
        found = "numbers" if array.shape[0] else "frames; expected at least one"
        raise DataError(f"{path}: '{key}' has shape {array.shape}: it holds no {found}")
    with np.errstate(over="ignore"):
        values = array.astype(np.float64)
    # Of NaN, too, this is not so.
    if not (np.abs(values) <= _BEYOND).all():
        raise DataError(
            f"{path}: '{key}' holds NaN, infinity or a number beyond {_BEYOND:,.0f}; expected radians and metres"
        )
    return torch.from_numpy(values.astype(np.float32))


def rotations(path: str | Path, arrays: Mapping[str, np.ndarray], key: str, counts: tuple[int, ...]) -> Tensor:
    """Axis-angle vectors (T, J, 3) of array ``key``, J one of ``counts``.

    It is (T, 3 J), (T, J, 3), or rotation matrices (T, J, 3, 3); of one joint also matrices (T, 3, 3).
    """
    shape = arrays[key].shape
    if len(shape) == 4 or (len(shape) == 3 and counts == (1,) and shape[1] == 3):
        values = numbers(path, arrays, key, (*[None] * (len(shape) - 2), 3, 3)).reshape(shape[0], -1, 3, 3)
    elif len(shape) == 3:
        values = numbers(path, arrays, key, (None, None, 3))
    else:
        values = numbers(path, arrays, key, (None, None))
        if values.shape[1] not in [3 * count for count in counts]:
            known, expected = foreign_width(values.shape[1]), " or ".join(str(3 * count) for count in counts)
            looks = f", which looks like {known}" if known else ""
            raise DataError(f"{path}: '{key}' has {values.shape[1]} numbers a frame{looks}; expected {expected}")
        values = values.unflatten(1, (-1, 3))
    if values.shape[1] not in counts:
        expected = " or ".join(map(str, counts))
        raise DataError(f"{path}: '{key}' has shape {shape}, {values.shape[1]} joints; expected {expected}")
    return values if values.ndim == 3 else _turns(path, key, values)


def _turns(path: str | Path, key: str, matrices: Tensor) -> Tensor:
    """Axis-angle vectors (T, J, 3) of what should be rotation matrices (T, J, 3, 3)."""
    error = (matrices @ matrices.mT - torch.eye(3)).abs().amax()
    if error > ROTATION_TOLERANCE or (torch.linalg.det(matrices) < 0).any():
        raise DataError(f"{path}: '{key}' has shape {tuple(matrices.shape)}, but not all of it are rotation matrices")
    return axis_angle(matrices)


def _from_joints(path: str | Path, arrays: Mapping[str, np.ndarray], asked_up: str) -> Motion:
    joints = numbers(path, arrays, "joints", (None, None, 3))
    names, default_up = _joint_names(path, arrays, joints)
    joints = joints[:, : len(names)]
    if problem := foreign_unit(dict(zip(names, joints.unbind(1), strict=True))):
        raise DataError(f"{path}: {problem}")
    joints, names = completed(joints @ TO_Y_UP[_up(path, arrays, default_up, asked_up)].mT, names)
    if missing := [name for name in NEEDED if name not in names]:
        raise DataError(f"{path}: its joints lack {', '.join(missing)}, without which a body has no orientation")
    return Motion(joints=joints, joint_names=names)


def _joint_names(path: str | Path, arrays: Mapping[str, np.ndarray], joints: Tensor) -> tuple[tuple[str, ...], Up]:
    """Names of joints (T, J, 3), of the first of them where they are fewer; the axis that is up unless the file says another."""
    count = joints.shape[1]
    if "joint_names" in arrays:
        names = tuple(text(name) for name in np.atleast_1d(arrays["joint_names"]).tolist())
        if len(names) != count or len(set(names)) != count:
            found = f"{len(set(names))} different joint_names for {count} joints"
            raise DataError(f"{path}: {found}; expected one for each")
        return names, "y"
    if count == 24:
        return (*BODY_JOINTS, "left_hand", "right_hand"), "y"
    if count == 22 or count == 55 or count >= 127:
        return SMPLX_JOINTS[: min(count, 55)], "y"
    if known := unnamed(joints):
        return known
    raise DataError(
        f"{path}: 'joints' has {count} joints without 'joint_names'; expected names, or 17 (COCO, Human3.6M), 22, 24, 33 "
        "(MediaPipe), 55 or at least 127 joints, in metres"
    )


def _up(path: str | Path, arrays: Mapping[str, np.ndarray], default: str, asked: str) -> str:
    if asked != "auto":
        return asked
    up = text(arrays["up"].tolist()) if "up" in arrays else default
    if up not in TO_Y_UP:
        raise DataError(f"{path}: 'up' is '{up}'; expected one of {', '.join(TO_Y_UP)}")
    return up


def _rate(path: str | Path, arrays: Mapping[str, np.ndarray]) -> float | None:
    key = next((key for key in RATES if key in arrays), None)
    if key is None:
        return None
    rates = [text(rate) for rate in arrays[key].reshape(-1).tolist()]
    try:
        (rate,) = map(float, rates)
    except ValueError:
        rate = math.nan
    if not 0 < rate < math.inf:
        given = " ".join(str(arrays[key]).split())[:40]
        raise DataError(f"{path}: '{key}' is {given}; expected one positive number of frames per second")
    return rate


def text(value: Any) -> str:
    """A value of an array as text; some programs store text as bytes."""
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
