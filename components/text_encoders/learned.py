"""A small encoder of text that is trained with the model: it reads bytes, so that it needs neither files nor words."""

from collections.abc import Sequence

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from hvg.core.bounds import Depth, Heads, Width
from hvg.parts.attention import GroupAttention
from hvg.parts.context import ConditionerContext
from hvg.parts.part import PartConfig
from hvg.parts.text_encoder import TextEncoder
from hvg.parts.zero import zero_module

# Of a byte's 256 values UTF-8 never has 255: it stands beyond a text's end.
_NOTHING = 255


class LearnedConfig(PartConfig):
    """Size of the network."""

    max_tokens: int = Field(48, ge=1, le=4096, description="Tokens of every text; zeros beyond its end.")
    bytes_per_token: int = Field(
        4, ge=1, le=64, description="Bytes of the text's UTF-8 that a token begins with; it sees twice as many."
    )
    width: Width = Field(64, description="Channels.")
    heads: Heads = Field(2, description="Attention heads.")
    layers: Depth = Field(2, description="Layers in which tokens see each other.")

    @model_validator(mode="after")
    def _divides(self) -> "LearnedConfig":
        if self.width % self.heads:
            raise ValueError(f"width {self.width} is not divisible by {self.heads} heads")
        return self


class Learned(TextEncoder[LearnedConfig], nn.Module):
    """Bytes, joined by a strided convolution; places; a few layers of attention and two-layer networks; the port's width.

    Zeros beyond the text's end, and for "". Bytes rather than words, as in ByT5 (arXiv 2105.13626): any language, no vocabulary.
    """

    learns = True

    def __init__(self, config: LearnedConfig, context: ConditionerContext, path: str | None = None) -> None:
        super().__init__(config, context, path)
        self.max_tokens, self.width = config.max_tokens, context.ports.text_width
        step, width = config.bytes_per_token, config.width
        self.byte = nn.Embedding(256, width)
        self.join = nn.Conv1d(width, width, 2 * step, stride=step)
        self.place = nn.Embedding(config.max_tokens, width)
        self.attention = nn.ModuleList(GroupAttention(width, config.heads) for _ in range(config.layers))
        self.network = nn.ModuleList(_two_layers(width) for _ in range(config.layers))
        self.out = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, self.width))

    def count(self, text: str) -> int:
        return -(-len(text.encode()) // self.config.bytes_per_token)

    def encode(self, texts: Sequence[str], device: torch.device | None = None) -> Tensor:
        """Tokens (N, L, D), where and in what its weights are."""
        place = self.place.weight.device
        step, length = self.config.bytes_per_token, self.max_tokens
        # The last token sees beyond the last byte.
        rows = [[*text.encode()[: length * step]] for text in texts]
        read = torch.tensor([row + [_NOTHING] * ((length + 1) * step - len(row)) for row in rows], device=place)
        x = self.join(self.byte(read).mT).mT + self.place(torch.arange(length, device=place))
        for attention, network in zip(self.attention, self.network, strict=True):
            x = attention(x)
            x = x + network(x)
        said = read[:, : length * step].unflatten(1, (length, step)).ne(_NOTHING).any(dim=-1)
        return self.out(x) * said[..., None]


def _two_layers(width: int) -> nn.Sequential:
    return nn.Sequential(
        nn.LayerNorm(width), nn.Linear(width, 4 * width), nn.GELU(), zero_module(nn.Linear(4 * width, width))
    )
