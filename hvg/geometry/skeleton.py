"""The skeleton with SMPL-X joint names, its bones, and the anthropometric table of bone radii."""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor

from hvg.core.errors import DataError

# SMPL-X body joints (arXiv 1904.05866), then the first middle-finger knuckles, then the top of the skull, which SMPL-X
# does not have: where a source lacks it, it is put on the line from neck to head.
JOINTS: tuple[str, ...] = (
    "pelvis",
    *("left_hip", "right_hip", "spine1"),
    *("left_knee", "right_knee", "spine2"),
    *("left_ankle", "right_ankle", "spine3"),
    *("left_foot", "right_foot", "neck"),
    *("left_collar", "right_collar", "head"),
    *("left_shoulder", "right_shoulder"),
    *("left_elbow", "right_elbow"),
    *("left_wrist", "right_wrist"),
    *("left_middle1", "right_middle1"),
    "head_top",
)

_SIDE_BONES = (
    ("pelvis", "{side}_hip"),
    ("{side}_hip", "{side}_knee"),
    ("{side}_knee", "{side}_ankle"),
    ("{side}_ankle", "{side}_foot"),
    ("spine3", "{side}_collar"),
    ("{side}_collar", "{side}_shoulder"),
    ("{side}_shoulder", "{side}_elbow"),
    ("{side}_elbow", "{side}_wrist"),
    ("{side}_wrist", "{side}_middle1"),
)

# 24 bones as (from, to) joint names.
BONES: tuple[tuple[str, str], ...] = (
    ("pelvis", "spine1"),
    ("spine1", "spine2"),
    ("spine2", "spine3"),
    ("spine3", "neck"),
    ("neck", "head"),
    ("head", "head_top"),
    *((a.format(side=side), b.format(side=side)) for side in ("left", "right") for a, b in _SIDE_BONES),
)

# Radius across each bone, centimetres, for a person of REFERENCE_STATURE; left and right are equal. A girth g stands
# for the radius g / 2 pi, a breadth b with a depth d for sqrt(b d) / 2, since the ellipsoids are round across the bone.
# Girths, breadths and depths: approximate means of men and women of ANSUR II (Gordon et al., 2012 Anthropometric Survey
# of U.S. Army Personnel, NATICK/TR-15/007), whose mean statures of 1.76 m and 1.63 m average to 1.69 m. The wrist is
# HVG's (arXiv 2602.21188, section 3.1). "House" marks our own choices for what no survey measures.
REFERENCE_STATURE = 1.70
_RADII_CM: dict[tuple[str, str], float] = {
    ("pelvis", "spine1"): 14.4,  # hip breadth, buttock depth
    ("spine1", "spine2"): 13.3,  # waist breadth, waist depth
    ("spine2", "spine3"): 13.1,  # chest breadth, chest depth
    ("spine3", "neck"): 13.1,  # chest breadth, chest depth
    ("neck", "head"): 5.8,  # neck girth
    ("head", "head_top"): 8.5,  # head breadth, head length
    ("pelvis", "hip"): 10.0,  # house: fills the pelvis between the trunk and the thigh
    ("hip", "knee"): 8.1,  # mean of thigh girth and lower thigh girth: the largest girth lies above the bone's middle
    ("knee", "ankle"): 6.1,  # calf girth
    ("ankle", "foot"): 4.1,  # house: between half the foot's breadth and half the ankle's height
    ("spine3", "collar"): 6.5,  # house: as the shoulder
    ("collar", "shoulder"): 6.5,  # arm scye girth
    ("shoulder", "elbow"): 5.2,  # biceps girth
    ("elbow", "wrist"): 4.5,  # forearm girth
    ("wrist", "middle1"): 2.5,  # HVG: "2.5 cm for wrists"; sqrt(breadth x thickness) / 2 of a hand is the same
}

# Drillis and Contini 1966, as tabulated in Winter, Biomechanics and Motor Control of Human Movement, figure 4.1:
# lengths as fractions of stature.
_LEG_LENGTH = 0.245 + 0.246  # hip to knee, knee to ankle
_NECK_TO_TOP = 0.182  # root of the neck to the top of the head

# Limbs as OpenPose draws them (Cao et al., arXiv 1812.08008, the 18 COCO key points), with its colour wheel, sRGB in
# [0, 1]. SMPL-X has no nose, eyes and ears: neck to nose becomes neck to head, and one limb from head to head_top
# stands for the four of the face. "neck" is where OpenPose has the middle of the shoulders.
OPENPOSE_LIMBS: tuple[tuple[str, str], ...] = (
    *(("neck", "right_shoulder"), ("neck", "left_shoulder")),
    *(("right_shoulder", "right_elbow"), ("right_elbow", "right_wrist")),
    *(("left_shoulder", "left_elbow"), ("left_elbow", "left_wrist")),
    *(("neck", "right_hip"), ("right_hip", "right_knee"), ("right_knee", "right_ankle")),
    *(("neck", "left_hip"), ("left_hip", "left_knee"), ("left_knee", "left_ankle")),
    *(("neck", "head"), ("head", "head_top")),
)
OPENPOSE_JOINTS: tuple[str, ...] = (
    *("head", "neck"),
    *("right_shoulder", "right_elbow", "right_wrist"),
    *("left_shoulder", "left_elbow", "left_wrist"),
    *("right_hip", "right_knee", "right_ankle"),
    *("left_hip", "left_knee", "left_ankle"),
    "head_top",
)


