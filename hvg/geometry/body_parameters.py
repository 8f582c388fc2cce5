"""Parameters of bodies of the SMPL family, in one convention; and how those of others become so.

A point X of a body that is posed but for its first rotation R is at

    scale (R (X - J) + J) + translation

in the world, where J is the pelvis at rest of that shape. Metres, y up. Hands are 15 rotations each, and 0 is the flat hand. What
others do differently (``BodyConvention``):

- hands: 0 is the model's mean hand: flat = given + mean. Or they are the first few principal components of the model.
- EasyMocap: R X + Th, about the model's origin. So translation = Th + scale (R J - J).
- scale: also of the translation, scale (... + translation).
- world: z up, or in millimetres.

Sources: arXiv 1904.05866 and github.com/vchoutas/smplx; github.com/zju3dv/EasyMocap, for its R and Th.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from hvg.core.errors import DataError
from hvg.geometry.body_conventions import BodyConvention, Family
from hvg.geometry.body_files import HAND_NUMBERS, BodyFile
from hvg.geometry.motion import BODY_JOINTS, SMPLX_JOINTS, TO_Y_UP
from hvg.geometry.rotations import axis_angle, rotation_matrix
from hvg.values.tensors import moved

# Words of the package smplx, in the order of a pose: the first rotation, the body, what only SMPL-X has, the hands.
POSES: Mapping[str, tuple[str, ...]] = {
    "global_orient": ("pelvis",),
    "body_pose": BODY_JOINTS[1:],
    "jaw_pose": (SMPLX_JOINTS[22],),
    "leye_pose": (SMPLX_JOINTS[23],),
    "reye_pose": (SMPLX_JOINTS[24],),
    "left_hand_pose": SMPLX_JOINTS[25:40],
    "right_hand_pose": SMPLX_JOINTS[40:55],
}
_HANDS = {"left_hand_pose": "l", "right_hand_pose": "r"}


@dataclass(frozen=True, kw_only=True)
class BodyParameters:
    """T frames of a body of the SMPL family, as this module's docstring has it.

    rotations: joint name -> (T, 3) axis-angle radians, relative to the parent; a joint that is missing is at rest.
    betas: (T or 1, up to S). expression: (T or 1, up to E). translation: (T, 3). scale: (T or 1,).
    """

    family: Family
    rotations: Mapping[str, Tensor]
    betas: Tensor
    expression: Tensor
    translation: Tensor
    scale: Tensor

    @property
    def num_frames(self) -> int:
        """T."""
        return len(self.translation)


def body_parameters(given: Mapping[str, Tensor], convention: BodyConvention, file: BodyFile) -> BodyParameters:
    """The parameters in this module's convention, float32; they are worked out in float64, so that only that rounding is ours.

    given: by the words of the package smplx (``POSES``, ``betas``, ``expression``, ``transl``, ``scale``), each (T or 1, ...);
    what is missing is zero, a scale 1. Betas and expressions beyond the model's are left out: ``notes_on_counts`` says how many.

    Raises: DataError for a word, a length or a shape that does not fit.
    """
    values = {name: x.double() for name, x in given.items()}
    frames = _frames(values)
    rotations = _rotations(values, convention, file)
    none = torch.zeros(1, 0, dtype=torch.float64)
    betas = values.get("betas", none)[:, : file.num_betas]
    expression = values.get("expression", none)[:, : file.num_expressions]
    scale = values.get("scale", none.new_ones(1)).reshape(-1)
    shift = values.get("transl", none.new_zeros(1, 3)).expand(frames, 3) / convention.per_metre
    if convention.scaled == "all":
        shift = scale[:, None] * shift
    first = rotation_matrix(rotations.get("pelvis", none.new_zeros(frames, 3)))
    pelvis = file.rest_joints(betas, expression)[:, 0]
    if convention.about == "origin":
        shift = shift + scale[:, None] * (_turned(first, pelvis) - pelvis)
    if convention.up != "y":
        turn = TO_Y_UP[convention.up].double()
        rotations["pelvis"] = axis_angle(turn @ first)
        shift = (scale[:, None] * pelvis + shift) @ turn.mT - scale[:, None] * pelvis
    body = BodyParameters(
        family=file.family,
        rotations=rotations,
        betas=betas,
        expression=expression,
        translation=shift,
        scale=scale,
    )
    return moved(body, torch.float32)


def notes_on_counts(given: Mapping[str, Tensor], file: BodyFile) -> list[str]:
    """Notes on betas and expressions that are more than the model has directions for, or fewer."""
    known, notes = {"betas": file.num_betas, "expression": file.num_expressions}, []
    for name, count in known.items():
        values = given.get(name, torch.zeros(1, count))
        told = values.shape[1]
        if told > count and values[:, count:].any():
            notes.append(f"{file.path} has {count} {name}; the other {told - count} were left out")
        if told < count:
            notes.append(f"{file.path} has {count} {name}; the last {count - told} are 0, for {told} are given")
    return notes


def _words(file: BodyFile) -> tuple[str, ...]:
    return tuple(name for name, joints in POSES.items() if joints[0] in file.joints)


def _joints(word: str, file: BodyFile) -> tuple[str, ...]:
    """Joints that a pose turns; SMPL's hands are part of its body."""
    hands = ("left_hand", "right_hand") if word == "body_pose" and file.family == "smpl" else ()
    return (*POSES[word], *hands)


