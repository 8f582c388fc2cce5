"""Checks of what every regressor of key points promises."""

from typing import Any

import torch
from torch import Tensor

from hvg.parts.context import Context
from hvg.parts.metric import KeypointRegressor
from hvg.testing.building import make, require
from hvg.testing.outputs import alike
from hvg.testing.scene import tiny_scored_clips


def check_keypoints(
    cls: type[KeypointRegressor], config: Any, context: Context | None = None, frames: Tensor | None = None
) -> None:
    """Runs every check below. frames: several pictures (N, 3, H, W) uint8 of people whom it finds; None: dark people on white.

    Raises: AssertionError that says which promise is broken. NotAvailable where it needs what is not there.
    """
    if frames is None:
        people = torch.cat([clip.truth.flatten(0, 1) for clip in tiny_scored_clips()])
        # They stand in different places.
        frames = torch.stack([x.roll((n % 3, n % 4), dims=(-2, -1)) for n, x in enumerate(people)])
    regressor = make(cls, config, context)
    check_names(regressor)
    check_places(regressor, frames)
    check_alone(regressor, frames)


def check_names(regressor: KeypointRegressor) -> None:
    """Every point has a name of its own; root and joints are told of names that there are; an id says how points are found."""
    names = regressor.names
    require(len(names) > 0 and len({*names}) == len(names), f"names have to be some, each once, not {names}")
    require(len(regressor.root) > 0, "root names no point, so that a pose has no origin")
    unknown = [name for name in (*regressor.root, *regressor.joints) if name not in names]
    require(not unknown, f"root or joints tell of {unknown[:1]}, which is none of the names")
    definition = regressor.definition
    require(isinstance(definition, str) and bool(definition), "definition has to be an id, such as 'my_pose/v1'")


def check_places(regressor: KeypointRegressor, frames: Tensor) -> None:
    """Places (N, K, 2) are finite, confidence (N, K) is in [0, 1] and above 0 where something is found; pictures stay."""
    before = frames.clone()
    places, confidence = regressor.locate(frames)
    require(torch.equal(frames, before), "locate changes the pictures that it is given")
    count = (len(frames), len(regressor.names))
    require(tuple(places.shape) == (*count, 2), f"places are {tuple(places.shape)}, not {(*count, 2)}")
    require(tuple(confidence.shape) == count, f"confidence is {tuple(confidence.shape)}, not {count}")
    require(bool(places.isfinite().all()), "a place is not finite; one that is not found has confidence 0")
    require(bool(((confidence >= 0) & (confidence <= 1)).all()), "confidence leaves [0, 1]")
    require(bool((confidence > 0).any()), "nothing is found in these pictures: give some that show people, as frames=")


def check_alone(regressor: KeypointRegressor, frames: Tensor) -> None:
    """A picture is looked at by itself, and has the same points when it is seen again."""
    together, again = regressor.locate(frames), regressor.locate(frames)
    require(all(map(torch.equal, together, again)), "the same pictures have other points the second time")
    alone = [regressor.locate(frame[None]) for frame in frames]
    apart = (torch.cat(parts) for parts in zip(*alone, strict=True))
    require(all(map(alike, together, apart)), "the points of a picture depend on the pictures beside it")
