"""Attention among groups of tokens: shared by the view attentions and the backbones."""

# Of some methods of tensors the library does not say what they give.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
from collections.abc import Callable
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

# Which way of attending is quickest, by the number of keys: measured forward and backward on a core, at 8 x 8 to 32 x 32
# groups of 64 channels and 2 heads. Multiply and sum up to the first number, which is of a CPU alone, matrix products up to the
# second, then the fused kernel, which is slower on few tokens but does not keep the scores.
MULTIPLY_AND_SUM_UP_TO = 3
# One key more as long as all products of query and key elements fit into a core's cache.
FEW_PRODUCTS = 1 << 18
MATRIX_PRODUCTS_UP_TO = 64
# The same of a GPU, whose fused kernels work on tiles of 64 tokens and more; not measured, `hvg bench gpu` compares both ways.
GPU_MATRIX_PRODUCTS_UP_TO = 16
# A GPU starts a block of threads for every group, and no more in a row: its fused kernel ends in an error above that.
MOST_GROUPS = 65_535
# Smaller matrices than this are not worth a product: groups are put together, and a mask keeps them apart. With 4 to 7
# tokens to a group that took up to a third off the forward pass, and up to half off both passes.
TOKENS_TO_A_MATRIX = 8


def multiply_and_sum(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Softmax attention without moving an axis, for very few tokens; query (N, S, ..., d), key and value (N, K, ..., d)."""
    scores = (query[:, :, None] * key[:, None]).sum(-1) * query.shape[-1] ** -0.5
    return (functional.softmax(scores, dim=2)[..., None] * value[:, None]).sum(2)


def matrix_products(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Softmax attention with all groups and heads as one batch of matrices; shapes as above."""
    query, key, value = (x.movedim(1, -2) for x in (query * query.shape[-1] ** -0.5, key, value))  # N ... S d
    size, together = key.shape[-2], -(-TOKENS_TO_A_MATRIX // key.shape[-2])
    if query.shape[-2] != size or query.shape[:-2].numel() % together:
        together = 1
    q, k, v = (x.reshape(-1, together * x.shape[-2], x.shape[-1]) for x in (query, key, value))
    if together == 1:
        scores = torch.bmm(q, k.mT)
    else:
        group = torch.arange(together * size, device=q.device) // size
        apart = q.new_zeros(()).masked_fill(group[:, None] != group, float("-inf"))
        scores = torch.baddbmm(apart.expand(len(q), -1, -1), q, k.mT)
    return torch.bmm(functional.softmax(scores, dim=-1), v).view(query.shape).movedim(-2, 1)


def fused_kernel(query: Tensor, key: Tensor, value: Tensor, seen: Tensor | None = None) -> Tensor:
    """Softmax attention for many tokens; shapes as above. seen: (N, K) bool, the keys that count; None: all.

    Fused kernels take four axes: of more the library would write the scores out.
    """
    query, key, value = (x.movedim(1, -2) for x in (query, key, value))  # N ... heads S d
    q, k, v = (x.reshape(-1, *x.shape[-3:]) for x in (query, key, value))
    mask = None if seen is None else seen.repeat_interleave(len(q) // len(seen), dim=0)[:, None, None]
    return _in_pieces(q, k, v, mask).view(query.shape).movedim(-2, 1)


def _in_pieces(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
    """Softmax attention (N, heads, S, d), as many groups at once as a GPU takes. mask: None, or bool (N, 1, 1, K)."""
    if len(query) <= MOST_GROUPS:
        return functional.scaled_dot_product_attention(query, key, value, attn_mask=mask)
    pieces = [x.split(MOST_GROUPS) for x in (query, key, value)]
    masks = [None] * len(pieces[0]) if mask is None else mask.split(MOST_GROUPS)
    return torch.cat([_in_pieces(*piece) for piece in zip(*pieces, masks, strict=True)])


def attend(query: Tensor, key: Tensor, value: Tensor, seen: Tensor | None = None) -> Tensor:
    """Softmax attention over axis 1 of (N, S, ..., heads, d); every other leading axis is a batch axis.

    seen: (N, K) bool, the keys that count, at least one of each N; None: all.
    """
    if seen is not None:
        return fused_kernel(query, key, value, seen)
    num_keys, most = key.shape[1], GPU_MATRIX_PRODUCTS_UP_TO
    if query.device.type == "cpu":
        most, few = MATRIX_PRODUCTS_UP_TO, query.numel() * num_keys <= FEW_PRODUCTS
        if num_keys <= MULTIPLY_AND_SUM_UP_TO + few:
            return multiply_and_sum(query, key, value)
    return (matrix_products if num_keys <= most else fused_kernel)(query, key, value)


class AttentionLayers(nn.Module):
    """Norm, projections to heads and back, and a residual; the output projection starts at zero."""

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
        # Only a copy of another attention may have norms of queries and keys, and has a gate.
        self.query_norm: nn.Module | None = None
        self.key_norm: nn.Module | None = None
        self.gate: nn.Parameter | None = None

    @torch.no_grad()
    def copy(self, norm: Any, attention: Any) -> None:
        """Becomes a copy of another attention with as many heads, weights included, behind a gate per channel that is 0.

        norm: a layer norm before it, with or without weights. attention: layers named as diffusers names them, ``to_q``,
        ``to_k``, ``to_v``, ``to_out.0``, and where it has them ``norm_q`` and ``norm_k``, over all heads or over each. What
        positions and noise levels do to it in its own place, the copy does without.
        """
        self.norm.eps = norm.eps
        if norm.weight is not None:
            self.norm.load_state_dict(norm.state_dict())
        projections = attention.to_q, attention.to_k, attention.to_v
        self.query_key_value = deepcopy(attention.to_q)
        self.query_key_value.out_features = 3 * attention.to_q.out_features
        for name, parameter in attention.to_q.named_parameters():
            joined = torch.cat([projection.get_parameter(name) for projection in projections])
            self.query_key_value.register_parameter(name, nn.Parameter(joined.to(parameter.dtype)))
        self.out = deepcopy(attention.to_out[0])
        self.query_norm, self.key_norm = (deepcopy(getattr(attention, name, None)) for name in ("norm_q", "norm_k"))
        self.gate = nn.Parameter(torch.zeros_like(self.norm.weight))

    def split_heads(self, query_key_value: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(..., 3 D) -> query, key and value, each (..., heads, d)."""
        query, key, value = torch.unbind(query_key_value.unflatten(-1, (3, self.num_heads, -1)), -3)
        return _normed(self.query_norm, query), _normed(self.key_norm, key), value

    def put_out(self, mixed: Tensor) -> Tensor:
        """What the mixed values (..., D) add to their tokens."""
        out = self.out(mixed)
        return out if self.gate is None else out * self.gate.to(out.dtype)


def _normed(norm: Any, x: Tensor) -> Tensor:
    """Queries or keys (..., heads, d) by a norm over all heads, over each, or by none."""
    if norm is None:
        return x
    return norm(x) if norm.normalized_shape[-1] == x.shape[-1] else norm(x.flatten(-2)).unflatten(-1, x.shape[-2:])


class GroupAttention(AttentionLayers):
    """Multi-head self-attention over axis 1, with a norm and a residual; the output projection starts at zero."""

    def forward(self, x: Tensor) -> Tensor:
        """(N, S, ..., D) -> same; tokens along axis 1 see each other."""
        return x + self.put_out(self.mix(self.query_key_value(self.norm(x))))

    def mix(self, query_key_value: Tensor) -> Tensor:
        """(N, S, ..., 3 D) -> (N, S, ..., D): what lies between the projections."""
        return attend(*self.split_heads(query_key_value)).flatten(-2)


# For view v of the window: the views that its tokens may look into, (B, K) int64, and which of their K h w tokens each of its
# h w tokens sees, bool that broadcasts to (B, t, h w, K h w); every token sees at least one.
Seen = Callable[[int], tuple[Tensor, Tensor]]


class ViewMaskAttention(AttentionLayers):
    """The same over tokens that see some of the others by a mask, one view after the other, so that one mask is held."""

    def forward(self, x: Tensor, seen: Seen) -> Tensor:
        """(B, V, t, h, w, D) -> same; tokens of a latent frame see what ``seen`` says of their view."""
        query, key, value = (y.flatten(3, 4) for y in self.split_heads(self.query_key_value(self.norm(x))))
        clips = torch.arange(len(x), device=x.device)[:, None]
        mixed = []
        for view in range(x.shape[1]):
            views, mask = seen(view)
            # B K t S heads d -> B t (K S) heads d
            keys, values = (y[clips, views].transpose(1, 2).flatten(2, 3) for y in (key, value))
            mixed.append(_attend_seen(query[:, view], keys, values, mask))
        return x + self.put_out(torch.stack(mixed, dim=1).flatten(-2).view(x.shape))


def _attend_seen(query: Tensor, key: Tensor, value: Tensor, mask: Tensor) -> Tensor:
    """Softmax attention (B, t, S, heads, d) over keys (B, t, K, heads, d) where ``mask`` broadcasts to (B, t, S, K)."""
    b, t = query.shape[:2]
    mask = mask.expand(b, t, -1, -1).flatten(0, 1)[:, None]
    query, key, value = (x.flatten(0, 1).transpose(1, 2) for x in (query, key, value))
    mixed = functional.scaled_dot_product_attention(query, key, value, attn_mask=mask)
    return mixed.transpose(1, 2).unflatten(0, (b, t))


def group_attention_flops(num_tokens: int, group_size: int, width: int) -> int:
    """Forward FLOPs of attention of ``num_tokens`` over ``group_size`` keys each: four projections, two products."""
    return 2 * num_tokens * width * (4 * width + 2 * group_size)
