"""What is seen of a synthetic person, in words: hair, clothes, and what they do."""

import colorsys
from collections.abc import Mapping

import numpy as np

from .person import Look, Person
from .suit import SuitedPerson
from .textures import HAIR_COLOURS, Cloth

# Hues, in degrees, up to which a vivid colour is called so; beyond the last it is red again.
HUES: Mapping[str, float] = {
    "red": 15,
    "orange": 45,
    "yellow": 70,
    "green": 160,
    "turquoise": 200,
    "blue": 255,
    "purple": 300,
    "pink": 345,
}
# Of ``HAIR_COLOURS``.
HAIR = ("black", "dark brown", "brown", "blond", "red", "grey")
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
    nearest = np.square(HAIR_COLOURS - look.hair_colour).sum(axis=1).argmin()
    hair = _STYLES[look.hair].format(HAIR[int(nearest)])
    *clothes, last = _clothes(look)
    worn = f"{', '.join(clothes)} and {last}" if clothes else last
    return f"a person with {hair} in {worn} {doing}"


def _clothes(look: Look) -> list[str]:
    """What is worn and seen; a skirt hides short trousers."""
    worn = [_one(f"{_material(look.shirt)} shirt")]
    if look.leg > 0.9 or look.garment != "skirt":
        worn.append(f"{colour_name(look.trousers)} {'trousers' if look.leg > 0.9 else 'shorts'}")
    return worn if look.garment == "none" else [*worn, _one(f"{_material(look.garment_cloth)} {look.garment}")]


def _material(cloth: Cloth) -> str:
    """Its colours and pattern; of a shirt with a sign, the shirt's colour."""
    first, second = colour_name(cloth.first), colour_name(cloth.second)
    if cloth.pattern not in _PATTERNS:
        return first
    return f"{first if first == second else f'{first} and {second}'} {_PATTERNS[cloth.pattern]}"


def _one(what: str) -> str:
    return f"{'an' if what[0] in 'aeiou' else 'a'} {what}"


def colour_name(colour: np.ndarray) -> str:
    """What an sRGB colour (3,) in [0, 1] is called: by its hue, unless it is grey, or dark or pale and has a name for that."""
    hue, saturation, value = colorsys.rgb_to_hsv(*map(float, colour))
    if value < 0.2:
        return "black"
    if saturation < 0.2:
        return "white" if value > 0.8 else "grey"
    name = next((name for name, last in HUES.items() if 360 * hue < last), "red")
    if name == "orange" and saturation < 0.5:
        return "brown" if value < 0.5 else "beige"
    dark = {"orange": 0.65, "pink": 0.65, "blue": 0.4}
    return {"orange": "brown", "pink": "purple", "blue": "navy"}[name] if value < dark.get(name, 0) else name
