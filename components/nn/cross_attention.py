"""Attention between two feature maps of the same image, or within one, in encoders of maps; and its setting."""

from pydantic import Field
from torch import Tensor, nn

from hvg.core.bounds import Heads
from hvg.core.errors import HvgError
from hvg.parts.guider import GuiderConfig

from .spatio_temporal import attend

# Channels of a head that the default number of heads aims at; SVD's own heads have as many.
HEAD_WIDTH = 64


class AttendingConfig(GuiderConfig):
    """Settings of an encoder that is made of guiders and attention."""

    heads: Heads | None = Field(
        None, description="Heads of the attention; divides the last width. null: heads about 64 channels wide."
    )


def num_heads(heads: int | None, width: int) -> int:
    """The configured number of heads; else the one that makes heads most nearly ``HEAD_WIDTH`` channels wide.

    Raises: HvgError where ``heads`` does not divide ``width``.
    """
    if heads is None:
        return min((n for n in range(1, width + 1) if width % n == 0), key=lambda n: abs(width / n - HEAD_WIDTH))
    if width % heads:
        raise HvgError(f"heads={heads} does not divide the {width} channels of the guider's last stage")
    return heads


class MapCrossAttention(nn.Module):
    """Every cell of one feature map looks at all cells of another: (N, D, h, w) twice -> (N, D, h, w).

    query + out(attention(norm(query), norm(context))), multi-head. Cells carry no position: which of them belong
    together is found by their features alone. Given one map twice it is self-attention.
    """

    def __init__(self, width: int, num_heads: int) -> None:
        super().__init__()
        if width % num_heads:
            raise ValueError(f"width {width} is not divisible by {num_heads} heads")
        self.num_heads = num_heads
        self.query_norm = nn.LayerNorm(width)
        self.context_norm = nn.LayerNorm(width)
        self.query = nn.Linear(width, width, bias=False)
        self.key_value = nn.Linear(width, 2 * width, bias=False)
        self.out = nn.Linear(width, width)

    def forward(self, query: Tensor, context: Tensor) -> Tensor:
        """query and context: (N, D, h, w)."""
        keys, values = self.key_value(self.context_norm(_cells(context))).chunk(2, dim=-1)
        seen = attend(self.query(self.query_norm(_cells(query))), keys, values, self.num_heads)
        return query + self.out(seen).mT.unflatten(-1, query.shape[-2:])


def _cells(features: Tensor) -> Tensor:
    """(N, D, h, w) -> (N, h w, D)."""
    return features.flatten(2).mT
