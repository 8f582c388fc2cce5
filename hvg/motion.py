"""A person's motion as body-model-free values: rotations by SMPL-X joint name, or joint positions; and its file reader.

Files are ``.npz`` without pickle. Their keys, by source:

- AMASS: ``poses`` (T, 66 or more) or ``root_orient`` (T, 3) with ``pose_body`` (T, 63); ``trans`` (T, 3); the rate as
  ``mocap_frame_rate`` or ``mocap_framerate``. The world is z up unless ``up`` says ``y``.
- smplx: ``global_orient`` (T, 3), ``body_pose`` (T, 63), ``transl`` (T, 3); y up unless ``up`` says ``z``.
- positions: ``joints`` (T, J, 3) in metres with ``joint_names`` (J), y up unless ``up`` says ``z``. Without names J has
  to be 22 (SMPL-X body), 24 (SMPL), 55 (SMPL-X) or 127 and more (SMPL-X, of which the first 55 are read).

Only the 22 body joints of SMPL-X are driven; jaw, eyes and fingers stay at rest.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

from hvg.arrays import read_archive
from hvg.errors import DataError
from hvg.geometry.skeleton import JOINTS

BODY_JOINTS: tuple[str, ...] = JOINTS[:22]
_FINGERS = ("index", "middle", "pinky", "ring", "thumb")
# The order of SMPL-X's first 55 joints (smplx/joint_names.py, arXiv 1904.05866).
SMPLX_JOINTS: tuple[str, ...] = (
    *BODY_JOINTS,
    *("jaw", "left_eye_smplhf", "right_eye_smplhf"),
    *(f"{side}_{finger}{k}" for side in ("left", "right") for finger in _FINGERS for k in (1, 2, 3)),
)
# Height of SMPL-X's neutral pelvis above its soles. AMASS counts the pelvis from the floor, Motion from the rest
# stance.
_STANDING_PELVIS_METRES = 0.95
_RATE_KEYS = ("mocap_frame_rate", "mocap_framerate", "frames_per_second", "fps")
_EXPECTED = "'poses', 'root_orient' with 'pose_body', 'global_orient' with 'body_pose', or 'joints'"


@dataclass(frozen=True, kw_only=True)
class Motion:
    """T frames of motion; exactly one of ``rotations`` and ``joints`` is given.

    rotations: SMPL-X joint name (``pelvis``, ``left_hip``, ...) -> (T, 3) axis-angle radians relative to the parent,
    in the SMPL-X rest pose (T-pose, y up, facing +z). A joint that is missing stays at rest.
    joints: (T, J, 3) positions in world metres with ``joint_names``.
    translation: (T, 3) metres, offset of the pelvis from its place in the rest pose, whose feet stand on the floor y=0.
    frames_per_second: rate of the file, for resampling.
    """

    rotations: Mapping[str, Tensor] = field(default_factory=dict)
    joints: Tensor | None = None
    joint_names: tuple[str, ...] = ()
    translation: Tensor | None = None
    frames_per_second: float = 30.0

    @property
    def num_frames(self) -> int:
        """T."""
        return len(self.joints) if self.joints is not None else len(next(iter(self.rotations.values())))


def rotation_matrix(axis_angle: Tensor) -> Tensor:
    """Rotation matrices (..., 3, 3) of axis-angle vectors (..., 3) in radians (Rodrigues' formula)."""
    angle = axis_angle.norm(dim=-1)[..., None, None]
    cross = _cross_matrix(axis_angle)
    # sinc(x) = sin(pi x) / (pi x) is smooth at no rotation; (1 - cos a) / a^2 = (sin(a / 2) / (a / 2))^2 / 2.
    first, second = torch.sinc(angle / torch.pi), torch.sinc(angle / (2 * torch.pi)).square() / 2
    return torch.eye(3, dtype=cross.dtype, device=cross.device) + first * cross + second * (cross @ cross)


def axis_angle(matrix: Tensor) -> Tensor:
    """Axis-angle vectors (..., 3), of at most pi radians, of rotation matrices (..., 3, 3)."""
    quaternion = _quaternion(matrix)
    sine = quaternion[..., 1:].norm(dim=-1, keepdim=True)
    angle = 2 * torch.atan2(sine, quaternion[..., :1])
    # angle / sine tends to 2 at no rotation.
    return quaternion[..., 1:] * torch.where(sine > 1e-7, angle / sine.clamp_min(1e-7), 2.0)


def _cross_matrix(vector: Tensor) -> Tensor:
    """(..., 3, 3) matrices that take the cross product with ``vector`` (..., 3)."""
    x, y, z = vector.unbind(-1)
    zero = torch.zeros_like(x)
    return torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], dim=-1).unflatten(-1, (3, 3))


