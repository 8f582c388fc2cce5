"""A motion file's own body: one that brings what is drawn of a person, so that no body model has to be built.

Beside ``joints`` and ``joint_names`` (all of ``hvg.geometry.skeleton.JOINTS``) such a file has, in metres and y up:

- ``bone_radii`` (24,), in the order of ``hvg.geometry.skeleton.BONES``: it is by this key that a file is one of these.
- optionally a mesh: ``faces`` (F, 3) with ``vertices`` (T, P, 3), or with its skinning, which takes a tenth of the space:
  ``bones`` (N), the joint at which each starts; ``vertex_bones`` and ``vertex_weights`` (P, K); ``rest`` (P, 3); ``transforms``
  (T, N, 3, 4), from rest to the world. Both where the vertices are not where linear blend skinning puts them.
- optionally ``rotations`` (T, 22, 3, 3): those of the body joints from the T-pose, world axes.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from hvg.core.arrays import member_names, read_archive, write_archive
from hvg.core.errors import DataError
from hvg.geometry.motion import BODY_JOINTS
from hvg.geometry.motion_arrays import ROTATION_TOLERANCE, numbers, text
from hvg.geometry.skeleton import BONES, JOINTS
from hvg.values.body import BodyMotion, Skinning

MARK = "bone_radii"
_SKINNING = ("bones", "vertex_bones", "vertex_weights", "rest", "transforms")
KEYS = frozenset({MARK, "joints", "joint_names", "faces", "vertices", "rotations", *_SKINNING})
# Metres from where linear blend skinning puts a vertex, up to which it need not be kept.
_SKINNED = 2e-3
# No limb is thicker.
_THICKEST = 2.0


def read_own_body(path: Path, up: str) -> BodyMotion | None:
    """The body (B=1) that an ``.npz`` brings; None where it brings none. up: as it was asked for.

    Vertices are None where skinning says where they are. Raises: DataError, one line that names the file, what was found and
    what was expected.
    """
    if f"{MARK}.npy" not in member_names(path):
        return None
    try:
        arrays = read_archive(path, KEYS | {"up"})
    except ValueError as error:
        raise DataError(f"{path}: {' '.join(str(error).split())}") from error
    said = up if up != "auto" else text(arrays["up"].tolist()) if "up" in arrays else "y"
    if said != "y":
        raise DataError(f"{path}: brings a body ('{MARK}') in a world whose '{said}' is up; expected y")
    if not {"joints", "joint_names"} <= arrays.keys():
        raise DataError(f"{path}: has '{MARK}' without 'joints' and 'joint_names'; expected both")
    joints, joint_names = numbers(path, arrays, "joints", (None, None, 3)), _names(arrays, "joint_names")
    if len(joint_names) != joints.shape[1] or not set(JOINTS) <= set(joint_names):
        missing = next((name for name in JOINTS if name not in joint_names), f"{joints.shape[1]} names")
        raise DataError(
            f"{path}: has '{MARK}', and its joint_names lack {missing}; expected all of {', '.join(JOINTS)}"
        )
    radii = numbers(path, arrays, MARK, (len(BONES),))
    if not (radii > 0).all() or float(radii.max()) > _THICKEST:
        raise DataError(f"{path}: '{MARK}' are from {radii.min():.3g} to {radii.max():.3g}; expected metres above 0")
    skinning, vertices = _skinning(path, arrays, joints, joint_names), None
    if "vertices" in arrays:
        count = None if skinning is None else skinning.rest.shape[1]
        vertices = numbers(path, arrays, "vertices", (len(joints), count, 3))[None]
    mesh = vertices if vertices is not None else None if skinning is None else skinning.rest
    if (mesh is None) != ("faces" not in arrays):
        raise DataError(f"{path}: has one of a mesh's faces and vertices; expected 'faces' with 'vertices' or skinning")
    return BodyMotion(
        joints=joints[None],
        joint_names=joint_names,
        bone_radii=radii[None],
        vertices=vertices,
        faces=None if mesh is None else _indices(path, arrays, "faces", (None, 3), mesh.shape[-2]),
        skinning=skinning,
        parameters=_rotations(path, arrays, len(joints)),
    )


def write_own_body(path: Path, body: BodyMotion, frames_per_second: float) -> None:
    """Writes a body (B=1) as such a file, whole or not at all; a mesh by its skinning alone where that says where it is."""
    skinning, vertices = body.skinning, body.vertices
    arrays: dict[str, np.ndarray] = {
        "joints": body.joints[0].numpy(),
        "joint_names": np.array(body.joint_names),
        "fps": np.array(frames_per_second),
    }
    arrays |= {name: x[0].numpy() for name, x in body.parameters.items() if name == "rotations"}
    if body.bone_radii is not None:
        arrays[MARK] = body.bone_radii[0].numpy()
    if skinning is not None and body.faces is not None:
        arrays |= {"bones": np.array(skinning.bones), "rest": skinning.rest[0].numpy()}
        arrays |= {
            "vertex_bones": _smallest(skinning.vertex_bones),
            "transforms": skinning.transforms[0, :, :, :3].numpy(),
        }
        arrays["vertex_weights"] = skinning.vertex_weights.numpy()
        if vertices is not None and float((skinning.posed() - vertices).abs().max()) < _SKINNED:
            vertices = None
    if vertices is not None:
        arrays["vertices"] = vertices[0].numpy()
    if body.faces is not None:
        arrays["faces"] = _smallest(body.faces)
    write_archive(path, arrays, packed=True)


def _names(arrays: Mapping[str, np.ndarray], key: str) -> tuple[str, ...]:
    return tuple(text(name) for name in np.atleast_1d(arrays[key]).tolist())


def _skinning(
    path: Path, arrays: Mapping[str, np.ndarray], joints: Tensor, joint_names: tuple[str, ...]
) -> Skinning | None:
    """joints: (T, J, 3). Raises: DataError for a part of it, and for parts that do not fit together."""
    lacking = [key for key in _SKINNING if key not in arrays]
    if lacking:
        if len(lacking) < len(_SKINNING):
            raise DataError(
                f"{path}: its skinning lacks '{lacking[0]}'; expected {', '.join(_SKINNING)}, or none of them"
            )
        return None
    bones = _names(arrays, "bones")
    if unknown := [bone for bone in bones if bone not in joint_names]:
        raise DataError(f"{path}: a bone starts at '{unknown[0]}', which is none of its joint_names")
    rest = numbers(path, arrays, "rest", (None, 3))
    weights = numbers(path, arrays, "vertex_weights", (len(rest), None))
    if not (weights >= 0).all() or not ((weights.sum(1) - 1).abs() < 0.01).all():
        raise DataError(
            f"{path}: 'vertex_weights' are not weights; expected numbers from 0 whose sum is 1 for a vertex"
        )
    transforms = numbers(path, arrays, "transforms", (len(joints), len(bones), 3, 4))
    last = torch.tensor([0.0, 0.0, 0.0, 1.0]).expand(*transforms.shape[:2], 1, 4)
    return Skinning(
        bones=bones,
        vertex_bones=_indices(path, arrays, "vertex_bones", tuple(weights.shape), len(bones)).to(torch.int16),
        vertex_weights=weights / weights.sum(1, keepdim=True),
        rest=rest[None],
        transforms=torch.cat([transforms, last], dim=2)[None],
    )


def _indices(
    path: Path, arrays: Mapping[str, np.ndarray], key: str, shape: tuple[int | None, ...], count: int
) -> Tensor:
    """Whole numbers (int64) of an array that are places among ``count``. Raises: DataError for any other."""
    if arrays[key].dtype.kind not in "iu":
        raise DataError(f"{path}: '{key}' is of type {arrays[key].dtype}; expected whole numbers")
    found = numbers(path, arrays, key, shape).long()
    if found.min() < 0 or found.max() >= count:
        raise DataError(f"{path}: '{key}' are from {found.min()} to {found.max()}; expected 0 to {count - 1}")
    return found


def _rotations(path: Path, arrays: Mapping[str, np.ndarray], frames: int) -> dict[str, Tensor]:
    if "rotations" not in arrays:
        return {}
    found = numbers(path, arrays, "rotations", (frames, len(BODY_JOINTS), 3, 3))
    if (found @ found.mT - torch.eye(3)).abs().amax() > ROTATION_TOLERANCE or (torch.linalg.det(found) < 0).any():
        raise DataError(f"{path}: not all of 'rotations' are rotation matrices")
    return {"rotations": found[None]}


def _smallest(indices: Tensor) -> np.ndarray:
    """The same whole numbers, from 0, in the smallest type that holds them."""
    largest = int(indices.max())
    return indices.numpy().astype(np.uint8 if largest < 2**8 else np.uint16 if largest < 2**16 else np.int32)
