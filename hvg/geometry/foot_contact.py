"""Feet that stand on the floor, and how far they slide while they should not."""

import torch
from torch import Tensor

# The ball of the foot, which stays while the heel lifts; detectors that do not know it have an ankle.
FEET = (("left_foot", "right_foot"), ("left_ankle", "right_ankle"))
# A foot stands that is within so many metres of where it is lowest, and slower than so many metres a second.
_NEAR_FLOOR, _SLOW = 0.03, 0.25


def standing_feet(feet: Tensor, frames_per_second: float) -> Tensor:
    """Whether feet (T, 2, 3), metres, y up, stand from one frame to the next, (T - 1, 2) bool, by their height and speed."""
    low = feet[..., 1] < feet[..., 1].amin(dim=0) + _NEAR_FLOOR
    speed = torch.linalg.vector_norm(feet.diff(dim=0), dim=-1) * frames_per_second
    return low[1:] & low[:-1] & (speed < _SLOW)


def foot_sliding(feet: Tensor, standing: Tensor) -> Tensor:
    """How far feet (T, 2, 3) move along the floor from one frame to the next while they stand, metres, (T - 1, 2); else 0.

    standing: as of ``standing_feet``; of the true motion, where another follows it.
    """
    return torch.linalg.vector_norm(feet[..., (0, 2)].diff(dim=0), dim=-1) * standing
