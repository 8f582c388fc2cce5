"""A calibration suit: every limb has a hue of its own, so that its place in a picture can be told from colour alone.

Shading scales a colour and a white or grey background adds the same to all its channels; neither changes the hue.
"""

import colorsys
from collections.abc import Mapping

import numpy as np

from hvg.values.body import BodyMotion

from .person import Look, Person
from .textures import Cloth

_SIDES = ("left", "right")
_LIMBS = {
    "upper_arm": ("{side}_shoulder", "{side}_elbow"),
    "forearm": ("{side}_elbow", "{side}_wrist"),
    "hand": ("{side}_wrist", "{side}_middle1"),
    "thigh": ("{side}_hip", "{side}_knee"),
    "shin": ("{side}_knee", "{side}_ankle"),
    "foot": ("{side}_ankle", "{side}_foot"),
}
# Part -> the SMPL-X joints in whose middle it lies.
PARTS: Mapping[str, tuple[str, ...]] = {
    "head": ("head", "head_top"),
    "trunk": ("spine1", "spine3"),
    **{
        f"{side}_{limb}": tuple(joint.format(side=side) for joint in joints)
        for side in _SIDES
        for limb, joints in _LIMBS.items()
    },
}
# Parts around the circle of hues. Where two meet in one pixel, its hue lies between theirs, and is taken for that of the
# parts between them: so neighbours on the body are neighbours here, as far as a tree of limbs can lie on a circle.
_CIRCLE = (
    "trunk",
    *(f"left_{limb}" for limb in ("upper_arm", "forearm", "hand", "foot", "shin", "thigh")),
    "head",
    *(f"right_{limb}" for limb in ("thigh", "shin", "foot", "hand", "forearm", "upper_arm")),
)
# In [0, 1); a hue is as far from the next as it can be.
HUES: Mapping[str, float] = {part: _CIRCLE.index(part) / len(_CIRCLE) for part in PARTS}
# The brightest light is 1.1: nothing is clipped, and so no hue moves.
_VALUE = 0.85
_COLOURS = np.array([colorsys.hsv_to_rgb(HUES[part], 1.0, _VALUE) for part in PARTS])
_PLAIN = Cloth(first=np.zeros(3), second=np.zeros(3))
# Close-fitting: sleeves and legs to the end, short hair, nothing loose. Its colours are never seen.
_LOOK = Look(
    skin=np.zeros(3),
    hair_colour=np.zeros(3),
    hair="short",
    shirt=_PLAIN,
    sleeve=0.96,
    neckline=0.0,
    trousers=np.zeros(3),
    leg=0.97,
    shoes=np.zeros(3),
    garment="none",
    garment_cloth=_PLAIN,
)


class SuitedPerson(Person):
    """A person of any shape in the suit."""

    def __init__(self, rest: BodyMotion, generator: np.random.Generator) -> None:
        """rest: the bare body in its T-pose, B = T = 1, with mesh."""
        super().__init__(rest, _LOOK, generator)

    def part(self, point: np.ndarray) -> np.ndarray:
        """(N,) int64 position in ``PARTS`` of the part that T-pose points (N, 3) belong to."""
        joints, names = self.joints, list(PARTS)
        x, y = np.abs(point[:, 0]), point[:, 1]
        side = np.where(point[:, 0] > 0, "left", "right")
        part = np.full(len(point), "trunk", dtype=object)
        part[y > 0.7 * joints["neck"][1] + 0.3 * joints["head"][1]] = "head"
        arm = (x > joints["left_shoulder"][0]) & (y > joints["left_shoulder"][1] - 0.2)
        leg = ~arm & (y < joints["left_hip"][1] - 0.06)
        for limb, where in (
            ("upper_arm", arm),
            ("forearm", arm & (x > joints["left_elbow"][0])),
            ("hand", arm & (x > joints["left_wrist"][0])),
            ("thigh", leg),
            ("shin", leg & (y < joints["left_knee"][1])),
            ("foot", leg & (y < joints["left_ankle"][1] + 0.01)),
        ):
            part[where] = [f"{one}_{limb}" for one in side[where]]
        return np.array([names.index(name) for name in part], dtype=np.int64)

    def _body_colour(self, point: np.ndarray) -> np.ndarray:
        return _COLOURS[self.part(point)]
