"""Numbers of a body and a camera as tokens for cross-attention: what signals that are never drawn are made of."""

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from typing_extensions import TypeVar

from hvg.core.bounds import Heads, Metres, Width
from hvg.core.errors import HvgError
from hvg.parts.attention import GroupAttention
from hvg.parts.context import ConditionerContext
from hvg.parts.model import Conditioner, ConditionerConfig, OncePer
from hvg.parts.zero import zero_module
from hvg.values.clip import ClipBatch, Within
from hvg.values.conditioning import Conditioning, ConditioningSpec, Ports

from .camera_embedding import camera_numbers
from .sinusoidal import sinusoidal_embedding

# Periods of the sinusoids of metres, and of numbers between -1 and 1: two values are told apart over half the longest.
METRES, UNIT = (0.1, 20.0), (0.25, 4.0)


class TokensConfig(ConditionerConfig):
    """Settings of tokens of numbers."""

    axes: Literal["camera", "first", "world"] = Field(
        "first",
        description="Whose axes the numbers are in. camera: those of each view's own. first: those of the first view's in the "
        "same frame (of which views, `data.first_view` says). world: the world's. But for camera, a token says where each "
        "view's camera is.",
    )
    frequencies: int = Field(
        16, ge=2, le=1024, multiple_of=2, description="Sinusoidal features of each number before the first layer."
    )
    width: Width = Field(128, description="Channels of the encoder, divisible by `heads`.")
    layers: int = Field(
        2, ge=0, le=64, description="Layers of attention among a frame's tokens. 0: each token by itself."
    )
    heads: Heads = Field(4, description="Attention heads of the encoder.")
    scale: Metres = Field(4.0, description="Metres; the camera's translation is divided by it.")

    @model_validator(mode="after")
    def _divides(self) -> "TokensConfig":
        if self.width % self.heads:
            raise ValueError(f"width {self.width} is not divisible by heads={self.heads}")
        return self


@dataclass(frozen=True, kw_only=True)
class TokenGroup:
    """Tokens of one kind. count: how many a frame has. numbers: of each. periods: shortest and longest, in the numbers' unit."""

    count: int
    numbers: int
    periods: tuple[float, float]


class TokenEncoder(nn.Module):
    """Numbers of the tokens of each kind, kind -> (..., L, K), as tokens (..., sum of L, out), kinds in their order.

    Every number sinusoidal, a linear layer for each kind, an embedding for each token (its numbers do not say which joint they
    are of), layers of attention among them, a norm and a linear layer.
    """

    def __init__(self, groups: Mapping[str, TokenGroup], config: TokensConfig, out: int) -> None:
        super().__init__()
        self.groups, self.frequencies = dict(groups), config.frequencies
        width = config.width
        self.first = nn.ModuleDict(
            {name: nn.Linear(group.numbers * config.frequencies, width) for name, group in groups.items()}
        )
        self.which = nn.ParameterDict(
            {name: nn.Parameter(torch.randn(group.count, width)) for name, group in groups.items()}
        )
        self.layers = nn.ModuleList(_Layer(width, config.heads) for _ in range(config.layers))
        self.norm = nn.LayerNorm(width)
        self.out = nn.Linear(width, out)

    def forward(self, numbers: Mapping[str, Tensor]) -> Tensor:
        tokens = torch.cat([self._embedded(name, numbers[name]) for name in self.groups], dim=-2)
        mixed = tokens.flatten(0, -3)
        for layer in self.layers:
            mixed = layer(mixed)
        return self.out(self.norm(mixed)).reshape(*tokens.shape[:-1], -1)

    def _embedded(self, name: str, numbers: Tensor) -> Tensor:
        features = sinusoidal_embedding(numbers, self.frequencies, *self.groups[name].periods).flatten(-2)
        which = self.which[name]
        return self.first[name](features.to(which.dtype)) + which


