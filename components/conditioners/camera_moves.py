"""Where every view stands and how its camera goes on, as the numbers that ``camera_prompt`` says in words."""

from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from hvg.core.bounds import Metres
from hvg.core.errors import HvgError
from hvg.geometry.camera_moves import MOVES
from hvg.parts.context import ConditionerContext
from hvg.parts.model import Conditioner, ConditionerConfig
from hvg.parts.zero import zero_module
from hvg.values.clip import ClipBatch
from hvg.values.conditioning import Conditioning, ConditioningSpec, Ports

from ..nn.camera_words import HANDHELD, per_move, said, told_cameras
from ..nn.sinusoidal import sinusoidal_embedding

# Degrees, metres and degrees of unrest that are told as 1.
_UNIT, _UNREST = (180.0, 4.0), 10.0


class CameraMovesConfig(ConditionerConfig):
    """Settings of the numbers."""

    values: Literal["exact", "as_said"] = Field(
        "exact", description="as_said: rounded, and left out, as the words of camera_prompt are."
    )
    distance: Metres = Field(
        3.0, description="Metres to what is looked at, where it does not show: cameras that look the same way."
    )
    width: int = Field(16, ge=2, le=65_536, multiple_of=2, description="Sinusoidal features of each of the 17 numbers.")


class CameraMoves(Conditioner[CameraMovesConfig]):
    """Fills ``embedding`` for every view: each number sinusoidal, then one linear layer that starts at zero, as in
    ``camera_rotation``.

    The numbers are of the frames that are denoised together: eight of where the view begins, seen from the first one, eight of
    how it goes on, and its unrest (docs/camera_words.md).
    """

    requires: ClassVar[frozenset[str]] = frozenset({"cameras"})

    def __init__(self, config: CameraMovesConfig, context: ConditionerContext) -> None:
        super().__init__(config, context)
        self.linear = zero_module(nn.Linear((2 * len(MOVES) + 1) * config.width, context.ports.embedding_width))

    @classmethod
    def spec(cls, config: CameraMovesConfig, ports: Ports) -> ConditioningSpec:
        if ports.embedding_width == 0:
            raise HvgError("camera_moves fills the port 'embedding', which this backbone lacks")
        return ConditioningSpec(embedding=ports.embedding_width)

    def numbers(self, batch: ClipBatch) -> Tensor:
        """(B, V, 17), about in [-1, 1]."""
        place, path, unrest = told_cameras(batch, self.temporal_stride, self.config.distance)
        unrest = unrest / _UNREST
        if self.config.values == "as_said":
            place, path, unrest = said(place), said(path), (unrest >= HANDHELD / _UNREST).to(path)
        unit = per_move(path, *_UNIT)
        return torch.cat([place / unit, path / unit, unrest[..., None]], dim=-1)

    def forward(self, signal: Tensor | None, batch: ClipBatch) -> Conditioning:
        features = sinusoidal_embedding(self.numbers(batch), self.config.width, min_period=0.25, max_period=4.0)
        return Conditioning(embedding=self.linear(features.flatten(-2).to(self.linear.weight.dtype))[:, :, None])
