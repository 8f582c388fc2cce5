"""Feet that stand on the floor, and how far they slide while they should not."""

from collections.abc import Sequence

import torch
from torch import Tensor

from hvg.geometry.skeleton import joint_index

FEET = ("left_foot", "right_foot")
# A foot stands that is within so many metres of where it is lowest, and slower than so many metres a second.
_NEAR_FLOOR, _SLOW = 0.03, 0.25


def standing_feet(joints: Tensor, names: Sequence[str], frames_per_second: float) -> Tensor:
    """Whether a foot stands from one frame to the next, (T - 1, 2) bool, left and right, by its height and speed.

    joints: (T, J, 3), metres, y up. The foot is SMPL-X's joint of that name, the ball that stays while the heel lifts.
    """
    feet = joints[:, joint_index(names, FEET, joints.device)]
    low = feet[..., 1] < feet[..., 1].amin(dim=0) + _NEAR_FLOOR
    speed = feet.diff(dim=0).norm(dim=-1) * frames_per_second
    return low[1:] & low[:-1] & (speed < _SLOW)


def foot_sliding(joints: Tensor, names: Sequence[str], standing: Tensor) -> Tensor:
    """How far every foot moves along the floor while it stands, metres from one frame to the next, (T - 1, 2); else 0.

    joints: (T, J, 3), y up. standing: (T - 1, 2), as of ``standing_feet``: of the true motion, where another follows it.
    """
    feet = joints[:, joint_index(names, FEET, joints.device)]
    return feet[..., (0, 2)].diff(dim=0).norm(dim=-1) * standing


def longest_slide(sliding: Tensor, standing: Tensor) -> float:
    """The most that a foot slides in one step, metres: while it stands without a break. Both (T - 1, 2)."""
    most = 0.0
    for moved, stands in zip(sliding.unbind(1), standing.unbind(1), strict=True):
        # A step's number is that of the breaks before it.
        step = (~stands).cumsum(0)
        most = max(most, float(torch.zeros(len(step) + 1, dtype=moved.dtype).index_add_(0, step, moved).max()))
    return most