class _Layer(nn.Module):
    """Attention among tokens (N, L, D), then a network for each; it starts as the identity."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.attention = GroupAttention(width, heads)
        self.network = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, 4 * width), nn.GELU(), zero_module(nn.Linear(4 * width, width))
        )

    def forward(self, tokens: Tensor) -> Tensor:
        tokens = self.attention(tokens)
        return tokens + self.network(tokens)


TokensT = TypeVar("TokensT", bound=TokensConfig, default=Any)


class TokenConditioner(Conditioner[TokensT]):
    """Fills ``tokens`` with what a ``TokenEncoder`` makes of the numbers of a latent frame, for every view; nothing is drawn.

    Of the frames that a latent frame joins every token has all numbers, in their order; the camera is that of the last.
    """

    requires: ClassVar[frozenset[str]] = frozenset({"body", "cameras"})

    def __init__(self, config: TokensT, context: ConditionerContext) -> None:
        super().__init__(config, context)
        groups = dict(self.groups(config, self.temporal_stride))
        if config.axes != "camera":
            groups["camera"] = TokenGroup(count=1, numbers=12, periods=UNIT)
        self.encoder = TokenEncoder(groups, config, context.ports.token_width)

    @classmethod
    def spec(cls, config: TokensT, ports: Ports) -> ConditioningSpec:
        if ports.token_width == 0:
            name = cls.__module__.rpartition(".")[2]
            raise HvgError(
                f"{name} fills the port 'tokens', but this backbone has no cross-attention; give it some, as by "
                "backbone.cross_attention_width=64"
            )
        return ConditioningSpec(tokens=ports.token_width)

    @classmethod
    def once_per(cls, config: TokensT, first_view: Within = "grid") -> OncePer:
        return "cell" if first_view == "grid" or config.axes != "first" else "window"

    @classmethod
    @abstractmethod
    def groups(cls, config: TokensT, stride: int) -> Mapping[str, TokenGroup]:
        """Kinds of tokens besides the camera's, for latent frames of ``stride`` frames."""

    @abstractmethod
    def numbers(self, batch: ClipBatch, axes: Tensor) -> Mapping[str, Tensor]:
        """Kind -> numbers (B, V or 1, t, L, K). axes: (B, V or 1, T, 4, 4), from the world to those that they are in."""

    def forward(self, signal: Tensor | None, batch: ClipBatch) -> Conditioning:
        # Metres times a rotation in bfloat16 would be off by a centimetre.
        with torch.autocast(batch.cameras.world_to_camera.device.type, enabled=False):
            axes = self._axes(batch)
            numbers = dict(self.numbers(batch, axes))
            if self.config.axes != "camera":
                numbers["camera"] = self._cameras(batch, axes)
            numbers = {name: x.expand(-1, batch.grid[1], -1, -1, -1) for name, x in numbers.items()}
        return Conditioning(tokens=self.encoder(numbers))

    def joined(self, numbers: Tensor) -> Tensor:
        """Numbers (B, V, s t, L, K) of frames as those of latent frames, (B, V, t, L, s K)."""
        return numbers.unflatten(2, (-1, self.temporal_stride)).transpose(3, 4).flatten(-2)

    def last(self, numbers: Tensor) -> Tensor:
        """Of (B, V, s t, ...) those of the last frame of each latent frame."""
        return numbers[:, :, self.temporal_stride - 1 :: self.temporal_stride]

    def _axes(self, batch: ClipBatch) -> Tensor:
        cameras = batch.cameras
        if self.config.axes == "camera":
            return cameras.world_to_camera
        if self.config.axes == "first":
            return cameras.world_to_camera[:, :1] if batch.origin is None else batch.origin.world_to_camera
        clips, _, frames = batch.grid
        return torch.eye(4, device=cameras.intrinsics.device).to(cameras.intrinsics).expand(clips, 1, frames, 4, 4)

    def _cameras(self, batch: ClipBatch, axes: Tensor) -> Tensor:
        """Rotation and translation (B, V, t, 1, 12) from the axes to each view's camera; translations over ``scale``."""
        cameras = self.last(batch.cameras.world_to_camera)
        return camera_numbers(cameras, self.last(axes), self.config.scale)[..., None, :]


def moved_points(points: Tensor, axes: Tensor) -> Tensor:
    """Points of the world (B, T, L, 3) in the axes (B, V, T, 4, 4): (B, V, T, L, 3)."""
    return points[:, None] @ axes[..., :3, :3].mT + axes[..., None, :3, 3]
