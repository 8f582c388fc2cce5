"""Cameras of drawn clips that move: forward or back, on an arc around the person, or held by hand."""

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from hvg.core.bounds import Metres
from hvg.core.random_keys import numpy_generator
from hvg.geometry.camera_moves import Move, arced, dollied, shaken
from hvg.parts.part import PartConfig
from hvg.values.cameras import Cameras
from hvg.values.tensors import concatenate


class MovingCamerasConfig(PartConfig):
    """How the cameras of a data set move."""

    camera_moves: tuple[Move, ...] = Field(
        ("static",),
        min_length=1,
        max_length=100,
        description="Moves to draw from, for each view of a clip: static; dolly, forward or back; arc, around the person; shake, "
        "by hand. One that is named twice is drawn twice as often. Cameras of novel views stand still.",
    )
    dolly_metres: Metres = Field(0.6, description="Longest way of a dolly over a clip; a fourth of it at least.")
    arc_degrees: float = Field(
        45.0, gt=0, le=360, description="Largest turn of an arc over a clip, either way; a fourth of it at least."
    )
    shake_degrees: float = Field(
        0.8, gt=0, le=10, description="Spread of a hand-held camera's direction, and a centimetre of its place each."
    )


def moving(still: Cameras, target: Tensor, config: MovingCamerasConfig, *key: int | str) -> Cameras:
    """Cameras (V, T) that stand still, as they move: each by a draw of its own, of ``key`` and its place among them.

    target: (3), what arcs go around.
    """
    draws = [numpy_generator(*key, view) for view in range(still.shape[0])]
    return concatenate([_moved(still[[view]], target, config, draw) for view, draw in enumerate(draws)])


def _moved(camera: Cameras, target: Tensor, config: MovingCamerasConfig, draw: np.random.Generator) -> Cameras:
    """One camera (1, T)."""
    move = config.camera_moves[draw.integers(len(config.camera_moves))]
    amount = float(draw.choice([-1, 1]) * draw.uniform(0.25, 1))
    if move == "dolly":
        return dollied(camera, torch.tensor([amount * config.dolly_metres]))
    if move == "arc":
        return arced(camera, target, torch.tensor([amount * config.arc_degrees]))
    if move == "shake":
        unrest = draw.standard_normal((*camera.shape, 6)).clip(-3, 3)
        return shaken(camera, config.shake_degrees, torch.from_numpy(unrest).float())
    return camera
