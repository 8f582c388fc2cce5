"""Which part of a body a bone is, in three numbers: side, limb, and place along the limb's chain of bones."""

from collections.abc import Sequence

import torch
from torch import Tensor

from hvg.core.errors import DataError
from hvg.geometry.skeleton import BONES
from hvg.values.body import Skinning
from hvg.values.scored_clip import REGIONS

FINGERS = ("index", "middle", "pinky", "ring", "thumb")
SIDES = {"left": 1.0, "right": -1.0}
# Limb -> its number, and its bones from the trunk on. An arm is counted to the last bone of a finger, whether a body has
# fingers or not, so that a palm is the same everywhere.
_ARM, _LEG, _TRUNK = (1.0, 8), (-1.0, 4), (0.0, 6)
# A code is a multiple of this, which 8 bits keep exactly (``hvg.core.eight_bit``).
_STEP = 1 / 127

# Colours of parts in pictures for people, sRGB: trunk, then arm and leg of the left (warm) and of the right (cold).
_COLOURS = {
    (0, 0): (0.9, 0.9, 0.9),
    (1, 1): (1.0, 0.6, 0.1),
    (1, -1): (1.0, 0.25, 0.5),
    (-1, 1): (0.2, 0.6, 1.0),
    (-1, -1): (0.2, 0.9, 0.5),
}
# Brightness of the first part of a chain; the last has 1.
_DARKEST = 0.35

# Joint -> the joint at the other end of the bone that leads to it, for every joint of the SMPL family.
_PARENT: dict[str, str] = {
    **{end: start for start, end in BONES},
    **{f"{side}_{finger}1": f"{side}_wrist" for side in SIDES for finger in FINGERS},
    **{f"{side}_{finger}{k}": f"{side}_{finger}{k - 1}" for side in SIDES for finger in FINGERS for k in (2, 3)},
    **{f"{side}_hand": f"{side}_wrist" for side in SIDES},
    **dict.fromkeys(("jaw", "left_eye_smplhf", "right_eye_smplhf"), "head"),
}


def bone_codes() -> Tensor:
    """Codes (24, 3) of ``BONES``: side (left 1, right -1, middle 0), limb (arm 1, trunk and head 0, leg -1), place in (0, 1].

    The place is the bone's number in its chain over the chain's length: trunk and head from pelvis to skull, a leg from pelvis
    to foot, an arm from chest to the last bones of fingers. No code is 0 throughout, which is the background.
    """
    return torch.tensor([_code(end, 0) for _, end in BONES])


def joint_codes(names: Sequence[str]) -> Tensor:
    """Codes (J, 3) of what rides on joints: of the bone that starts there, or of the last bone, for joints at an end.

    Raises: DataError naming a joint of which no chain is known.
    """
    unknown = [name for name in names if name != "pelvis" and name not in _PARENT]
    if unknown:
        raise DataError(
            f"the skin follows the joint '{unknown[0]}', which is in no chain of bones that a code of a body part is known "
            "for; expected the names of SMPL-X's joints"
        )
    return torch.tensor([_code(name, 1) for name in names])


def vertex_codes(skinning: Skinning) -> Tensor:
    """Code (P, 3) of the bone that every vertex follows most. Raises: as of ``joint_codes``."""
    most = skinning.vertex_weights.argmax(dim=1, keepdim=True)
    bone = skinning.vertex_bones.long().gather(1, most)[:, 0]
    return joint_codes(skinning.bones).to(bone.device)[bone]


def next_joint(joint: str, known: Sequence[str]) -> str | None:
    """The joint at the other end of the bone that goes on from here; of several the trunk's, or the middle finger's.

    None at an end. known: the joints that a body has.
    """
    return next((end for end, start in _PARENT.items() if start == joint and end in known), None)


def code_regions(codes: Tensor) -> Tensor:
    """Place (...) int64 in ``REGIONS`` of the bare body's parts with codes (..., 3)."""
    _, limb, place = codes.unbind(-1)
    arm, leg = limb == _ARM[0], limb == _LEG[0]

    def beyond(bone: int, chain: tuple[float, int]) -> Tensor:
        """Whether it comes after so many bones of its chain."""
        return place > (bone + 0.5) / chain[1]

    region = torch.full(place.shape, REGIONS.index("torso"), device=codes.device)
    region[leg | (arm & beyond(2, _ARM))] = REGIONS.index("limbs")
    region[arm & beyond(4, _ARM)] = REGIONS.index("hands")
    region[leg & beyond(3, _LEG)] = REGIONS.index("feet")
    region[~arm & ~leg & beyond(4, _TRUNK)] = REGIONS.index("head")
    return region


def part_colours(codes: Tensor) -> Tensor:
    """sRGB colours (..., 3) in [0, 1] of codes (..., 3), for people to look at; black where there is none.

    The trunk is grey, the left arm orange, the left leg red, the right arm blue, the right leg green; along its chain a part is
    the brighter, the further from the trunk.
    """
    side, limb, place = codes.float().unbind(-1)
    colours = place.new_zeros(3, 3, 3)
    for key, colour in _COLOURS.items():
        colours[key] = place.new_tensor(colour)
    colour = colours[side.round().long(), limb.round().long()]
    return colour * ((_DARKEST + (1 - _DARKEST) * place) * (place > 0))[..., None]


def _code(joint: str, beyond: int) -> tuple[float, float, float]:
    """Code of the bone that leads to a joint, or of one so many bones beyond."""
    path = [joint]
    while path[-1] in _PARENT:
        path.append(_PARENT[path[-1]])
    side, root = next((name.split("_", 1) for name in reversed(path) if name.endswith(("_collar", "_hip"))), ("", ""))
    limb, bones = {"collar": _ARM, "hip": _LEG}.get(root, _TRUNK)
    # Of the trunk's joints the pelvis ends no bone of its chain; of a limb's path the joints of the trunk end others.
    number = sum(name.startswith(side) for name in path) if side else len(path) - 1
    place = min(number + beyond, bones) / bones
    return SIDES.get(side, 0.0), limb, round(place / _STEP) * _STEP
