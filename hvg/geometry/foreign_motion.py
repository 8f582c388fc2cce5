"""Motion files of other systems: what they are, and what to do about them."""

import math
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

_CONVERT = "make plain arrays of it with `hvg convert motion=FILE out=motion.npz`"
TORCH_FILE = f"a file of PyTorch, which holds a pickle; {_CONVERT}"
_PICKLE = f"a pickle, a program that hvg never runs; {_CONVERT}"
_JSON = (
    "JSON; EasyMocap's ends in .json, or give the folder of its frames; of another's, save "
    "numpy.savez('motion.npz', global_orient=..., body_pose=..., transl=...)"
)
_BVH = "a BVH; its name has to end in .bvh"
_RIG = "an animated model with bones of its own; retarget it to SMPL-X and save that as .npz"
_VIDEO = (
    "a video; estimate the motion in it first, with `hvg motion video=FILE out=motion.npz` or better (docs/video.md)"
)
_ARRAY = "a single array (.npy) that does not say what it holds; name it, as in numpy.savez('motion.npz', poses=array)"
# By ending.
_FILES: Mapping[str, str] = {
    **dict.fromkeys((".pt", ".pth", ".ckpt"), TORCH_FILE),
    **dict.fromkeys((".pkl", ".pickle", ".joblib"), _PICKLE),
    **dict.fromkeys((".json", ".jsonl"), _JSON),
    ".bvh": _BVH,
    **dict.fromkeys((".fbx", ".glb", ".gltf", ".c3d", ".usd", ".usdz"), _RIG),
    **dict.fromkeys((".mp4", ".mov", ".avi", ".mkv", ".webm"), _VIDEO),
}
# By first bytes, whatever the ending. Protocols of pickle that are in use are 2 to 5.
_BEGINNINGS: tuple[tuple[bytes, str], ...] = (
    (b"\x93NUMPY", _ARRAY),
    *((b"\x80" + bytes([protocol]), _PICKLE) for protocol in (2, 3, 4, 5)),
    (b"HIERARCHY", _BVH),
    (b"{", _JSON),
    (b"[", _JSON),
)
_MATRICES = "{} rotation matrices, flattened; save them as (T, {}, 3, 3)"
_SIX = "{} rotations of 6 numbers; save them as matrices (T, {}, 3, 3)"
# Numbers of a frame -> whose they look like. Joints are numbers of 3.
_WIDTHS: Mapping[int, str] = {
    63: "SMPL-X's body without the pelvis; name it body_pose, beside global_orient",
    69: "SMPL's body without the pelvis; name it body_pose, beside global_orient",
    87: "EasyMocap's SMPL-X, whose orientation and place are in Rh and Th, which are missing",
    132: _SIX.format(22, 22),
    144: _SIX.format(24, 24),
    147: f"a translation and {_SIX.format(24, 24)}, as generators of dance keep them (or 49 key points, which are no "
    "rotations)",
    159: "SMPL-X without its eyes, or SMPL-H with a translation; save the first 66 as poses if they are pelvis and body",
    198: _MATRICES.format(22, 22),
    216: _MATRICES.format(24, 24),
    263: "HumanML3D's features, which are no rotations of SMPL-X; save joints recovered from them as joints",
    322: "Motion-X's rows; save [:, :66] as poses and [:, 309:312] as trans",
}

# Metres of bones of arms and legs: usual, of a small child, of a giant.
_LIMB, _LIMBS = 0.3, (0.05, 1.0)
# CMU's is an inch / 0.45.
_PER_METRE = {"metres": 1.0, "CMU's unit": 0.45 / 0.0254, "centimetres": 100.0, "millimetres": 1000.0}


def foreign_file(path: Path, head: bytes) -> str | None:
    """Message on a file that is no .npz: its kind, and what to do; None for an unknown kind. head: its first bytes."""
    by_content = next((known for beginning, known in _BEGINNINGS if head.startswith(beginning)), None)
    return by_content or _FILES.get(path.suffix.lower())


def foreign_width(numbers: int) -> str | None:
    """Whose poses of so many numbers a frame look like, and what to do; None where that is not known."""
    return _WIDTHS.get(numbers)


def foreign_unit(joints: Mapping[str, Tensor]) -> str | None:
    """Message where bones of arms and legs are not as long as people's, in metres; joints: name -> (T, 3)."""
    length = limb_length(joints)
    if _LIMBS[0] <= length <= _LIMBS[1]:
        return None
    unit, per_metre = nearest_unit(length)
    looks = f" (they look like {unit}: save joints / {per_metre:g})" if per_metre > 1 else ""
    return f"bones of arms and legs in 'joints' are {length:.3g} long; expected metres, about {_LIMB}{looks}"


def limb_length(joints: Mapping[str, Tensor]) -> float:
    """Usual length of bones of arms and legs; that of people where there are none."""
    lengths = [
        (joints[f"{side}_{end}"] - joints[f"{side}_{start}"]).norm(dim=-1).median()
        for side in ("left", "right")
        for start, end in (("shoulder", "elbow"), ("elbow", "wrist"), ("hip", "knee"), ("knee", "ankle"))
        if f"{side}_{start}" in joints and f"{side}_{end}" in joints
    ]
    return float(torch.stack(lengths).median()) if lengths else _LIMB


def nearest_unit(length: float) -> tuple[str, float]:
    """The unit in which a person's limbs are about so long, and how many of it are a metre."""
    return min(_PER_METRE.items(), key=lambda each: abs(math.log(max(length, 1e-9) / each[1] / _LIMB)))
