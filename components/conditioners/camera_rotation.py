"""Camera rotation of every view relative to the first view."""

from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from hvg.core.errors import HvgError
from hvg.parts.context import ConditionerContext
from hvg.parts.model import Conditioner, ConditionerConfig
from hvg.parts.zero import zero_module
from hvg.values.cameras import relative_rotation
from hvg.values.clip import ClipBatch
from hvg.values.conditioning import Conditioning, ConditioningSpec, Ports

from ..nn.sinusoidal import sinusoidal_embedding


class CameraRotationConfig(ConditionerConfig):
    """Settings of the camera embedding."""

    width: int = Field(16, ge=2, le=65_536, multiple_of=2, description="Sinusoidal features of each of the 9 numbers.")


class CameraRotation(Conditioner[CameraRotationConfig]):
    """Fills ``embedding``: the 3x3 rotation relative to the first view, each number sinusoidal, then one linear layer.

    Source: HVG (arXiv 2602.21188), section 3.2, Embeddings; translation and intrinsics are not told. The linear layer
    starts at zero, which the paper leaves open: the backbone's pretrained behaviour is the starting point.
    """

    requires: ClassVar[frozenset[str]] = frozenset({"cameras"})

    def __init__(self, config: CameraRotationConfig, context: ConditionerContext) -> None:
        super().__init__(config, context)
        self.linear = zero_module(nn.Linear(9 * config.width, context.ports.embedding_width))

    @classmethod
    def spec(cls, config: CameraRotationConfig, ports: Ports) -> ConditioningSpec:
        if ports.embedding_width == 0:
            raise HvgError("camera_rotation fills the port 'embedding', which this backbone lacks")
        return ConditioningSpec(embedding=ports.embedding_width)

    def forward(self, signal: Tensor | None, batch: ClipBatch) -> Conditioning:
        last = slice(self.temporal_stride - 1, None, self.temporal_stride)
        cameras, origin = batch.cameras[:, :, last], batch.origin and batch.origin[:, :, last]
        # A product of rotations in bfloat16 would turn cameras by half a degree.
        with torch.autocast(cameras.world_to_camera.device.type, enabled=False):
            numbers = relative_rotation(cameras, origin).flatten(-2)
        # The longest period spans [-1, 1] twice, so that both ends differ.
        features = sinusoidal_embedding(numbers, self.config.width, min_period=0.25, max_period=4.0).flatten(-2)
        return Conditioning(embedding=self.linear(features.to(self.linear.weight.dtype)))
