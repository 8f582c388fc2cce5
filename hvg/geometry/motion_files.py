"""The reader of motion files.

Files are ``.npz`` without pickle. Their keys, by source:

- AMASS: ``poses`` of 22 (SMPL-X body), 24 (SMPL), 52 (SMPL-H) or 55 (SMPL-X) joints, or ``root_orient`` (1) with
  ``pose_body`` (21 or SMPL's 23); ``trans`` (T, 3); the rate as ``mocap_frame_rate`` or ``mocap_framerate``. The world is z
  up unless ``up`` says ``y``.
- smplx: ``global_orient`` (1), ``body_pose`` (21 or 23), ``transl`` (T, 3); y up unless ``up`` says ``z``.
- both put a point X of the body at rest at ``R (X - J) + J + trans``, where R is the first rotation and J the pelvis at rest:
  the pelvis is at ``J + trans``. J is that of the model's mean person, SMPL's where there are 23, 24 or 52 joints; what
  ``betas`` and ``gender`` change of it, up to a few centimetres, is not looked at.
- positions: ``joints`` (T, J, 3) in metres with ``joint_names`` (J), y up unless ``up`` says ``z`` or ``-y``. Without names J
  has to be 22 (SMPL-X body), 24 (SMPL), 55 (SMPL-X), 127 and more (SMPL-X, of which the first 55 are read), 17 (COCO or
  Human3.6M) or 33 (MediaPipe, y down). What detectors lack is put by the rules of ``hvg.geometry.keypoint_sets``.

Rotations of J joints are axis-angle vectors (T, 3 J) or (T, J, 3), radians, or matrices (T, J, 3, 3). Other keys are not
looked at. Only the 22 body joints of SMPL-X are driven; jaw, eyes and fingers stay at rest.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from hvg.core.arrays import member_names, read_archive
from hvg.core.errors import DataError
from hvg.geometry.foreign_motion import EASYMOCAP, TORCH_FILE, foreign_file, foreign_unit, foreign_width
from hvg.geometry.keypoint_sets import Up, completed, unnamed
from hvg.geometry.motion import BODY_JOINTS, SMPLX_JOINTS, TO_Y_UP, Motion, axis_angle, rotation_matrix


@dataclass(frozen=True)
class _RestBody:
    """Pelvis of a body model's mean person at rest, (3,) metres, y up. origin: in the model's own axes. standing: soles at 0."""

    origin: Tensor
    standing: Tensor


# J_regressor @ v_template of the neutral models, and its height above their soles; SMPL-H's person is SMPL's.
SMPLX_REST = _RestBody(torch.tensor([0.003123, -0.351407, 0.012037]), torch.tensor([0.0, 0.95, 0.0]))
_SMPL_REST = _RestBody(torch.tensor([-0.001795, -0.223333, 0.028219]), torch.tensor([0.0, 0.92, 0.0]))
# With the pelvis or without.
_SMPL_JOINTS = (23, 24, 52)
_RATE_KEYS = ("mocap_frame_rate", "mocap_framerate", "frames_per_second", "fps")
_EXPECTED = "'poses', 'root_orient' with 'pose_body', 'global_orient' with 'body_pose', or 'joints'"
_SOURCES = ({"poses"}, {"root_orient", "pose_body"}, {"global_orient", "body_pose"}, {"joints"})
_KEYS = frozenset({*set().union(*_SOURCES), "trans", "transl", "joint_names", "up", *_RATE_KEYS})
# Largest entry of R R^T - 1: files hold float16 at worst.
_ROTATION_TOLERANCE = 1e-2


def load_motion(path: str | Path, up: Literal["auto", "y", "-y", "z"] = "auto") -> Motion:
    """The motion in an ``.npz`` file, float32, y up; keys as in this module's docstring.

    The pelvis is where the file has it in its world, whose floor is at height 0: a person of other legs than the model's
    stands on the floor where the model does. up: which axis of the file's world is; ``auto``: as the file says, or its keys.

    Raises: DataError, one line that names the file, what was found and what was expected.
    """
    arrays = _read(Path(path))
    frames_per_second = _rate(path, arrays)
    if "joints" in arrays:
        return replace(_from_joints(path, arrays, up), frames_per_second=frames_per_second)
    poses, translation_key, default_up, rest = _poses(path, arrays)
    rotations = dict(zip(BODY_JOINTS, poses.unbind(1), strict=True))
    to_y_up = TO_Y_UP[axis := _up(path, arrays, default_up, up)]
    if axis != "y":
        rotations["pelvis"] = axis_angle(to_y_up @ rotation_matrix(rotations["pelvis"]))
    translation = None
    if translation_key in arrays:
        shape = (len(poses), 1, 3) if arrays[translation_key].ndim == 3 else (len(poses), 3)
        # The rest pelvis is the fixed point of the file's first rotation, so it is not turned by it.
        pelvis = rest.origin + _numbers(path, arrays, translation_key, shape).reshape(-1, 3)
        translation = pelvis @ to_y_up.mT - rest.standing
    return Motion(rotations=rotations, translation=translation, frames_per_second=frames_per_second)


def _read(path: Path) -> dict[str, np.ndarray]:
    """The arrays of the file that say how a person moves, without any other, which might need unpickling."""
    if not path.is_file():
        raise DataError(f"{path}: there is no such file; expected an .npz motion file")
    with path.open("rb") as file:
        known = foreign_file(path, file.read(9))
    if known is not None:
        raise DataError(f"{path}: is {known}")
    try:
        members = member_names(path)
        if any(name.rpartition("/")[2] == "data.pkl" for name in members):
            raise DataError(f"{path}: is {TORCH_FILE}")
        arrays = read_archive(path, _KEYS)
    except (ValueError, OSError) as error:
        reason = " ".join(str(error).split())
        raise DataError(f"{path}: {reason}; expected an .npz archive with {_EXPECTED}") from error
    names = {name.removesuffix(".npy") for name in members}
    if {"Rh", "Th"} & names and "joints" not in names:
        raise DataError(f"{path}: holds 'Rh' or 'Th' and so looks like {EASYMOCAP}")
    if not any(keys <= names for keys in _SOURCES):
        raise DataError(f"{path}: found the keys {sorted(names)}; expected {_EXPECTED}")
    return arrays


def _numbers(path: str | Path, arrays: Mapping[str, np.ndarray], key: str, shape: tuple[int | None, ...]) -> Tensor:
    """Array ``key`` in float32; ``shape`` holds the sizes that are known, None elsewhere."""
    array = arrays[key]
    fits = array.ndim == len(shape) and all(want in (None, size) for want, size in zip(shape, array.shape, strict=True))
    wanted = f"({', '.join('any' if size is None else str(size) for size in shape)})"
    # Complex numbers are numbers too.
    if not fits or array.dtype.kind not in "iuf":
        raise DataError(f"{path}: '{key}' has shape {array.shape} and type {array.dtype}; expected numbers {wanted}")
    if array.shape[0] == 0:
        raise DataError(f"{path}: '{key}' holds no frames; expected at least one")
    with np.errstate(over="ignore"):
        single = array.astype(np.float32)
    if not np.isfinite(single).all():
        raise DataError(f"{path}: '{key}' holds NaN, infinity or a number beyond 3e38; expected finite numbers")
    return torch.from_numpy(single)


def _poses(path: str | Path, arrays: Mapping[str, np.ndarray]) -> tuple[Tensor, str, str, _RestBody]:
    """Body poses (T, 22, 3), the key of the translation, the axis that is up unless the file says otherwise, and whose pelvis
    the translation moves.
    """
    if "poses" in arrays:
        poses = _rotations(path, arrays, "poses", (22, 24, 52, 55))
        return poses[:, :22], "trans", "z", _rest_of(poses)
    amass = "root_orient" in arrays and "pose_body" in arrays
    root, body = ("root_orient", "pose_body") if amass else ("global_orient", "body_pose")
    first, rest = _rotations(path, arrays, root, (1,)), _rotations(path, arrays, body, (21, 23))
    if len(first) != len(rest):
        raise DataError(f"{path}: '{root}' has {len(first)} frames and '{body}' {len(rest)}; expected equally many")
    translation, up = ("trans", "z") if amass else ("transl", "y")
    return torch.cat([first, rest[:, :21]], dim=1), translation, up, _rest_of(rest)


def _rest_of(poses: Tensor) -> _RestBody:
    """The body at rest of the model whose poses (T, J, 3) have so many joints."""
    return _SMPL_REST if poses.shape[1] in _SMPL_JOINTS else SMPLX_REST


def _rotations(path: str | Path, arrays: Mapping[str, np.ndarray], key: str, counts: tuple[int, ...]) -> Tensor:
    """Axis-angle vectors (T, J, 3) of array ``key``, J one of ``counts``.

    It is (T, 3 J), (T, J, 3), or rotation matrices (T, J, 3, 3); of one joint also matrices (T, 3, 3).
    """
    shape = arrays[key].shape
    if len(shape) == 4 or (len(shape) == 3 and counts == (1,) and shape[1] == 3):
        values = _numbers(path, arrays, key, (*[None] * (len(shape) - 2), 3, 3)).reshape(shape[0], -1, 3, 3)
    elif len(shape) == 3:
        values = _numbers(path, arrays, key, (None, None, 3))
    else:
        values = _numbers(path, arrays, key, (None, None))
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
    if error > _ROTATION_TOLERANCE or (torch.linalg.det(matrices) < 0).any():
        raise DataError(f"{path}: '{key}' has shape {tuple(matrices.shape)}, but not all of it are rotation matrices")
    return axis_angle(matrices)


def _from_joints(path: str | Path, arrays: Mapping[str, np.ndarray], asked_up: str) -> Motion:
    joints = _numbers(path, arrays, "joints", (None, None, 3))
    names, default_up = _joint_names(path, arrays, joints)
    joints = joints[:, : len(names)]
    if problem := foreign_unit(dict(zip(names, joints.unbind(1), strict=True))):
        raise DataError(f"{path}: {problem}")
    joints, names = completed(joints @ TO_Y_UP[_up(path, arrays, default_up, asked_up)].mT, names)
    return Motion(joints=joints, joint_names=names)


def _joint_names(path: str | Path, arrays: Mapping[str, np.ndarray], joints: Tensor) -> tuple[tuple[str, ...], Up]:
    """Names of joints (T, J, 3), of the first of them where they are fewer; the axis that is up unless the file says another."""
    count = joints.shape[1]
    if "joint_names" in arrays:
        names = tuple(_text(name) for name in np.atleast_1d(arrays["joint_names"]).tolist())
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
    up = _text(arrays["up"].tolist()) if "up" in arrays else default
    if up not in TO_Y_UP:
        raise DataError(f"{path}: 'up' is '{up}'; expected one of {', '.join(TO_Y_UP)}")
    return up


def _rate(path: str | Path, arrays: Mapping[str, np.ndarray]) -> float | None:
    key = next((key for key in _RATE_KEYS if key in arrays), None)
    if key is None:
        return None
    rates = [_text(rate) for rate in arrays[key].reshape(-1).tolist()]
    try:
        (rate,) = map(float, rates)
    except ValueError:
        rate = math.nan
    if not 0 < rate < math.inf:
        given = " ".join(str(arrays[key]).split())[:40]
        raise DataError(f"{path}: '{key}' is {given}; expected one positive number of frames per second")
    return rate


def _text(value: Any) -> str:
    """A value of an array as text; some programs store text as bytes."""
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