def _quaternion(matrix: Tensor) -> Tensor:
    """Unit quaternions (..., 4), real part first, not negative; the largest of four candidates, for precision."""
    m = matrix
    xx, yy, zz = m[..., 0, 0], m[..., 1, 1], m[..., 2, 2]
    xy, xz, yz = m[..., 0, 1] + m[..., 1, 0], m[..., 0, 2] + m[..., 2, 0], m[..., 1, 2] + m[..., 2, 1]
    wx, wy, wz = m[..., 2, 1] - m[..., 1, 2], m[..., 0, 2] - m[..., 2, 0], m[..., 1, 0] - m[..., 0, 1]
    rows = (
        torch.stack([1 + xx + yy + zz, wx, wy, wz], -1),
        torch.stack([wx, 1 + xx - yy - zz, xy, xz], -1),
        torch.stack([wy, xy, 1 - xx + yy - zz, yz], -1),
        torch.stack([wz, xz, yz, 1 - xx - yy + zz], -1),
    )
    candidates = torch.stack(rows, dim=-2)
    best = candidates.norm(dim=-1).argmax(dim=-1)
    chosen = candidates.gather(-2, best[..., None, None].expand(*best.shape, 1, 4))[..., 0, :]
    chosen = normalize(chosen, dim=-1)
    return torch.where(chosen[..., :1] < 0, -chosen, chosen)


def resample(motion: Motion, num_frames: int) -> Motion:
    """The same motion over the same time in ``num_frames`` frames, first and last frame kept.

    Rotations are interpolated along the shortest arc, positions linearly. Raises: ValueError for fewer than one frame.
    """
    if num_frames < 1:
        raise ValueError(f"num_frames has to be at least 1, got {num_frames}")
    position = torch.linspace(0, motion.num_frames - 1, num_frames, dtype=torch.float64)
    before = position.floor().long()
    after = (before + 1).clamp_max(motion.num_frames - 1)
    blend = (position - before)[:, None]
    seconds = (motion.num_frames - 1) / motion.frames_per_second
    rate = (num_frames - 1) / seconds if seconds > 0 and num_frames > 1 else motion.frames_per_second

    def line(x: Tensor | None) -> Tensor | None:
        if x is None:
            return None
        weight = blend.to(x).view(-1, *[1] * (x.ndim - 1))
        return x[before] + weight * (x[after] - x[before])

    def arc(x: Tensor) -> Tensor:
        start, end = rotation_matrix(x[before]), rotation_matrix(x[after])
        step = axis_angle(start.mT @ end)
        return axis_angle(start @ rotation_matrix(blend.to(x) * step))

    return replace(
        motion,
        rotations={name: arc(x) for name, x in motion.rotations.items()},
        joints=line(motion.joints),
        translation=line(motion.translation),
        frames_per_second=rate,
    )


def save_motion(path: str | Path, motion: Motion) -> None:
    """Writes ``motion`` so that ``load_motion`` gives it back: AMASS keys or ``joints``, y up, without pickle.

    Raises: DataError for a rotation of a joint that the file format has no place for.
    """
    unknown = sorted(set(motion.rotations) - set(BODY_JOINTS))
    if unknown:
        raise DataError(f"{path}: rotations of {unknown} cannot be stored; expected names of {list(BODY_JOINTS)}")
    arrays: dict[str, Any] = {"up": np.array("y"), "mocap_frame_rate": np.array(motion.frames_per_second)}
    if motion.joints is not None:
        arrays["joints"] = motion.joints.numpy()
        arrays["joint_names"] = np.array(motion.joint_names)
    else:
        still = torch.zeros(motion.num_frames, 3)
        arrays["poses"] = torch.cat([motion.rotations.get(name, still) for name in BODY_JOINTS], dim=1).numpy()
    if motion.translation is not None:
        arrays["trans"] = motion.translation.numpy()
    with open(path, "wb") as file:
        np.savez(file, **arrays)


def load_motion(path: str | Path) -> Motion:
    """The motion in an ``.npz`` file, float32, y up; keys as in this module's docstring.

    AMASS counts ``trans`` from a floor at z = 0; it is turned into the offset from a standing SMPL-X body. Where ``up``
    is ``y`` the translation is taken as it is.

    Raises: DataError, one line that names the file, what was found and what was expected.
    """
    arrays = _read(Path(path))
    frames_per_second = _rate(path, arrays)
    if "joints" in arrays:
        return _from_joints(path, arrays, frames_per_second)
    poses, translation_key, default_up = _poses(path, arrays)
    up = _up(path, arrays, default_up)
    rotations = dict(zip(BODY_JOINTS, poses.unflatten(1, (22, 3)).unbind(1), strict=True))
    translation = None
    if translation_key in arrays:
        translation = _numbers(path, arrays, translation_key, (len(poses), 3))
    if up == "z":
        rotations["pelvis"] = axis_angle(_Z_UP_TO_Y_UP @ rotation_matrix(rotations["pelvis"]))
        if translation is not None:
            floor = torch.tensor([0.0, _STANDING_PELVIS_METRES, 0.0])
            translation = translation @ _Z_UP_TO_Y_UP.mT - floor
    return Motion(rotations=rotations, translation=translation, frames_per_second=frames_per_second)


# (x, y, z) with z up -> (x, z, -y) with y up.
_Z_UP_TO_Y_UP = torch.tensor([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0], [0.0, -1.0, 0.0]])


