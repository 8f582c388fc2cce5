"""The skeleton with SMPL-X joint names, its bones, and the anthropometric table of bone radii."""

from __future__ import annotations

# SMPL-X body joints (arXiv 1904.05866), then the first middle-finger knuckles, then the top of the skull, which SMPL-X
# does not have: where a source lacks it, it is put on the line from neck to head.
JOINTS: tuple[str, ...] = (
    "pelvis",
    "left_hip",
    "right_hip",
    "spine1",
    "left_knee",
    "right_knee",
    "spine2",
    "left_ankle",
    "right_ankle",
    "spine3",
    "left_foot",
    "right_foot",
    "neck",
    "left_collar",
    "right_collar",
    "head",
    "left_shoulder",
    "right_shoulder",
    "left_elbow",
    "right_elbow",
    "left_wrist",
    "right_wrist",
    "left_middle1",
    "right_middle1",
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
