"""How files write the parameters of a body of the SMPL family, and what one of them says."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from hvg.core.axes import Up

Family = Literal["smpl", "smplh", "smplx"]
Gender = Literal["neutral", "male", "female"]
_ROTATIONS = frozenset({"global_orient", "body_pose", "jaw_pose", "leye_pose", "reye_pose"})
_HANDS = frozenset({"left_hand_pose", "right_hand_pose"})


@dataclass(frozen=True, kw_only=True)
class BodyConvention:
    """How somebody writes the parameters of a body; the defaults are those of ``BodyParameters``.

    hands: whether a hand of zeros is flat or the model's mean. components: of a hand, where it is not 15 rotations.
    about: the point about which the first rotation turns the body. scaled: whether the scale is also the translation's.
    per_metre: 1000 where lengths are in millimetres.
    """

    hands: Literal["flat", "mean"] = "flat"
    components: int | None = None
    about: Literal["pelvis", "origin"] = "pelvis"
    scaled: Literal["body", "all"] = "body"
    up: Up = "y"
    per_metre: float = 1.0


# Of systems and data sets; sources: their repositories, as named.
CONVENTIONS: Mapping[str, BodyConvention] = {
    # vchoutas/smplx: defaults of smplx.create, and with flat_hand_mean=True, use_pca=False.
    "smplx": BodyConvention(hands="mean", components=6),
    "smplx_flat": BodyConvention(),
    "amass": BodyConvention(up="z"),
    "easymocap": BodyConvention(hands="mean", components=6, about="origin"),
    "thuman": BodyConvention(hands="mean", components=12),
    "custom_humans": BodyConvention(components=12),
    # In both, floors are at z = 0 and heads at negative z: the samples in their repositories.
    "mvhumannet": BodyConvention(hands="mean", components=6, about="origin", up="-z"),
    "mvhumannet_plusplus": BodyConvention(components=6, up="-z"),
}


@dataclass(frozen=True, kw_only=True)
class GivenBody:
    """What a file says of one body of the SMPL family in T frames, as it says it.

    family: of the model that it is for. gender: None where the file does not say it. convention: in which the values are.
    values: by the words of the package smplx, each (T or 1, ...): ``global_orient`` (3), ``body_pose`` (63, or SMPL's 69),
    ``jaw_pose``, ``leye_pose`` and ``reye_pose`` (3), ``left_hand_pose`` and ``right_hand_pose`` (45, or the convention's
    components), axis-angle in radians; ``betas``, ``expression``; ``transl`` (3), in metres unless the convention says
    otherwise; ``scale`` (1). What is missing is zero, a scale 1. ``hvg.geometry.body_parameters`` makes ``BodyParameters`` of it.
    """

    family: Family
    gender: Gender | None = None
    convention: BodyConvention
    values: Mapping[str, Tensor]

    def turns(self, word: str) -> bool:
        """Whether the values of ``word`` are rotations, each by itself, and not components or what is added to a mean hand."""
        plain = self.convention.components is None and self.convention.hands == "flat"
        return word in _ROTATIONS or (word in _HANDS and plain)
