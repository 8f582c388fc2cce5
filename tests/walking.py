"""A walk with planted feet, and whom it is shown on."""

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from components.people.motions import grounded, walk
from hvg.geometry.foot_contact import FEET, foot_sliding
from hvg.geometry.motion import Motion
from hvg.parts.scene import BodyModel

RATE = 30.0


def feet_of(body):
    """(T, 2, 3)."""
    return torch.stack([body.place(foot)[0] for foot in FEET[0]], dim=1)


def planted_walk(body: BodyModel, shape=None, frames: int = 90, seed: int = 3) -> Motion:
    """Three seconds of a walk forward of the person of ``shape``: in every frame the lower foot stays where it is.

    The people of the synthetic data walk on the spot, as on a treadmill: here the floor stands, and they go.
    """
    shape = shape or {}
    motion = grounded(walk(np.random.default_rng(seed), frames, RATE), body, shape)
    moved = body.animate(motion, shape, mesh=False)
    feet = feet_of(moved)
    lower = feet[..., 1].argmin(dim=1)
    on = torch.arange(1, frames)
    steps = feet[on, lower[1:]] - feet[on - 1, lower[1:]]
    way = torch.cat([torch.zeros(1, 3), -steps.cumsum(0)])
    way[:, 1] = 0
    return replace(motion, translation=motion.translation + way)


def longest_slide(feet: Tensor, standing: Tensor) -> float:
    """The most that a foot of (T, 2, 3) slides in one step, metres: all its way while it stands without a break."""
    sliding = foot_sliding(feet, standing)
    # A step's number is that of the breaks before it.
    steps = (~standing).cumsum(dim=0)
    return float(torch.zeros(len(feet), 2, dtype=feet.dtype).scatter_add(0, steps, sliding).max())
