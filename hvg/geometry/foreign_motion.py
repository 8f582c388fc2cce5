"""Motion files of other systems: what they are, and what to do about them."""

import math
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

_SAVE = "save its arrays with numpy.savez('motion.npz', global_orient=..., body_pose=..., transl=...)"
TORCH_FILE = f"a file of PyTorch, which holds a pickle; hvg opens none: in a Python where you trust it, {_SAVE}"
_PICKLE = f"a pickle, a program that hvg never runs; in a Python where you trust it, {_SAVE}"
_JSON = f"JSON, whose layout differs from system to system; {_SAVE}"
_BVH = (
    "a BVH, a skeleton with bones of its own; retarget it to SMPL-X, or save world positions in metres with "
    "numpy.savez('motion.npz', joints=..., joint_names=...)"
)
_RIG = "an animated model with bones of its own; retarget it to SMPL-X and save that as .npz"
_VIDEO = "a video; estimate the motion in it first (SMPL or SMPL-X parameters) and save that as .npz"
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
EASYMOCAP = (
    "EasyMocap's SMPL-X, whose orientation and place are in Rh and Th; save global_orient=Rh, body_pose=poses[:, 3:66] and "
    "transl=Th + R J - J, where R is Rh as matrices and J the pelvis at rest"
)
_MATRICES = "{} rotation matrices, flattened; save them as (T, {}, 3, 3)"
_SIX = "{} rotations of 6 numbers; save them as matrices (T, {}, 3, 3)"
# Numbers of a frame -> whose they look like. Joints are numbers of 3.
_WIDTHS: Mapping[int, str] = {
    63: "SMPL-X's body without the pelvis; name it body_pose, beside global_orient",
    69: "SMPL's body without the pelvis; name it body_pose, beside global_orient",
    87: EASYMOCAP,
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
_PER_METRE = {"millimetres": 1000, "centimetres": 100}


def foreign_file(path: Path, head: bytes) -> str | None:
    """Message on a file that is no .npz: its kind, and what to do; None for an unknown kind. head: its first bytes."""
    by_content = next((known for beginning, known in _BEGINNINGS if head.startswith(beginning)), None)
    return by_content or _FILES.get(path.suffix.lower())


def foreign_width(numbers: int) -> str | None:
    """Whose poses of so many numbers a frame look like, and what to do; None where that is not known."""
    return _WIDTHS.get(numbers)


def foreign_unit(joints: Mapping[str, Tensor]) -> str | None:
    """Message where bones of arms and legs are not as long as people's, in metres; joints: name -> (T, 3)."""
    lengths = [
        (joints[f"{side}_{end}"] - joints[f"{side}_{start}"]).norm(dim=-1).median()
        for side in ("left", "right")
        for start, end in (("shoulder", "elbow"), ("elbow", "wrist"), ("hip", "knee"), ("knee", "ankle"))
        if f"{side}_{start}" in joints and f"{side}_{end}" in joints
    ]
    length = float(torch.stack(lengths).median()) if lengths else _LIMB
    if _LIMBS[0] <= length <= _LIMBS[1]:
        return None
    unit, nearest = min(_PER_METRE.items(), key=lambda each: abs(math.log(max(length, 1e-9) / each[1] / _LIMB)))
    looks = f" (they look like {unit}: save joints / {nearest})" if length > _LIMBS[1] else ""
    return f"bones of arms and legs in 'joints' are {length:.3g} long; expected metres, about {_LIMB}{looks}"
