"""Checks of what every guidance promises."""

from typing import Any

import torch

from hvg.parts.plan import Guidance
from hvg.testing.building import make, require


def check_guidance(cls: type[Guidance], config: Any) -> None:
    """One finite scale for every view and frame, float32 on the CPU, at every noise level; asked again, it is the same.

    Raises: AssertionError that says which promise is broken.
    """
    guidance = make(cls, config)
    for views, frames in ((1, 1), (1, 5), (2, 2), (7, 1), (7, 5)):
        for sigma in (0.002, 1.0, 700.0):
            scale, again = (guidance.scale(views, frames, sigma) for _ in range(2))
            where = f"{views} views x {frames} frames at level {sigma}"
            require(tuple(scale.shape) == (views, frames), f"{where}: the scale is {tuple(scale.shape)}")
            require(scale.dtype == torch.float32, f"{where}: the scale is {scale.dtype}")
            require(scale.device.type == "cpu", f"{where}: the scale is on {scale.device}; whoever uses it moves it")
            require(bool(scale.isfinite().all()), f"{where}: the scale is not finite")
            require(torch.equal(scale, again), f"{where}: the scale differs when it is asked for again")
