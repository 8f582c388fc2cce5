"""Joints of detectors, COCO's, MediaPipe's, OpenPose's and Human3.6M's, under SMPL-X's names.

Joints that a body needs and a set lacks are put halfway between two others: the pelvis between the hips, the neck between the
shoulders, the head between the ears, a hand's middle knuckle between those of index and little finger, a foot between big and
small toe. A set's only toe is the foot of SMPL-X, which is at the ball of the foot.

Sources: COCO (arXiv 1405.0312); OpenPose's BODY_25 (arXiv 1812.08008); MediaPipe Pose (BlazePose, arXiv 2006.10204), whose world
has y down and the hips at its origin; Human3.6M's 17 joints in the order of VideoPose3D (arXiv 1811.11742).
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from hvg.core.axes import Up


def _sides(*joints: str) -> tuple[str, ...]:
    return tuple(f"{side}_{joint}" for joint in joints for side in ("left", "right"))


COCO: tuple[str, ...] = ("nose", *_sides("eye", "ear", "shoulder", "elbow", "wrist", "hip", "knee", "ankle"))
MEDIAPIPE: tuple[str, ...] = (
    "nose",
    *(f"{side}_eye{place}" for side in ("left", "right") for place in ("_inner", "", "_outer")),
    *("left_ear", "right_ear", "mouth_left", "mouth_right"),
    *_sides("shoulder", "elbow", "wrist", "pinky", "index", "thumb", "hip", "knee", "ankle", "heel", "foot_index"),
)
# Pairs of MediaPipe's joints that are drawn as bones.
MEDIAPIPE_BONES: tuple[tuple[str, str], ...] = (
    *(("left_shoulder", "right_shoulder"), ("left_hip", "right_hip"), ("mouth_left", "mouth_right")),
    *(
        (f"{side}_{a}", f"{side}_{b}")
        for side in ("left", "right")
        for a, b in (
            *(("ear", "eye_outer"), ("eye_outer", "eye_inner"), ("shoulder", "elbow"), ("elbow", "wrist")),
            *(("wrist", "index"), ("wrist", "pinky"), ("wrist", "thumb"), ("shoulder", "hip"), ("hip", "knee")),
            *(("knee", "ankle"), ("ankle", "heel"), ("heel", "foot_index"), ("ankle", "foot_index")),
        )
    ),
)
HUMAN36M: tuple[str, ...] = (
    "pelvis",
    *(f"{side}_{joint}" for side in ("right", "left") for joint in ("hip", "knee", "ankle")),
    *("spine2", "neck", "nose", "head_top"),
    *(f"{side}_{joint}" for side in ("left", "right") for joint in ("shoulder", "elbow", "wrist")),
)
# OpenPose's, of which the neck is the middle of the shoulders and the pelvis that of the hips.
BODY25: tuple[str, ...] = (
    *("nose", "neck"),
    *(f"{side}_{joint}" for side in ("right", "left") for joint in ("shoulder", "elbow", "wrist")),
    "pelvis",
    *(f"{side}_{joint}" for side in ("right", "left") for joint in ("hip", "knee", "ankle")),
    *("right_eye", "left_eye", "right_ear", "left_ear"),
    *(f"{side}_{point}" for side in ("left", "right") for point in ("big_toe", "small_toe", "heel")),
)
# Joint -> the two between which it is put where it is missing.
_HALFWAY: Mapping[str, tuple[str, str]] = {
    "pelvis": ("left_hip", "right_hip"),
    "neck": ("left_shoulder", "right_shoulder"),
    "head": ("left_ear", "right_ear"),
    **{f"{side}_middle1": (f"{side}_index", f"{side}_pinky") for side in ("left", "right")},
    **{f"{side}_foot": (f"{side}_big_toe", f"{side}_small_toe") for side in ("left", "right")},
}
_SAME: Mapping[str, str] = {f"{side}_foot": f"{side}_foot_index" for side in ("left", "right")}
# Metres: of the points of a face from their mean, and of Human3.6M's pelvis from the middle of its hips.
_FACE, _MIDDLE = 0.2, 0.03


def unnamed(joints: Tensor) -> tuple[tuple[str, ...], Up] | None:
    """Names of joints (T, J, 3) in metres that have none, and the axis of their world that is up; None where it is not known.

    COCO and Human3.6M both have 17: the first five of COCO's are one face, the first of Human3.6M's is between two others.
    """
    count = joints.shape[1]
    if count == len(MEDIAPIPE):
        return MEDIAPIPE, "-y"
    if count != len(COCO):
        return None
    face = joints[:, :5]
    if float((face - face.mean(dim=1, keepdim=True)).norm(dim=-1).median()) < _FACE:
        return COCO, "y"
    hips = [HUMAN36M.index(f"{side}_hip") for side in ("left", "right")]
    if float((joints[:, 0] - joints[:, hips].mean(dim=1)).norm(dim=-1).median()) < _MIDDLE:
        return HUMAN36M, "y"
    return None


def completed(joints: Tensor, names: tuple[str, ...]) -> tuple[Tensor, tuple[str, ...]]:
    """Joints (T, J, 3) with those put beside them that are missing and that the rules of this module give."""
    places = dict(zip(names, joints.unbind(1), strict=True))
    for name, (a, b) in _HALFWAY.items():
        if name not in places and a in places and b in places:
            places[name] = (places[a] + places[b]) / 2
    for name, same in _SAME.items():
        if name not in places and same in places:
            places[name] = places[same]
    return torch.stack(list(places.values()), dim=1), tuple(places)
