"""What is seen of a synthetic person, in words: hair, clothes, and what they do."""

from collections.abc import Mapping

import numpy as np
import torch

from ..nn.lab_colour import lab
from .person import Look, Person
from .suit import SuitedPerson
from .textures import Cloth

# sRGB of what is called so, in 8 bits; a colour has the name of the one that looks nearest to it (CIELAB).
COLOURS: Mapping[str, tuple[int, int, int]] = {
    "black": (25, 25, 28),
    "grey": (112, 114, 120),
    "white": (242, 242, 238),
    "red": (205, 35, 40),
    "orange": (235, 130, 30),
    "yellow": (230, 215, 45),
    "green": (50, 150, 50),
    "turquoise": (40, 175, 170),
    "blue": (40, 75, 200),
    "navy": (33, 43, 82),
    "purple": (120, 45, 180),
    "pink": (225, 80, 165),
    "brown": (85, 54, 33),
    "beige": (160, 140, 100),
}
HAIR: Mapping[str, tuple[int, int, int]] = {
    "black": (26, 20, 18),
    "dark brown": (61, 38, 26),
    "brown": (107, 66, 36),
    "blond": (184, 135, 71),
    "red": (153, 64, 31),
    "grey": (140, 140, 143),
}
# Motion -> what somebody does who moves so.
DOING: Mapping[str, str] = {
    "walk": "walks",
    "wave": "waves",
    "squat": "does squats",
    "turn": "turns around",
    "dance": "dances",
    "pose": "holds a pose",
}
_STYLES = {"short": "short {} hair", "long": "long {} hair", "bun": "{} hair in a bun", "tail": "a {} ponytail"}
_PATTERNS = {"stripes": "striped", "bars": "striped", "checks": "checked"}


def described(person: Person, motion: str | None) -> str:
    """A caption, as "a person with long brown hair in a red shirt, blue trousers and a green coat walks".

    motion: its name; None for somebody who stands still.
    """
    doing = "stands" if motion is None else DOING[motion]
    if isinstance(person, SuitedPerson):
        return f"a person in a suit of many colours {doing}"
    look = person.look
    hair = _STYLES[look.hair].format(_named(look.hair_colour, HAIR))
    *clothes, last = _clothes(look)
    worn = f"{', '.join(clothes)} and {last}" if clothes else last
    return f"a person with {hair} in {worn} {doing}"


def _clothes(look: Look) -> list[str]:
    """What is worn and seen; a skirt hides short trousers."""
    worn = [_one(f"{_material(look.shirt)} shirt")]
    if look.leg > 0.9 or look.garment != "skirt":
        worn.append(f"{_named(look.trousers, COLOURS)} {'trousers' if look.leg > 0.9 else 'shorts'}")
    return worn if look.garment == "none" else [*worn, _one(f"{_material(look.garment_cloth)} {look.garment}")]


def _material(cloth: Cloth) -> str:
    """Its colours and pattern; of a shirt with a sign, the shirt's colour."""
    first, second = (_named(colour, COLOURS) for colour in (cloth.first, cloth.second))
    if cloth.pattern not in _PATTERNS:
        return first
    return f"{first if first == second else f'{first} and {second}'} {_PATTERNS[cloth.pattern]}"


def _one(what: str) -> str:
    return f"{'an' if what[0] in 'aeiou' else 'a'} {what}"


def _named(colour: np.ndarray, palette: Mapping[str, tuple[int, int, int]]) -> str:
    """Name in a palette of the colour that looks nearest to an sRGB colour (3,) in [0, 1]."""
    own = torch.from_numpy(np.clip(np.round(np.asarray(colour) * 255), 0, 255).astype(np.uint8))[:, None]
    known = torch.tensor(list(palette.values()), dtype=torch.uint8).T
    return list(palette)[int((lab(known) - lab(own)).square().sum(dim=0).argmin())]
