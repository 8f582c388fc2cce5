"""Task of a clip: the person of the photo seen from elsewhere, or the person in another pose.

A novel view shows the photo's own pose, in the photo's place, for as long as the clip lasts: only the cameras tell photo and
target apart. Everything else is a novel pose, however many cameras see it.

Source: GAS (sections 3.3 and 3.4), whose switch tells "static view synthesis videos" from "dynamic animation videos".
There a novel pose is seen by one camera that stands still; here both may be seen by any.
"""

import torch
from torch import Tensor

from hvg.values.body import BodyMotion
from hvg.values.clip import ClipBatch

NOVEL_VIEW, NOVEL_POSE = 0, 1
# The task of that number, as a command names it.
TASKS = ("view", "pose")
# Breathing moves a shoulder by more; rounding, and a body stored in half precision, by less.
SAME_PLACE_METRES = 1e-3


def clip_task(clip: ClipBatch) -> Tensor | None:
    """(B,) int64, ``NOVEL_VIEW`` or ``NOVEL_POSE``; None where the clip or its photo has no body that would say it.

    A novel view: in every frame that is valid in some view, no joint is farther from where one photo has it, in the world,
    than ``SAME_PLACE_METRES``. With several photos it is one and the same photo for the whole clip.
    """
    body, photo = clip.target_body, clip.reference and clip.reference.target_body
    if body is None or photo is None:
        return None
    named = [name for name in body.joint_names if name in photo.joint_names]
    if not named:
        return None
    # (B, T, 1, N, 3) and (B, 1, R, N, 3) -> (B, T, R).
    target = body.joints[:, :, None, [body.joint_names.index(name) for name in named]]
    pictured = photo.joints[:, None, :, [photo.joint_names.index(name) for name in named]]
    same = ((target - pictured).norm(dim=-1) <= SAME_PLACE_METRES).all(dim=-1)
    if clip.valid is not None:
        same = same | ~clip.valid.any(dim=1)[:, :, None]
    return torch.where(same.all(dim=1).any(dim=1), NOVEL_VIEW, NOVEL_POSE)


def stands_still(body: BodyMotion) -> bool:
    """Whether in no frame of any clip a joint is farther from where the first has it than ``SAME_PLACE_METRES``."""
    return bool(((body.joints - body.joints[:, :1]).norm(dim=-1) <= SAME_PLACE_METRES).all())
