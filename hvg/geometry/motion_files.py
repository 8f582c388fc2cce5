"""The reader of motion files.

``.npz`` without pickle. Their keys, by source:

- AMASS: ``poses`` of 22 (SMPL-X body), 24 (SMPL), 52 (SMPL-H) or 55 (SMPL-X) joints, or ``root_orient`` (1) with
  ``pose_body`` (21 or SMPL's 23), ``pose_hand`` (30), ``pose_jaw`` (1) and ``pose_eye`` (2); ``trans`` (T, 3); the rate as
  ``mocap_frame_rate`` or ``mocap_framerate``. z up.
- smplx: ``global_orient`` (1), ``body_pose`` (21 or 23), ``jaw_pose``, ``leye_pose``, ``reye_pose`` (1), ``left_hand_pose`` and
  ``right_hand_pose`` (15, or fewer than 45 numbers: components), ``transl`` (T, 3); y up.
- EasyMocap: ``Rh``, ``Th`` (T, 3) and ``poses`` of 72 (SMPL), 78 (SMPL-H) or 87 (SMPL-X) numbers; y up.
- all: ``betas`` (EasyMocap: ``shapes``), ``expression``, ``scale``, ``gender``; ``convention``, one of
  ``hvg.geometry.body_conventions.CONVENTIONS`` where it cannot be seen; ``up``: y, -y, z or -z.
- positions: ``joints`` (T, J, 3) in metres with ``joint_names`` (J), y up unless ``up`` says ``z`` or ``-y``. Without names J
  has to be 22 (SMPL-X body), 24 (SMPL), 55 (SMPL-X), 127 and more (SMPL-X, of which the first 55 are read), 17 (COCO or
  Human3.6M) or 33 (MediaPipe, y down). What detectors lack is put by the rules of ``hvg.geometry.keypoint_sets``.

- a body of its own: positions with ``bone_radii``, and what ``hvg.geometry.own_body`` says of a mesh.

Rotations of J joints are axis-angle vectors (T, 3 J) or (T, J, 3), radians, or matrices (T, J, 3, 3). Other keys are not
looked at. Folders of EasyMocap's JSON are ``hvg.geometry.easymocap``'s, ``.bvh`` those of ``hvg.geometry.bvh``.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np

from hvg.core.arrays import member_names, read_archive
from hvg.core.axes import AskedUp
from hvg.core.errors import DataError
from hvg.core.next_commands import FILM
from hvg.geometry.bvh import read_bvh
from hvg.geometry.easymocap import json_files, read_frames
from hvg.geometry.foreign_motion import TORCH_FILE, foreign_file
from hvg.geometry.motion import Motion
from hvg.geometry.motion_arrays import EXPECTED, KEYS, SOURCES, motion_of_arrays, text
from hvg.geometry.own_body import read_own_body


def load_motion(
    path: str | Path,
    up: AskedUp = "auto",
    convention: str = "auto",
    person: int | None = None,
) -> Motion:
    """The motion in a file or folder, float32, y up; what they hold is in this module's docstring.

    The pelvis is where the file has it in its world, whose floor is at height 0: a person of other legs than the model's
    stands on the floor where the model does. up: which axis of the file's world is; ``auto``: as the file says, or its keys.
    convention: one of ``CONVENTIONS``; ``auto``: the same. person: which of a folder's, by id.

    Raises: DataError, one line that names the file, what was found and what was expected.
    """
    path, gender, notes, own_body = Path(path), None, (), None
    if path.is_dir() or json_files(path):
        arrays, notes = read_frames(path, person)
    elif person is not None:
        raise DataError(f"{path}: person={person} is for folders of several persons; this file has one")
    elif path.suffix == ".bvh" and path.is_file():
        arrays, notes = read_bvh(path)
    else:
        arrays, gender, own_body = _read(path), _gender(path), read_own_body(path, up)
    motion = motion_of_arrays(path, arrays, up, convention, gender)
    return replace(motion, notes=(*notes, *motion.notes), own_body=own_body)


def files_of(path: Path) -> list[Path]:
    """The files in which a motion lies: its frames, where it is a folder of them."""
    return json_files(path) or [path]


def _read(path: Path) -> dict[str, np.ndarray]:
    """The arrays of the file that say how a person moves, without any other, which might need unpickling."""
    if not path.is_file():
        raise DataError(f"{path}: there is no such file; expected an .npz motion file", then=FILM)
    with path.open("rb") as file:
        known = foreign_file(path, file.read(9))
    if known is not None:
        raise DataError(f"{path}: is {known}")
    try:
        members = member_names(path)
        if any(name.rpartition("/")[2] == "data.pkl" for name in members):
            raise DataError(f"{path}: is {TORCH_FILE}")
        arrays = read_archive(path, KEYS)
    except (ValueError, OSError) as error:
        reason = " ".join(str(error).split())
        raise DataError(f"{path}: {reason}; expected an .npz archive with {EXPECTED}") from error
    names = {name.removesuffix(".npy") for name in members}
    if not any(keys <= names for keys in SOURCES):
        raise DataError(f"{path}: found the keys {sorted(names)}; expected {EXPECTED}")
    return arrays


def _gender(path: Path) -> str | None:
    """What the file says; some say it as an object, which is not looked at."""
    try:
        given = read_archive(path, {"gender"})
    except ValueError:
        return None
    return text(given["gender"].reshape(-1)[0]) if "gender" in given and given["gender"].size else None
