"""The motion of a driving video as a few tokens a frame, with no pose in between.

Source: 3DiMo (arXiv 2602.03796), as far as it says.
"""

from collections.abc import Sequence
from typing import Literal

from pydantic import Field, model_validator
from torch import Tensor, cat, is_grad_enabled, nn

from hvg.core.bounds import Depth, Heads, Width
from hvg.core.errors import HvgError
from hvg.core.required import required
from hvg.parts.auxiliary import AuxiliaryConditioner, AuxiliaryConfig
from hvg.parts.context import ConditionerContext
from hvg.parts.model import OncePer
from hvg.values.clip import ClipBatch, Within
from hvg.values.conditioning import Conditioning, ConditioningSpec, Ports

from ..nn.body_frame import NUMBERS, pose_numbers
from ..nn.frame_tokens import FrameTokens

# A pose' numbers are divided by how far they spread, about: joints from the pelvis, metres; entries of a rotation.
SCALES = {"joints": 0.25, "rotations": 0.5}


class MotionTokensConfig(AuxiliaryConfig):
    """Settings of the encoders, of what becomes of their tokens, and of the loss that they learn by besides."""

    looks_at: Literal["video", "face"] = Field(
        "video",
        description="video: the encoder looks at whole frames of the driving video. face: at pictures of the face in it, which "
        "the data set has to give.",
    )
    tokens: int = Field(5, ge=1, le=1024, description="Tokens of a frame of what is looked at.")
    width: Width = Field(128, description="Channels of the encoders, divisible by `heads`.")
    depth: Depth = Field(4, description="Layers of the encoder of the body.")
    heads: Heads = Field(4, description="Attention heads of the encoders.")
    size: int = Field(64, ge=8, le=2048, description="Side of the square that what is looked at is brought to, pixels.")
    patch: int = Field(8, ge=1, le=256, description="Side of a patch, pixels; it divides `size`.")
    hands: Literal["none", "crops"] = Field(
        "none",
        description="crops: an encoder of their own looks at pictures of the two hands, which the data set has to give; its "
        "tokens stand behind the body's.",
    )
    hand_tokens: int = Field(5, ge=1, le=1024, description="Tokens of each hand in a frame.")
    hand_depth: Depth = Field(2, description="Layers of the encoder of hands.")
    hand_size: int = Field(
        32, ge=8, le=2048, description="Side that pictures of hands are brought to, pixels; `patch` divides it."
    )
    inject: Literal["tokens", "channels"] = Field(
        "tokens",
        description="tokens: seen by cross-attention. channels: numbers made of a frame's tokens, beside the noise, the same in "
        "every cell.",
    )
    channels: Width = Field(16, description="How many numbers, with inject=channels.")
    auxiliary: Literal["none", "joints", "rotations"] = Field(
        "joints",
        description="What a small network has to tell of the pose by the tokens, for a loss: where joints are in the body's own "
        "axes, or how they are turned from the pelvis on.",
    )

    @model_validator(mode="after")
    def _divides(self) -> "MotionTokensConfig":
        if self.width % self.heads:
            raise ValueError(f"width {self.width} is not divisible by heads={self.heads}")
        for name in ("size", "hand_size"):
            if getattr(self, name) % self.patch:
                raise ValueError(f"{name} {getattr(self, name)} is not divisible by patch={self.patch}")
        return self

    def count(self) -> int:
        """Tokens of a frame, those of hands included."""
        return self.tokens + 2 * self.hand_tokens * (self.hands == "crops")


