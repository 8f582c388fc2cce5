"""A person of any shape in anybody's motion, on a way that fits their legs."""

from collections.abc import Mapping
from itertools import pairwise

import torch
from torch import Tensor

from hvg.geometry.given_motion import mean_pelvis_height
from hvg.geometry.motion import Motion
from hvg.parts.scene import BodyModel
from hvg.values.body import BodyMotion

# By the names of a body model.
Shape = Mapping[str, float]
# One frame of a person who stands in the T-pose.
STILL = Motion(rotations={"pelvis": torch.zeros(1, 3)})
_LEGS = tuple(tuple(f"{side}_{joint}" for joint in ("hip", "knee", "ankle")) for side in ("left", "right"))
# Metres.
_NOTHING = 1e-5


def follow(body: BodyModel, motion: Motion, shape: Shape, *, mesh: bool) -> BodyMotion:
    """The person of ``shape`` in a motion, on a way that fits their legs: feet that stand do not slide, and none floats.

    Steps are as long as legs are. So the height of the pelvis above the floor, and its way along the floor from the first
    frame on, are multiplied by the length of their legs over that of the motion's person: from the pelvis to the sole of one
    who stands, or, of given joints, from hip to ankle. Given joints put the middle of the hips, whatever they call a pelvis.
    The motion's person is the file's, where ``body`` understands its shape, or else the mean one of the model that the file is
    for, or else the mean one of ``body``.
    """
    moved = body.animate(motion, shape, mesh=mesh)
    ratio, there, now = (
        _given_legs(motion, moved) if motion.joints is not None else _own_legs(body, motion, shape, moved)
    )
    wanted = ratio * there
    wanted[:, (0, 2)] += (1 - ratio) * there[0, (0, 2)]
    shift = wanted - now
    # Rounding alone moves nobody.
    return moved if float(shift.abs().max()) < _NOTHING else moved.shifted(shift[None])


def _own_legs(body: BodyModel, motion: Motion, shape: Shape, moved: BodyMotion) -> tuple[float, Tensor, Tensor]:
    """Length of legs over that of the motion's person's; places (T, 3) of that one's pelvis, and of the pelvis of ``moved``."""
    own = body.shape_of(motion)
    height = _pelvis_height(body, shape)
    others = motion.body if own is None else None
    source = _pelvis_height(body, own or {}) if others is None else mean_pelvis_height(others)
    now = moved.place("pelvis")[0]
    # Bodies keep how far a pelvis is from where it is when they stand.
    return height / source, now + torch.tensor([0.0, source - height, 0.0]), now


def _given_legs(motion: Motion, moved: BodyMotion) -> tuple[float, Tensor, Tensor]:
    """The same of given joints, with the middle of the hips for the pelvis."""
    given, own = motion.places(), {name: moved.place(name)[0] for name in sum(_LEGS, ())}
    there, now = (0.5 * (at["left_hip"] + at["right_hip"]) for at in (given, own))
    if motion.translation is not None:
        there = there + motion.translation
    known = all(name in given for name in own)
    return float(_leg(own) / _leg(given)) if known else 1.0, there, now


def _leg(places: Mapping[str, Tensor]) -> Tensor:
    """Length from hip by way of the knee to the ankle, metres: the median of the frames, the mean of both sides."""
    bones = torch.stack([places[a] - places[b] for leg in _LEGS for a, b in pairwise(leg)])
    return 0.5 * torch.linalg.vector_norm(bones, dim=-1).sum(dim=0).median()


def _pelvis_height(body: BodyModel, shape: Shape) -> float:
    """Metres from the floor to the pelvis of a person who stands."""
    return float(body.animate(STILL, shape, mesh=False).place("pelvis")[0, 0, 1])
