"""A pose by itself: as the body's own axes have it, wherever the person stands and whichever way they face."""

import torch
from torch import Tensor
from torch.nn.functional import normalize

from hvg.core.errors import DataError
from hvg.geometry.motion import BODY_JOINTS
from hvg.geometry.skeleton import JOINTS, complete_joints
from hvg.values.body import BodyMotion

# Joints besides the root.
POSED = JOINTS[1:]
# Numbers of a pose, by how it is told.
NUMBERS = {"joints": 3 * len(POSED), "rotations": 6 * (len(BODY_JOINTS) - 1)}


def joints_in_body_axes(body: BodyMotion) -> Tensor:
    """Joints (B, T, 24, 3), metres, those of ``POSED``, from the pelvis on: x to the left hip, y up the trunk, z forward."""
    joints = complete_joints(body.joints.float(), body.joint_names)
    pelvis, *others = (joints[..., JOINTS.index(n), :] for n in ("pelvis", "left_hip", "right_hip", "neck"))
    left, right, neck = others
    x = normalize(left - right, dim=-1)
    up = neck - pelvis
    y = normalize(up - (up * x).sum(-1, keepdim=True) * x, dim=-1)
    axes = torch.stack([x, y, torch.linalg.cross(x, y)], dim=-2)
    # In bfloat16 a joint would be millimetres elsewhere.
    with torch.autocast(joints.device.type, enabled=False):
        return (joints[..., 1:, :] - pelvis[..., None, :]) @ axes.mT


def rotations_from_root(body: BodyMotion) -> Tensor:
    """Turns (B, T, 21, 6) of the SMPL-X body joints from the T-pose on, relative to the pelvis: a matrix' first two columns.

    So the way that a person faces is not in it. Source of the six numbers: Zhou et al., arXiv 1812.07035, section 4.2.
    Raises: DataError for a body of which only joints are known.
    """
    found = body.parameters.get("rotations")
    if found is None:
        raise DataError(
            "the clips' bodies are joints without rotations, of which pose.auxiliary=rotations learns; give auxiliary=joints"
        )
    turns = found.float()
    with torch.autocast(turns.device.type, enabled=False):
        relative = turns[:, :, :1].mT @ turns[:, :, 1:]
    return relative[..., :2].mT.flatten(-2)


def pose_numbers(body: BodyMotion, told: str) -> Tensor:
    """A pose (B, T, ``NUMBERS[told]``) as joints in the body's axes, metres, or as rotations from the root."""
    return (joints_in_body_axes(body) if told == "joints" else rotations_from_root(body)).flatten(-2)
