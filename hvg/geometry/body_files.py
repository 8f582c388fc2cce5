"""Body models of the SMPL family in their ``.npz`` files, read without pickle and checked.

Keys and shapes are those of the published files (github.com/vchoutas/smplx; arXiv 1904.05866): P vertices, F faces, J joints,
S directions of shape and E of expression.
"""

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from hvg.core.arrays import read_archive
from hvg.core.errors import DataError
from hvg.geometry.body_conventions import Family, Gender
from hvg.geometry.motion import BODY_JOINTS, SMPLX_JOINTS

# Joints that a family's poses turn, in their order. SMPL has one joint for each hand where the others have fingers.
FAMILY_JOINTS: Mapping[Family, tuple[str, ...]] = {
    "smpl": (*BODY_JOINTS, "left_hand", "right_hand"),
    "smplh": (*BODY_JOINTS, *SMPLX_JOINTS[25:]),
    "smplx": SMPLX_JOINTS,
}
# P. Face and finger points are picked by their number.
FAMILY_VERTICES: Mapping[Family, int] = {"smpl": 6890, "smplh": 6890, "smplx": 10475}
# Rotations of a hand, axis-angle of 15 joints.
HAND_NUMBERS = 45
# SMPL-X 1.1 has 300 directions of shape before those of expression; files with less than 400 have 10 and 10.
SHAPES, EXPRESSIONS, _FEW = 300, 100, 10
# No number of a body in metres is as large.
_BEYOND = 1e6
_HANDS = tuple(f"hands_{what}{side}" for what in ("mean", "components") for side in "lr")
_LANDMARKS = ("lmk_faces_idx", "lmk_bary_coords")
_NEEDED = ("v_template", "f", "weights", "posedirs", "shapedirs", "J_regressor", "kintree_table")


@dataclass(frozen=True, kw_only=True)
class BodyFile:
    """A body model. arrays: by the names in the published files, finite, in the shapes that the family has."""

    path: Path
    family: Family
    arrays: Mapping[str, np.ndarray]

    @property
    def joints(self) -> tuple[str, ...]:
        """Names of the J joints that poses turn, in their order."""
        return FAMILY_JOINTS[self.family]

    @property
    def num_betas(self) -> int:
        """S."""
        return self._directions[0]

    @property
    def num_expressions(self) -> int:
        """E; 0 for the families without a face."""
        return self._directions[1]

    @property
    def _directions(self) -> tuple[int, int]:
        count = self.arrays["shapedirs"].shape[2]
        if self.family != "smplx":
            return min(count, SHAPES), 0
        return (SHAPES, EXPRESSIONS) if count >= SHAPES + EXPRESSIONS else (_FEW, _FEW)

    @cached_property
    def _joint_directions(self) -> np.ndarray:
        """(J, 3, S + E): how joints at rest move with shape and expression."""
        shapes, expressions = self._directions
        used = self.arrays["shapedirs"][:, :, : shapes + expressions]
        return np.tensordot(self.arrays["J_regressor"].astype(np.float64), used.astype(np.float64), 1)

    def rest_joints(self, betas: Tensor, expression: Tensor | None = None) -> Tensor:
        """Joints (T or 1, J, 3) at rest, metres in the model's own axes, of people with ``betas`` (T or 1, up to S).

        expression: (T or 1, up to E), for the joints are where the vertices around them are. As precise as ``betas``.
        """
        mean = self.arrays["J_regressor"].astype(np.float64) @ self.arrays["v_template"]
        joints = mean + np.einsum("jcs,ts->tjc", self._joint_directions[:, :, : betas.shape[1]], betas.numpy())
        if expression is not None:
            of_face = self._joint_directions[:, :, self.num_betas :][:, :, : expression.shape[1]]
            joints = joints + np.einsum("jcs,ts->tjc", of_face, expression.numpy())
        return torch.from_numpy(joints).to(betas.dtype)


def find_body_file(path: Path, family: Family, gender: Gender) -> Path:
    """The model's file: ``path`` itself, or in a folder ``SMPLX_NEUTRAL.npz``, also below ``smplx/``, as the package has it.

    Raises: DataError that says what was looked for.
    """
    if path.is_file():
        return path
    if not path.is_dir():
        raise DataError(f"{path}: there is no such file; expected a body model's .npz, or a folder of them")
    name = f"{family.upper()}_{gender.upper()}.npz"
    places = (path / name, path / family / name)
    found = next((place for place in places if place.is_file()), None)
    if found is None:
        pickled = next((place for place in (p.with_suffix(".pkl") for p in places) if place.is_file()), None)
        then = converting(pickled) if pickled else ""
        raise DataError(f"{path}: holds no {name} and no {family}/{name}", then=then)
    return found


