"""Hands that are clenched in every frame, because the mean hand was added twice; told by the fingers, and by the masks.

Models of the SMPL family count hands from a flat hand or from their mean one, whose fingers are bent by half; data sets and their
fits differ in it (``flat_hand_mean``). Whoever adds the mean where it is in the numbers already closes every hand.
"""

from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor

from hvg.core.required import required
from hvg.data.mistakes import FRAMES, VIEWS, scene_of, silhouettes, spread
from hvg.geometry.rotations import axis_angle, rotation_matrix
from hvg.parts.scene import Renderer
from hvg.values.body import Skinning
from hvg.values.clip import ClipBatch

# The thumb bends otherwise.
_FINGERS = ("index", "middle", "ring", "pinky")
# Radians by which the three joints of a finger turn together: 0 in a flat hand, some 1.6 in a relaxed one, SMPL-X's mean among
# them, 3.2 where that is added twice, and 4 in a fist.
_RELAXED, _CLENCHED = 1.6, 2.4
# Pixels of all pictures in which hands that are half as bent look otherwise: with fewer, masks say nothing.
_ENOUGH = 40


def clenched_hands(clip: ClipBatch, renderer: Renderer) -> str:
    """What is wrong in all likelihood with the hands of a clip (B = 1) with alpha and a body with a mesh, "" for nothing.

    Both hands have to be clenched in every frame, and the masks must not show them so: somebody may make fists.
    """
    body = required(clip.target_body, "ClipBatch.body")
    if body.skinning is None or f"left_{_FINGERS[0]}3" not in body.skinning.bones:
        return ""
    least = float(bends(body.skinning).min())
    if least < _CLENCHED:
        return ""
    views, frames = spread(clip.grid[1], VIEWS), spread(clip.grid[2], FRAMES)
    told, part = scene_of(clip, views, frames), required(body.select(torch.tensor(frames)).skinning, "skinning")
    at_rest = part.at_rest(told.vertices[None])
    opened = silhouettes(replace(told, vertices=half_open(part).posed(at_rest)[0]), renderer)
    changed = opened != silhouettes(told, renderer)
    share = float((opened == told.covered)[changed].float().mean())
    seen = "the masks are too small to tell"
    if int(changed.sum()) >= _ENOUGH:
        if share < 0.5:
            return ""
        seen = f"where that can be seen, {share:.0%} of the masks' pixels fit hands that are half as bent better"
    return (
        f"hands clenched: in every frame the fingers are bent by {least:.1f} rad and more (a relaxed hand's by {_RELAXED}), as "
        f"when the mean hand is added twice; {seen}; docs/conventions.md says which hands are flat and which the mean"
    )


def bends(skinning: Skinning) -> Tensor:
    """Radians by which the joints of a finger turn together, the mean of four fingers, of every frame and hand: (T, 2)."""
    found = []
    for side in ("left", "right"):
        turns = [turn for finger in _FINGERS for _, turn in _turns(skinning, f"{side}_{finger}")]
        angles = torch.stack([axis_angle(turn[..., :3, :3]).norm(dim=-1) for turn in turns])
        found.append(angles.sum(0)[0] / len(_FINGERS))
    return torch.stack(found, dim=-1)


def _turns(skinning: Skinning, finger: str) -> Iterator[tuple[int, Tensor]]:
    """The bones of a finger, outwards, and how each turns (B, T, 4, 4) in its parent at rest."""
    before = skinning.bones.index(f"{finger.partition('_')[0]}_wrist")
    for bone in (skinning.bones.index(f"{finger}{number}") for number in (1, 2, 3)):
        yield (
            bone,
            torch.linalg.solve(skinning.transforms[:, :, before].double(), skinning.transforms[:, :, bone].double()),
        )
        before = bone


def half_open(skinning: Skinning) -> Skinning:
    """The same with fingers and thumbs bent by half."""
    moved = skinning.transforms.clone()
    for side in ("left", "right"):
        for finger in (*_FINGERS, "thumb"):
            place = moved[:, :, skinning.bones.index(f"{side}_wrist")].double()
            for bone, turn in _turns(skinning, f"{side}_{finger}"):
                place = place @ _half(turn)
                moved[:, :, bone] = place.float()
    return replace(skinning, transforms=moved)


def _half(turn: Tensor) -> Tensor:
    """Half of a turn (..., 4, 4) about an axis that need not go through the origin."""
    whole, half = turn[..., :3, :3], turn.clone()
    half[..., :3, :3] = rotation_matrix(axis_angle(whole) / 2)
    # A point p on the axis stays where it is: t = (1 - R) p. Along the axis p is free.
    point = torch.linalg.pinv(torch.eye(3).to(whole) - whole, rtol=1e-3) @ turn[..., :3, 3:]
    half[..., :3, 3:] = point - half[..., :3, :3] @ point
    return half