def _read(path: Path) -> dict[str, np.ndarray]:
    """Every array of the file; arrays that would need unpickling are refused."""
    if not path.is_file():
        raise DataError(f"{path}: there is no such file; expected an .npz motion file")
    try:
        with path.open("rb") as file:
            if file.read(6) == b"\x93NUMPY":
                raise DataError(f"{path}: found a single array; expected an .npz archive with {_EXPECTED}")
        return read_archive(path)
    except (ValueError, OSError) as error:
        reason = " ".join(str(error).split())
        raise DataError(f"{path}: {reason}; expected an .npz archive with {_EXPECTED}") from error


def _numbers(path: str | Path, arrays: Mapping[str, np.ndarray], key: str, shape: tuple[int | None, ...]) -> Tensor:
    """Array ``key`` in float32; ``shape`` holds the sizes that are known, None elsewhere."""
    array = arrays[key]
    fits = array.ndim == len(shape) and all(want in (None, size) for want, size in zip(shape, array.shape, strict=True))
    wanted = f"({', '.join('any' if size is None else str(size) for size in shape)})"
    if not fits or not np.issubdtype(array.dtype, np.number):
        raise DataError(f"{path}: '{key}' has shape {array.shape} and type {array.dtype}; expected numbers {wanted}")
    if array.shape[0] == 0:
        raise DataError(f"{path}: '{key}' holds no frames; expected at least one")
    if not np.isfinite(array).all():
        raise DataError(f"{path}: '{key}' holds NaN or infinity; expected finite numbers")
    return torch.from_numpy(array.astype(np.float32))


def _poses(path: str | Path, arrays: Mapping[str, np.ndarray]) -> tuple[Tensor, str, str]:
    """Body poses (T, 66), the key of the translation, and the axis that is up unless the file says otherwise."""
    if "poses" in arrays:
        poses = _numbers(path, arrays, "poses", (None, None))
        if poses.shape[1] < 66 or poses.shape[1] % 3:
            raise DataError(
                f"{path}: 'poses' has {poses.shape[1]} numbers a frame; expected 3 for each of 22 joints or more, "
                "such as 66, 156 (SMPL-H) or 165 (SMPL-X)"
            )
        return poses[:, :66], "trans", "z"
    for root, body, translation, up in (
        ("root_orient", "pose_body", "trans", "z"),
        ("global_orient", "body_pose", "transl", "y"),
    ):
        if root in arrays and body in arrays:
            first = _numbers(path, arrays, root, (None, 3))
            rest = _numbers(path, arrays, body, (len(first), None))
            if rest.shape[1] not in (63, 69):
                raise DataError(
                    f"{path}: '{body}' has {rest.shape[1]} numbers a frame; expected 63 (21 joints) or 69 (SMPL)"
                )
            return torch.cat([first, rest[:, :63]], dim=1), translation, up
    raise DataError(f"{path}: found the keys {sorted(arrays)}; expected {_EXPECTED}")


def _from_joints(path: str | Path, arrays: Mapping[str, np.ndarray], frames_per_second: float) -> Motion:
    joints = _numbers(path, arrays, "joints", (None, None, 3))
    names = _joint_names(path, arrays, joints.shape[1])
    if _up(path, arrays, "y") == "z":
        joints = joints @ _Z_UP_TO_Y_UP.mT
    return Motion(joints=joints[:, : len(names)], joint_names=names, frames_per_second=frames_per_second)


def _joint_names(path: str | Path, arrays: Mapping[str, np.ndarray], count: int) -> tuple[str, ...]:
    if "joint_names" in arrays:
        names = tuple(str(name) for name in np.atleast_1d(arrays["joint_names"]))
        if len(names) != count or len(set(names)) != count:
            found = f"{len(set(names))} different joint_names for {count} joints"
            raise DataError(f"{path}: {found}; expected one for each")
        return names
    if count == 24:
        return (*BODY_JOINTS, "left_hand", "right_hand")
    if count == 22 or count == 55 or count >= 127:
        return SMPLX_JOINTS[: min(count, 55)]
    raise DataError(
        f"{path}: 'joints' has {count} joints without 'joint_names'; "
        "expected names, or 22, 24, 55 or at least 127 joints"
    )


def _up(path: str | Path, arrays: Mapping[str, np.ndarray], default: str) -> str:
    up = str(arrays["up"]) if "up" in arrays else default
    if up not in ("y", "z"):
        raise DataError(f"{path}: 'up' is '{up}'; expected 'y' or 'z'")
    return up


def _rate(path: str | Path, arrays: Mapping[str, np.ndarray]) -> float:
    for key in _RATE_KEYS:
        if key in arrays:
            rate = arrays[key].reshape(-1)
            if not np.issubdtype(rate.dtype, np.number) or len(rate) != 1 or not float(rate[0]) > 0:
                given = " ".join(str(arrays[key]).split())[:40]
                raise DataError(f"{path}: '{key}' is {given}; expected one positive number of frames per second")
            return float(rate[0])
    return Motion.frames_per_second
