"""A person of any shape in anybody's motion, on a way that fits their legs."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import pairwise

import torch
from torch import Tensor

from hvg.core.required import required
from hvg.geometry.foot_contact import FEET, standing_feet
from hvg.geometry.given_motion import mean_pelvis_height
from hvg.geometry.motion import Motion, resample
from hvg.geometry.motion_frames import ASSUMED_RATE
from hvg.parts.scene import BodyModel
from hvg.values.body import BodyMotion

# By the names of a body model.
Shape = Mapping[str, float]
# One frame of a person who stands in the T-pose.
STILL = Motion(rotations={"pelvis": torch.zeros(1, 3)})
_LEGS = tuple(tuple(f"{side}_{joint}" for joint in ("hip", "knee", "ankle")) for side in ("left", "right"))
_ALONG = (0, 2)


@dataclass(frozen=True)
class _Source:
    """Whom a motion was taken of. places: joint name -> (T, 3), metres, y up, floor at 0.

    root: (T, 3), by which the person shown is put there. ratio: their legs' length over the source's.
    """

    places: Mapping[str, Tensor]
    root: Tensor
    ratio: float


def follow(body: BodyModel, motion: Motion, places: Tensor, shape: Shape, *, mesh: bool) -> BodyMotion:
    """The person of ``shape`` at ``places`` (N) of a motion, as of ``resample``, moved as of ``shift_for_legs``."""
    first, last = int(places.min()), int(places.max().ceil())
    whole = resample(motion, torch.arange(first, last + 1))
    shift = resample(replace(whole, translation=shift_for_legs(body, whole, shape)), places - first).translation
    return body.animate(resample(motion, places), shape, mesh=mesh).shifted(required(shift, "shift")[None])


def shift_for_legs(body: BodyModel, motion: Motion, shape: Shape) -> Tensor:
    """What a person of ``shape`` is to be moved by, (T, 3) metres, so that standing feet neither slide nor float in a motion.

    Steps are as long as legs are. So the height of the pelvis above the floor, and its way along the floor from the first
    frame on, are multiplied by the length of their legs over that of the motion's person: from the pelvis to the sole of one
    who stands, or, of given joints, from hip to ankle. Given joints put the middle of the hips, whatever they call a pelvis.
    While feet of the motion's person stand, the way is corrected until theirs move no more, in proportion: other legs are also
    others in proportion, and bend differently in the same pose.

    The motion's person is the file's, where ``body`` understands its shape, or else built as the mean one of ``body``, as high as
    the mean one of the model that the file is for. It needs every frame of the motion, for a foot may have stepped between two.
    """
    moved = body.animate(motion, shape, mesh=False)
    own = {name: moved.place(name)[0] for name in moved.joint_names}
    source = _given(motion, own) if motion.joints is not None else _posed(body, motion, shape, own)
    now = _hips(own) if motion.joints is not None else own["pelvis"]
    wanted = source.ratio * source.root
    wanted[:, _ALONG] += (1 - source.ratio) * source.root[0, _ALONG]
    shift = wanted - now
    feet = next((names for names in FEET if set(names) <= set(source.places)), None)
    if feet is not None and len(shift) > 1:
        there, here = (torch.stack([places[foot] for foot in feet], dim=1) for places in (source.places, own))
        standing = standing_feet(there, motion.frames_per_second or ASSUMED_RATE)[..., None]
        slides = source.ratio * there.diff(dim=0) - (here + shift[:, None]).diff(dim=0)
        mended = (slides * standing).sum(dim=1) / standing.sum(dim=1).clamp_min(1)
        shift[1:, _ALONG] += mended[:, _ALONG].cumsum(dim=0)
    return shift


def _posed(body: BodyModel, motion: Motion, shape: Shape, own: Mapping[str, Tensor]) -> _Source:
    """Whom rotations were taken of. own: the places of the person of ``shape``."""
    told = body.shape_of(motion)
    person = body.animate(motion, told or {}, mesh=False)
    height, tall = _pelvis_height(body, shape), _pelvis_height(body, told or {})
    source = tall if told is not None or motion.body is None else mean_pelvis_height(motion.body)
    # Bodies keep how far a pelvis is from where it is when they stand.
    root, pelvis = own["pelvis"] + torch.tensor([0.0, source - height, 0.0]), person.place("pelvis")[0]
    places = {name: root + source / tall * (person.place(name)[0] - pelvis) for name in person.joint_names}
    return _Source(places, root, height / source)


def _given(motion: Motion, own: Mapping[str, Tensor]) -> _Source:
    """Whom joints were taken of."""
    moved = torch.zeros(3) if motion.translation is None else motion.translation
    given = {name: place + moved for name, place in motion.places().items()}
    known = all(joint in given for leg in _LEGS for joint in leg)
    return _Source(given, _hips(given), float(_leg(own) / _leg(given)) if known else 1.0)


def _hips(places: Mapping[str, Tensor]) -> Tensor:
    return 0.5 * (places["left_hip"] + places["right_hip"])


def _leg(places: Mapping[str, Tensor]) -> Tensor:
    """Length from hip by way of the knee to the ankle, metres: the median of the frames, the mean of both sides."""
    bones: Tensor = torch.stack([places[a] - places[b] for leg in _LEGS for a, b in pairwise(leg)])
    return 0.5 * bones.square().sum(dim=-1).sqrt().sum(dim=0).median()


def _pelvis_height(body: BodyModel, shape: Shape) -> float:
    """Metres from the floor to the pelvis of a person who stands."""
    return float(body.animate(STILL, shape, mesh=False).place("pelvis")[0, 0, 1])
