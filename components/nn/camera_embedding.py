"""Numbers that say where a camera is, told to the whole network beside the noise level."""

from abc import abstractmethod
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from typing_extensions import TypeVar

from hvg.core.errors import HvgError
from hvg.parts.context import ConditionerContext
from hvg.parts.model import Conditioner, ConditionerConfig, OncePer
from hvg.parts.zero import zero_module
from hvg.values.cameras import Cameras
from hvg.values.clip import ClipBatch, Within
from hvg.values.conditioning import Conditioning, ConditioningSpec, Ports

from .sinusoidal import sinusoidal_embedding


class CameraEmbeddingConfig(ConditionerConfig):
    """Settings of a camera in the noise-level embedding."""

    width: int = Field(
        16, ge=0, le=65_536, multiple_of=2, description="Sinusoidal features of each number; 0: the numbers themselves."
    )
    network: Literal["linear", "mlp"] = Field(
        "linear",
        description="What leads from the features to the embedding; its last layer starts at zero. linear: one layer, as HVG and "
        "4DAnyone. mlp: two, with SiLU between them, as SV4D and Human4DiT.",
    )


CameraT = TypeVar("CameraT", bound=CameraEmbeddingConfig, default=Any)


class CameraEmbedding(Conditioner[CameraT]):
    """Fills ``embedding`` with features of every camera relative to the first view's in the same frame, through a network.

    count: numbers of a camera. Which view is the first, ``data.first_view`` says. The last layer starts at zero: the backbone's
    pretrained behaviour is the starting point.
    """

    requires: ClassVar[frozenset[str]] = frozenset({"cameras"})
    count: ClassVar[int]

    def __init__(self, config: CameraT, context: ConditionerContext) -> None:
        super().__init__(config, context)
        features, width = self.count * (config.width or 1), context.ports.embedding_width
        last = zero_module(nn.Linear(width if config.network == "mlp" else features, width))
        network = last if config.network == "linear" else nn.Sequential(nn.Linear(features, width), nn.SiLU(), last)
        # Checkpoints name it so.
        self.add_module(config.network, network)

    @classmethod
    def spec(cls, config: CameraT, ports: Ports) -> ConditioningSpec:
        if ports.embedding_width == 0:
            name = cls.__module__.rpartition(".")[2]
            raise HvgError(f"{name} fills the port 'embedding', which this backbone lacks")
        return ConditioningSpec(embedding=ports.embedding_width)

    @classmethod
    def once_per(cls, config: CameraT, first_view: Within = "grid") -> OncePer:
        return "cell" if first_view == "grid" else "window"

    @abstractmethod
    def camera_features(self, cameras: Cameras, first: Cameras) -> Tensor:
        """Features (B, V, t, count, width or 1) of cameras (B, V, t), beside those of the first view (B, 1, t)."""

    def forward(self, signal: Tensor | None, batch: ClipBatch) -> Conditioning:
        last = slice(self.temporal_stride - 1, None, self.temporal_stride)
        cameras = batch.cameras[:, :, last]
        first = cameras[:, :1] if batch.origin is None else batch.origin[:, :, last]
        # A product of rotations in bfloat16 would turn cameras by half a degree.
        with torch.autocast(cameras.world_to_camera.device.type, enabled=False):
            features = self.camera_features(cameras, first).flatten(-2)
        weight = next(self.parameters())
        return Conditioning(embedding=self.get_submodule(self.config.network)(features.to(weight.dtype)))


def number_features(numbers: Tensor, width: int) -> Tensor:
    """Numbers (..., N) of about [-1, 1] as (..., N, width) sinusoids; of width 0 as they are, (..., N, 1)."""
    # The longest period spans [-1, 1] twice, so that both ends differ.
    return sinusoidal_embedding(numbers, width, min_period=0.25, max_period=4.0) if width else numbers[..., None]


def camera_numbers(cameras: Tensor, axes: Tensor, scale: float) -> Tensor:
    """Twelve numbers (..., 12) of where cameras are: rotation and translation from some axes, x_camera = R x + scale t.

    Both are given as what leads there from the world, (..., 4, 4), metres; they broadcast.
    """
    rotation = cameras[..., :3, :3] @ axes[..., :3, :3].mT
    translation = (cameras[..., :3, 3:] - rotation @ axes[..., :3, 3:]) / scale
    return torch.cat([rotation, translation], dim=-1).flatten(-2)