class MotionTokens(AuxiliaryConditioner[MotionTokensConfig]):
    """Fills ``tokens`` (or ``channels``) with what the frames of the driving video say of the motion, for every view.

    A latent frame has the tokens of the frames that it joins, and its cells see those alone.
    Differs from 3DiMo where it says nothing: width and depth, sizes of pictures, the loss' joints in the body's axes (its own are
    parameters of SMPL and MANO); ``auxiliary=rotations`` are those of SMPL's body, the hands' wrists included, not fingers.
    """

    def __init__(self, config: MotionTokensConfig, context: ConditionerContext) -> None:
        super().__init__(config, context)
        self.stride = context.ports.latent_stride
        shared = {"patch": config.patch, "width": config.width, "heads": config.heads}
        self.body = FrameTokens(size=config.size, depth=config.depth, tokens=config.tokens, **shared)
        if config.hands == "crops":
            own = {"size": config.hand_size, "depth": config.hand_depth, "tokens": config.hand_tokens}
            self.hands = FrameTokens(**own, **shared)
            self.sides = nn.Parameter(self.hands.latents.new_zeros(2, 1, config.width))
        flat = config.count() * config.width
        if config.inject == "tokens":
            self.projection = nn.Linear(config.width, context.ports.token_width)
        else:
            self.projection = nn.Linear(self.temporal_stride * flat, config.channels)
        if config.auxiliary != "none":
            numbers = NUMBERS[config.auxiliary]
            self.pose = nn.Sequential(
                nn.Linear(flat, 2 * config.width), nn.SiLU(), nn.Linear(2 * config.width, numbers)
            )

    @classmethod
    def needs(cls, config: MotionTokensConfig) -> frozenset[str]:
        looked_at = "driving" if config.looks_at == "video" else "driving_face"
        return frozenset({looked_at, *(["driving_hands"] if config.hands == "crops" else [])})

    @classmethod
    def loss_needs(cls, config: MotionTokensConfig) -> frozenset[str]:
        return frozenset() if config.auxiliary == "none" else frozenset({"body"})

    @classmethod
    def once_per(cls, config: MotionTokensConfig, first_view: Within = "grid") -> OncePer:
        return "cell"

    @classmethod
    def spec(cls, config: MotionTokensConfig, ports: Ports) -> ConditioningSpec:
        if config.inject == "channels":
            return ConditioningSpec(channels=config.channels)
        if ports.token_width == 0:
            raise HvgError(
                "motion_tokens fills the port 'tokens', but this backbone has no cross-attention; give it some, as by "
                "backbone.cross_attention_width=64, or say inject=channels"
            )
        return ConditioningSpec(tokens=ports.token_width)

    @classmethod
    def notes(cls, config: MotionTokensConfig, provided: frozenset[str]) -> Sequence[str]:
        unseen = config.hands == "none" and "driving_hands" in provided
        return ["the data set's pictures of hands are not looked at; hands=crops does"] if unseen else []

    def forward(self, signal: Tensor | None, batch: ClipBatch) -> Conditioning:
        tokens = self.tokens_of(batch)
        losses = self.pose_losses(tokens, batch)
        joined = tokens.unflatten(1, (-1, self.temporal_stride)).flatten(2, 3)[:, None]
        if self.config.inject == "tokens":
            return Conditioning(tokens=self.projection(joined), losses=losses)
        cells = [side // self.stride for side in batch.cameras.image_size]
        numbers = self.projection(joined.flatten(-2))[..., None, None]
        views = batch.grid[1]
        return Conditioning(channels=numbers.expand(-1, views, -1, -1, *cells), losses=losses)

    def tokens_of(self, batch: ClipBatch) -> Tensor:
        """Tokens (B, T, L, D) of all frames of the driving video: the body's or the face's, the left hand's, the right hand's."""
        if self.config.looks_at == "video":
            frames = required(batch.driving, "ClipBatch.driving")
        else:
            frames = required(batch.driving_face, "ClipBatch.driving_face")[:, :, 0]
        body = self.body(frames.flatten(0, 1)).unflatten(0, frames.shape[:2])
        if self.config.hands == "none":
            return body
        crops = required(batch.driving_hands, "ClipBatch.driving_hands")
        hands = self.hands(crops.flatten(0, 2)).unflatten(0, crops.shape[:3]) + self.sides
        return cat([body, hands.flatten(2, 3)], dim=2)

    def pose_losses(self, tokens: Tensor, batch: ClipBatch) -> dict[str, Tensor]:
        """By the name of what is told, (B): mean squared error of the pose as tokens (B, T, L, D) tell it, in training."""
        told = self.config.auxiliary
        if told == "none" or batch.body is None or not is_grad_enabled():
            return {}
        found = self.pose(tokens.flatten(-2)).float()
        error = found - pose_numbers(batch.body, told) / SCALES[told]
        return {told: error.square().flatten(1).mean(dim=1)}