def _hue(step: int, steps: int = 18) -> tuple[float, float, float]:
    """Full colour of a hue, counted in steps of the wheel from red on."""
    away = ((18 * step / steps - primary + 9) % 18 - 9 for primary in (0, 6, 12))
    red, green, blue = (min(1.0, max(0, 6 - abs(distance)) / 3) for distance in away)
    return red, green, blue


# Limb i and joint i have colour i; of the 20 limbs of a hand, each hand has all hues.
OPENPOSE_COLORS = tuple(_hue(step) for step in range(len(OPENPOSE_JOINTS)))
HAND_COLORS = tuple(_hue(step, 20) for _ in range(2) for step in range(20))


# Hands as OpenPose has them, from the wrist to each finger's tip, and the points of a face; names are those of SMPL-X's package.
_FINGERS = ("thumb", "index", "middle", "ring", "pinky")
HAND_LIMBS: tuple[tuple[str, str], ...] = tuple(
    (a.format(side=side), b.format(side=side))
    for side in ("left", "right")
    for finger in _FINGERS
    for a, b in pairwise(["{side}_wrist", *(f"{{side}}_{finger}{k}" for k in (1, 2, 3, ""))])
)
FACE_POINTS: tuple[str, ...] = (
    *("nose", "nose1", "nose2", "nose3", "nose4", "nose_middle"),
    *("mouth_top", "mouth_bottom", "lip_top", "lip_bottom"),
    *(
        f"{side}_{point}"
        for side in ("left", "right")
        for point in (
            *("eye", "ear", "nose_1", "nose_2", "lip_1", "lip_2", "lip_3"),
            *(f"eye_brow{k}" for k in range(1, 6)),
            *(f"eye{k}" for k in range(1, 7)),
            *(f"mouth_{k}" for k in range(1, 6)),
        )
    ),
)


def bone_radii(stature: Tensor | float) -> Tensor:
    """Radius (..., 24) across every bone of ``BONES`` in metres for statures (...) in metres."""
    stature = torch.as_tensor(stature)
    table = [_RADII_CM[_without_side(a), _without_side(b)] for a, b in BONES]
    return stature[..., None] * stature.new_tensor(table) / 100 / REFERENCE_STATURE


def _without_side(joint: str) -> str:
    return joint.removeprefix("left_").removeprefix("right_")


def joint_index(names: Sequence[str], wanted: Sequence[str], device: torch.device | None = None) -> Tensor:
    """Position (len(wanted),) int64 of every wanted joint in ``names``.

    Raises: DataError that names the missing joints.
    """
    missing = [joint for joint in wanted if joint not in names]
    if missing:
        raise DataError(
            f"the body lacks the joints {', '.join(missing)}; it has {', '.join(names)}; expected SMPL-X names "
            f"(hvg.geometry.skeleton.JOINTS)"
        )
    return torch.tensor([list(names).index(joint) for joint in wanted], device=device)


def bone_index(joint_names: Sequence[str], device: torch.device | None = None) -> tuple[Tensor, Tensor]:
    """Positions of the (from, to) joints of every bone of ``BONES`` in ``joint_names``, two tensors (24,) int64.

    Raises: DataError that names the missing joints. ``complete_joints`` adds a missing head_top.
    """
    first, second = zip(*BONES, strict=True)
    return joint_index(joint_names, first, device), joint_index(joint_names, second, device)


def estimate_stature(joints: Tensor, names: Sequence[str]) -> Tensor:
    """Stature (...) in metres from joints (..., J, 3): the mean leg length over its usual share of it.

    Source: Drillis and Contini 1966 (Winter, figure 4.1): hip to ankle is 0.491 of the stature.
    """
    chain = [f"{side}_{joint}" for side in ("left", "right") for joint in ("hip", "knee", "ankle")]
    points = joints[..., joint_index(names, chain, joints.device), :].unflatten(-2, (2, 3))
    return points.diff(dim=-2).norm(dim=-1).sum(-1).mean(-1) / _LEG_LENGTH


def complete_joints(joints: Tensor, names: Sequence[str]) -> Tensor:
    """Joints (..., J, 3) in any order -> (..., 25, 3) in the order of ``JOINTS``; surplus joints are left out.

    A missing head_top is put on the line from neck to head, 0.182 of the stature from the neck (Drillis and Contini
    1966; stature from ``estimate_stature``). Raises: DataError that names any other missing joint.
    """
    if "head_top" in names:
        return joints[..., joint_index(names, JOINTS, joints.device), :]
    known = joints[..., joint_index(names, JOINTS[:-1], joints.device), :]
    neck, head = known[..., JOINTS.index("neck"), :], known[..., JOINTS.index("head"), :]
    direction = torch.nn.functional.normalize(head - neck, dim=-1)
    top = neck + direction * (_NECK_TO_TOP * estimate_stature(joints, names))[..., None]
    return torch.cat([known, top[..., None, :]], dim=-2)