def read_body_file(path: Path, family: Family, gender: Gender = "neutral") -> BodyFile:
    """The model of a family at ``path``, a file or a folder of them; object arrays in it are left out.

    Raises: DataError, one line that names the file, what was found and what was expected.
    """
    path = find_body_file(path, family, gender)
    if path.suffix.lower() in (".pkl", ".pickle"):
        raise DataError(f"{path}: is a pickle, which hvg never runs; make plain arrays of it", then=converting(path))
    keys = {*_NEEDED, *(_HANDS if family != "smpl" else ()), *(_LANDMARKS if family == "smplx" else ())}
    try:
        arrays = read_archive(path, keys)
    except (ValueError, OSError) as error:
        reason = " ".join(str(error).split())
        raise DataError(f"{path}: {reason}; expected an .npz of {family} with {', '.join(sorted(keys))}") from error
    missing = sorted(keys - set(arrays))
    if missing:
        raise DataError(
            f"{path}: lacks {', '.join(missing)}; expected an .npz of {family} with {', '.join(sorted(keys))}"
        )
    _check_shapes(path, family, arrays)
    return BodyFile(path=path, family=family, arrays=arrays)


def converting(pickled: Path) -> str:
    """The command that makes plain arrays of a body model's pickle."""
    return shlex.join(["hvg", "convert", f"body={pickled}", f"out={pickled.with_suffix('.npz')}"])


def _check_shapes(path: Path, family: Family, arrays: Mapping[str, np.ndarray]) -> None:
    """Raises: DataError for the first array whose shape, type or values are not a body model's."""
    vertices, joints = FAMILY_VERTICES[family], len(FAMILY_JOINTS[family])
    expected: dict[str, tuple[int | None, ...]] = {
        "v_template": (vertices, 3),
        "f": (None, 3),
        "weights": (vertices, joints),
        "posedirs": (vertices, 3, 9 * (joints - 1)),
        "shapedirs": (vertices, 3, None),
        "J_regressor": (joints, vertices),
        "kintree_table": (2, joints),
        **{name: (HAND_NUMBERS,) if "mean" in name else (HAND_NUMBERS, HAND_NUMBERS) for name in _HANDS},
        "lmk_faces_idx": (None,),
        "lmk_bary_coords": (None, 3),
    }
    for name, array in arrays.items():
        shape = expected[name]
        fits = len(shape) == array.ndim and all(s in (None, n) for s, n in zip(shape, array.shape, strict=True))
        if not fits or array.dtype.kind not in "iuf":
            wanted = ", ".join("any" if size is None else str(size) for size in shape)
            raise DataError(
                f"{path}: '{name}' has shape {array.shape} and type {array.dtype}; {family} has numbers ({wanted})"
            )
        if not np.isfinite(array).all():
            raise DataError(f"{path}: '{name}' holds NaN or infinity; expected finite numbers")
        # The parent of the first joint is as large as its type allows.
        if name != "kintree_table" and not (np.abs(array.astype(np.float64)) <= _BEYOND).all():
            raise DataError(
                f"{path}: '{name}' holds numbers beyond {_BEYOND:,.0f}; expected those of a person in metres"
            )
    if not np.allclose(arrays["weights"].sum(axis=1), 1, atol=0.01):
        raise DataError(f"{path}: 'weights' of some vertices do not sum to 1")
    fewest = 2 * _FEW if family == "smplx" else 1
    if arrays["shapedirs"].shape[2] < fewest:
        raise DataError(f"{path}: 'shapedirs' has {arrays['shapedirs'].shape[2]} directions; expected {fewest} or more")
    for name, below in (("f", vertices), ("lmk_faces_idx", len(arrays["f"]))):
        if name in arrays and not ((arrays[name] >= 0) & (arrays[name] < below)).all():
            raise DataError(f"{path}: '{name}' holds numbers outside of 0 to {below - 1}")
    parents = arrays["kintree_table"][0, 1:].astype(np.int64)
    if not ((parents >= 0) & (parents < np.arange(1, joints))).all():
        raise DataError(f"{path}: 'kintree_table' is no tree in which parents come before their children")
