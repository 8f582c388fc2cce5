"""A person's motion: rotations by SMPL-X joint name, or joint positions; and what a file says of a body, or brings of one."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from hvg.geometry.body_conventions import GivenBody
from hvg.geometry.rotations import axis_angle, rotation_matrix
from hvg.geometry.skeleton import JOINTS
from hvg.values.body import BodyMotion
from hvg.values.tensors import change

BODY_JOINTS: tuple[str, ...] = JOINTS[:22]
_FINGERS = ("index", "middle", "pinky", "ring", "thumb")
# The order of SMPL-X's first 55 joints (smplx/joint_names.py, arXiv 1904.05866).
SMPLX_JOINTS: tuple[str, ...] = (
    *BODY_JOINTS,
    *("jaw", "left_eye_smplhf", "right_eye_smplhf"),
    *(f"{side}_{finger}{k}" for side in ("left", "right") for finger in _FINGERS for k in (1, 2, 3)),
)


# (x, y, z) with z up -> (x, z, -y) with y up.
Z_UP_TO_Y_UP = torch.tensor([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0], [0.0, -1.0, 0.0]])
# Axis that is up -> rotation to y up.
TO_Y_UP: Mapping[str, Tensor] = {
    "y": torch.eye(3),
    "-y": torch.diag(torch.tensor([1.0, -1.0, -1.0])),
    "z": Z_UP_TO_Y_UP,
    # (x, y, z) with z down -> (x, -z, y).
    "-z": torch.tensor([[1.0, 0.0, 0.0], [0.0, 0.0, -1.0], [0.0, 1.0, 0.0]]),
}


@dataclass(frozen=True, kw_only=True)
class Motion:
    """T frames of motion; exactly one of ``rotations`` and ``joints`` is given, ``body`` only beside rotations and ``own_body``
    only beside joints.

    rotations: SMPL-X joint name (``pelvis``, ``left_hip``, ...) -> (T, 3) axis-angle radians relative to the parent,
    in the SMPL-X rest pose (T-pose, y up, facing +z). A joint that is missing stays at rest.
    joints: (T, J, 3) positions in world metres with ``joint_names``.
    translation: (T, 3) metres, offset of the pelvis from its place in the rest pose, whose feet stand on the floor y=0.
    frames_per_second: at which it was recorded; None where that is not known.
    body: what the file says of a body of the SMPL family, from which bodies of the family take all of it; the other values
    are what any body can follow, rotations counted from that family's own rest pose, whose arms are not quite level.
    own_body: (B=1), the person who moves, where the file brings them (``hvg.geometry.own_body``); any body can follow ``joints``.
    notes: what a user should be told of how the file was read.
    """

    rotations: Mapping[str, Tensor] = field(default_factory=dict)
    joints: Tensor | None = None
    joint_names: tuple[str, ...] = ()
    translation: Tensor | None = None
    frames_per_second: float | None = None
    body: GivenBody | None = None
    own_body: BodyMotion | None = None
    notes: tuple[str, ...] = ()

    @property
    def num_frames(self) -> int:
        """T."""
        return len(self.joints) if self.joints is not None else len(next(iter(self.rotations.values())))

    def places(self) -> dict[str, Tensor]:
        """Joint name -> (T, 3) float32, where joints are given; else nothing."""
        return {} if self.joints is None else dict(zip(self.joint_names, self.joints.float().unbind(1), strict=True))


def resample(motion: Motion, places: Tensor) -> Motion:
    """The motion at ``places`` (N), increasing and counted in its frames from 0; between two frames it is interpolated.

    Rotations go along the shortest arc, positions along a line, a file's own body with all of its mesh, too. Raises: ValueError
    for no place, or one outside of it.
    """
    if not len(places) or places.min() < 0 or places.max() > motion.num_frames - 1:
        raise ValueError(f"places have to be from 0 to {motion.num_frames - 1} and at least one, got {places.tolist()}")
    before = places.floor().long()
    after = (before + 1).clamp_max(motion.num_frames - 1)
    blend = (places - before)[:, None]
    rate, passed = motion.frames_per_second, float(places[-1] - places[0])
    if rate is not None and passed > 0:
        rate *= (len(places) - 1) / passed

    def line(x: Tensor) -> Tensor:
        weight = blend.to(x).view(-1, *[1] * (x.ndim - 1))
        return x[before] + weight * (x[after] - x[before])

    def arc(x: Tensor) -> Tensor:
        start, end = rotation_matrix(x[before]), rotation_matrix(x[after])
        step = axis_angle(start.mT @ end)
        return axis_angle(start @ rotation_matrix(blend.to(x).view(-1, *[1] * (x.ndim - 1)) * step))

    def of_body(body: GivenBody) -> GivenBody:
        values = {
            word: x if len(x) == 1 else arc(x.unflatten(1, (-1, 3))).flatten(1) if body.turns(word) else line(x)
            for word, x in body.values.items()
        }
        return replace(body, values=values)

    def of_own(body: BodyMotion) -> BodyMotion:
        turned = {name: rotation_matrix(arc(axis_angle(x[0])))[None] for name, x in body.parameters.items()}
        part = change(body, ("joints", "vertices"), lambda x: line(x[0])[None])
        skinning = body.skinning and change(body.skinning, ("transforms",), lambda x: line(x[0])[None])
        return replace(part, parameters=turned, skinning=skinning)

    return replace(
        motion,
        rotations={name: arc(x) for name, x in motion.rotations.items()},
        joints=None if motion.joints is None else line(motion.joints),
        translation=None if motion.translation is None else line(motion.translation),
        frames_per_second=rate,
        body=None if motion.body is None else of_body(motion.body),
        own_body=None if motion.own_body is None else of_own(motion.own_body),
    )