def _frames(values: Mapping[str, Tensor]) -> int:
    """T, that all parameters of more than one frame have."""
    lengths = {name: len(x) for name, x in values.items()}
    counts = sorted({count for count in lengths.values() if count != 1})
    if len(counts) > 1:
        raise DataError(f"parameters of a body differ in their number of frames: {lengths}")
    return counts[0] if counts else 1


def _rotations(values: Mapping[str, Tensor], convention: BodyConvention, file: BodyFile) -> dict[str, Tensor]:
    """Joint name -> (T, 3)."""
    known = {*_words(file), "betas", "expression", "transl", "scale"}
    unknown = sorted(set(values) - known)
    if unknown:
        raise DataError(f"'{unknown[0]}' is no parameter of {file.family}; it has {', '.join(sorted(known))}")
    frames, rotations = _frames(values), {}
    for word in _words(file):
        if word not in values:
            continue
        joints, pose = _joints(word, file), values[word].reshape(len(values[word]), -1)
        if word in _HANDS:
            pose = _flat_hand(word, pose, convention, file)
        elif file.family == "smpl" and word == "body_pose" and pose.shape[1] == 3 * len(BODY_JOINTS[1:]):
            joints = BODY_JOINTS[1:]
        if pose.shape[1] != 3 * len(joints):
            raise DataError(f"'{word}' has {pose.shape[1]} numbers a frame; expected {3 * len(joints)}")
        vectors = pose.unflatten(1, (-1, 3)).expand(frames, -1, 3)
        rotations.update(zip(joints, vectors.unbind(1), strict=True))
    # A mean hand is one even where nothing was given.
    for word, side in _HANDS.items():
        if convention.hands == "mean" and word in _words(file) and word not in values:
            mean = _array(file, f"hands_mean{side}").reshape(-1, 3)
            rotations.update({joint: x.expand(frames, 3) for joint, x in zip(POSES[word], mean, strict=True)})
    return rotations


def _flat_hand(word: str, pose: Tensor, convention: BodyConvention, file: BodyFile) -> Tensor:
    """(T, 45) axis-angle, 0 for the flat hand."""
    side, count = _HANDS[word], convention.components
    if count is not None:
        if pose.shape[1] != count:
            raise DataError(f"'{word}' has {pose.shape[1]} numbers a frame; expected {count} components")
        pose = pose @ _array(file, f"hands_components{side}")[:count]
    elif pose.shape[1] != HAND_NUMBERS:
        raise DataError(f"'{word}' has {pose.shape[1]} numbers a frame; expected {HAND_NUMBERS} (15 rotations)")
    return pose + _array(file, f"hands_mean{side}") if convention.hands == "mean" else pose


def _turned(rotation: Tensor, point: Tensor) -> Tensor:
    """(T, 3) of rotations (T, 3, 3) and points (T or 1, 3)."""
    return (rotation @ point[..., None])[..., 0]


def _array(file: BodyFile, name: str) -> Tensor:
    return torch.from_numpy(file.arrays[name]).double()
