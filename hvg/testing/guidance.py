"""Checks of what every guidance promises."""

from typing import Any

import torch

from hvg.parts.plan import Guidance, GuidedClips
from hvg.testing.building import make, require
from hvg.testing.scene import tiny_batch

_SLOTS = ("pose", "appearance", "camera")


def check_guidance(cls: type[Guidance], config: Any) -> None:
    """Branches of slots that are dropped in training, and of each one finite scale for every clip, view and frame: float32 on the
    CPU, at every noise level, the same when asked again, and for a clip the same alone as beside others.

    Raises: AssertionError that says which promise is broken.
    """
    guidance = make(cls, config)
    branches = guidance.branches(_SLOTS)
    require(branches == guidance.branches(_SLOTS), "the branches differ when they are asked for again")
    require(len(branches) > 0, "there is no branch; a scale of 1 guides not at all")
    for branch in branches:
        unknown = ", ".join(sorted(branch.difference(_SLOTS)))
        require(not unknown, f"a branch leaves out {unknown}, which no clip trains without")
    for views, frames in ((1, 1), (1, 5), (2, 2), (7, 1), (7, 5)):
        clips = _clips(views, frames)
        for sigma in (0.002, 1.0, 700.0):
            scales, again = (guidance.scales(clips, sigma) for _ in range(2))
            where = f"{views} views x {frames} frames at level {sigma}"
            expected = (len(branches), *clips.grid)
            require(tuple(scales.shape) == expected, f"{where}: scales are {tuple(scales.shape)}, not {expected}")
            require(scales.dtype == torch.float32, f"{where}: scales are {scales.dtype}")
            require(
                scales.device.type == "cpu", f"{where}: scales are on {scales.device}; whoever uses them moves them"
            )
            require(bool(scales.isfinite().all()), f"{where}: scales are not finite")
            require(torch.equal(scales, again), f"{where}: scales differ when they are asked for again")
            for place in range(len(scales[0])):
                alone = guidance.scales(_clips(views, frames, slice(place, place + 1)), sigma)
                beside = scales[:, place : place + 1]
                require(torch.equal(alone, beside), f"{where}: scales of a clip depend on the others")


def _clips(views: int, frames: int, which: slice = slice(None)) -> GuidedClips:
    """A novel view and a novel pose, or some of them."""
    batch = tiny_batch(2, views, frames).clips(which)
    return GuidedClips(grid=batch.grid, task=batch.task, cameras=batch.cameras)
