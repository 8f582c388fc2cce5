"""Attention among groups of tokens: shared by the view attentions and the backbones."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

# Explicit attention wins up to this many tokens; beyond it the fused kernel does.
SHORT_SEQUENCE = 8


def short_attention(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Softmax attention among few tokens by multiply and sum; query (N, S, ..., d), key and value (N, K, ..., d).

    On two to eight tokens fused kernels spend their time on set-up and on moving the token axis to where they want it.
    """
    scores = (query[:, :, None] * key[:, None]).sum(-1) * query.shape[-1] ** -0.5
    return (functional.softmax(scores, dim=2)[..., None] * value[:, None]).sum(2)


def attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Softmax attention over axis 1 of (N, S, ..., d); every other leading axis is a batch axis."""
    if key.shape[1] <= SHORT_SEQUENCE:
        return short_attention(query, key, value)
    query, key, value = (x.movedim(1, -2) for x in (query, key, value))
    return functional.scaled_dot_product_attention(query, key, value).movedim(-2, 1)


class GroupAttention(nn.Module):
    """Norm, multi-head self-attention over axis 1 and a residual; the output projection starts at zero."""

    def __init__(self, width: int, num_heads: int) -> None:
        super().__init__()
        if width % num_heads:
            raise ValueError(f"width {width} is not divisible by {num_heads} heads")
        self.num_heads = num_heads
        self.norm = nn.LayerNorm(width)
        self.query_key_value = nn.Linear(width, 3 * width, bias=False)
        self.out = nn.Linear(width, width)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, x: Tensor) -> Tensor:
        """(N, S, ..., D) -> same; tokens along axis 1 see each other."""
        heads = self.query_key_value(self.norm(x)).unflatten(-1, (3, self.num_heads, -1))
        return x + self.out(attend(*heads.unbind(-3)).flatten(-2))


def group_attention_flops(num_tokens: int, group_size: int, width: int) -> int:
    """Forward FLOPs of ``GroupAttention`` over ``num_tokens`` in groups: four projections, two products."""
    return 2 * num_tokens * width * (4 * width + 2 * group_size)
