"""Rotations of a body's joints that bring its bones where somebody's joints are."""

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn.functional import normalize

from hvg.core.errors import HvgError
from hvg.geometry.motion import BODY_JOINTS
from hvg.geometry.rotations import axis_angle, rotation_matrix
from hvg.geometry.skeleton import BONES

# The joint from which another's bone comes, for the joints of ``hvg.geometry.skeleton.JOINTS``.
PARENT = {end: start for start, end in BONES}
# The joint at the other end of a limb's bone, by the one where it starts. From pelvis and chest go several bones.
_END = {start: end for start, end in BONES if start not in ("pelvis", "spine3")}

# Joints that say where pelvis and chest face.
NEEDED = ("left_hip", "left_shoulder", "neck", "pelvis", "right_hip", "right_shoulder")


def basis(first: Tensor, second: Tensor) -> Tensor:
    """Right-handed orthonormal columns (..., 3, 3): along ``first``, then ``second`` made perpendicular to it."""
    x = normalize(first, dim=-1)
    z = normalize(torch.linalg.cross(x, second.expand_as(x)), dim=-1)
    return torch.stack([x, torch.linalg.cross(z, x), z], dim=-1)


def align(first: Tensor, second: Tensor, to_first: Tensor, to_second: Tensor) -> Tensor:
    """The rotation (..., 3, 3) that takes direction ``first`` to ``to_first`` and ``second`` as near as it can."""
    return basis(to_first, to_second) @ basis(first, second).mT


def swing(start: Tensor, end: Tensor) -> Tensor:
    """The smallest rotation (..., 3, 3) between two directions (..., 3); half turns are about any normal axis."""
    start, end = torch.broadcast_tensors(normalize(start, dim=-1), normalize(end, dim=-1))
    axis = torch.linalg.cross(start, end)
    spare = torch.linalg.cross(start, start.roll(1, dims=-1) + torch.tensor([0.0, 0.3, 0.1]))
    sine, cosine = axis.norm(dim=-1, keepdim=True), (start * end).sum(-1, keepdim=True)
    axis = normalize(torch.where(sine > 1e-6, axis, spare), dim=-1)
    return rotation_matrix(axis * torch.atan2(sine, cosine))


def follow_joints(stance: Mapping[str, Tensor], given: Mapping[str, Tensor]) -> Tensor:
    """Global rotations (T, 22, 3, 3) of ``BODY_JOINTS``, whose bones point the way the given joints (T, 3) do.

    stance: joint name -> (3,), the person in the T-pose; bone lengths stay that one's.

    The pelvis is set by hips and spine, the chest by shoulders and neck, with the lower spine halfway between; every
    other bone swings, without twist, from where its parent puts it. A joint that is not given leaves its bone with its
    parent. Raises: HvgError where a joint is not given without which a body has no orientation.
    """
    missing = sorted(set(NEEDED) - set(given))
    if missing:
        raise HvgError(f"joint positions lack {missing}, without which a body has no orientation")
    waist = next(name for name in ("spine2", "spine3", "neck") if name in given)

    def frame(of: Mapping[str, Tensor], joint: str, low: str, high: str) -> Tensor:
        return basis(of[f"left_{joint}"] - of[f"right_{joint}"], of[high] - of[low])

    pelvis = frame(given, "hip", "pelvis", waist) @ frame(stance, "hip", "pelvis", waist).mT
    base = waist if waist != "neck" else "pelvis"
    chest = frame(given, "shoulder", base, "neck") @ frame(stance, "shoulder", base, "neck").mT
    halfway = rotation_matrix(0.5 * axis_angle(chest @ pelvis.mT)) @ pelvis
    turned = {"pelvis": pelvis, "spine1": pelvis, "spine2": halfway, "spine3": chest}
    for joint in BODY_JOINTS:
        if joint in turned:
            continue
        parent, end = turned[PARENT[joint]], _END.get(joint)
        if end is None or end not in given or joint not in given:
            turned[joint] = parent
            continue
        along = (parent @ (stance[end] - stance[joint])[:, None])[..., 0]
        turned[joint] = swing(along, given[end] - given[joint]) @ parent
    return torch.stack([turned[joint] for joint in BODY_JOINTS], dim=1)


def relative(turned: Tensor) -> dict[str, Tensor]:
    """Joint name -> (T, 3) axis-angle relative to the parent, of global rotations (T, 22, 3, 3)."""
    parents = [BODY_JOINTS.index(PARENT[joint]) for joint in BODY_JOINTS[1:]]
    local = torch.cat([turned[:, :1], turned[:, parents].mT @ turned[:, 1:]], dim=1)
    return dict(zip(BODY_JOINTS, axis_angle(local).unbind(1), strict=True))
