"""Our forward passes of diffusers' spatio-temporal blocks, over the library's own weights. N = frames of all clips."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional


def library_residual_block(block: Any, x: Tensor, embedding: Tensor, num_frames: int) -> Tensor:
    """diffusers' SpatioTemporalResBlock as the library runs it; x (N, C, h, w), embedding (N, E)."""
    return block(x, embedding, image_only_indicator=x.new_zeros(len(x) // num_frames, num_frames))


def residual_block(block: Any, x: Tensor, embedding: Tensor, num_frames: int) -> Tensor:
    """The same function, quicker: x (N, C, h, w), embedding (N, E).

    3x1x1 convolutions run as 3x1 ones over (t, h w), for which the CPU has a kernel twice as fast. The blend
    alpha x + (1 - alpha) (x + branch(x)) is x + (1 - alpha) branch(x).
    """
    x, temporal = block.spatial_res_block(x, embedding), block.temporal_res_block
    shift = temporal.time_emb_proj(temporal.nonlinearity(embedding)).unflatten(0, (-1, num_frames))
    branch = x.unflatten(0, (-1, num_frames)).transpose(1, 2).flatten(3)  # clips C t (h w)
    branch = _temporal_convolution(temporal.conv1, temporal.nonlinearity(temporal.norm1(branch)))
    branch = branch + shift.transpose(1, 2)[..., None]
    branch = _temporal_convolution(temporal.conv2, temporal.nonlinearity(temporal.norm2(branch)))
    branch = branch.transpose(1, 2).flatten(0, 1).unflatten(2, x.shape[2:])
    return x + torch.sigmoid(-block.time_mixer.mix_factor).to(branch.dtype) * branch


def _temporal_convolution(convolution: nn.Module, x: Tensor) -> Tensor:
    """x (clips, C, t, h w) -> same, but for C."""
    if type(convolution) is not nn.Conv3d:
        # Something was added to it.
        return convolution(x[..., None])[..., 0]
    return functional.conv2d(x, convolution.weight[..., 0], convolution.bias, padding=(1, 0))


def spatial_transformer_block(
    block: Any, x: Tensor, context: Tensor | None, memory: Tensor | None, gate: Tensor | None = None
) -> Tensor:
    """diffusers' BasicTransformerBlock whose self-attention also sees ``memory``.

    x: (N, h w, D). context: (N, L, D'), or None where the block has no cross-attention. memory: (R, M, D), each row for
    N / R frames that follow each other; further keys and values of the one softmax, or, where there is a gate (heads),
    of a second one whose result is added times the gate.
    """
    x = _self_attention(block.attn1, block.norm1(x), memory, gate) + x
    if block.attn2 is not None:
        x = block.attn2(block.norm2(x), encoder_hidden_states=context) + x
    return block.ff(block.norm3(x)) + x


def _self_attention(attention: Any, tokens: Tensor, memory: Tensor | None, gate: Tensor | None) -> Tensor:
    if memory is None:
        return attention(tokens)
    memory = memory.to(tokens.dtype)
    if gate is not None:
        return _gated_self_attention(attention, tokens, memory, gate)
    per_frame = memory[:, None].expand(-1, len(tokens) // len(memory), -1, -1).flatten(0, 1)
    return attention(tokens, encoder_hidden_states=torch.cat([tokens, per_frame], dim=1))


def _gated_self_attention(attention: Any, tokens: Tensor, memory: Tensor, gate: Tensor) -> Tensor:
    """attend(q, k, v) + gate attend(q, k_m, v_m), with the library's own projections; a gate of 0 is the library's result.

    The frames that share a row of memory look at it as one long sequence of queries, so that it is projected once.
    """
    query = attention.to_q(tokens)
    image = attend(query, attention.to_k(tokens), attention.to_v(tokens), attention.heads)
    shared = query.reshape(len(memory), -1, query.shape[-1])
    seen = attend(shared, attention.to_k(memory), attention.to_v(memory), attention.heads).view_as(image)
    gates = gate.to(image.dtype).repeat_interleave(image.shape[-1] // attention.heads)
    linear, dropout = attention.to_out
    return dropout(linear(image + gates * seen))


def attend(query: Tensor, key: Tensor, value: Tensor, num_heads: int) -> Tensor:
    """Softmax attention; query (R, S, D), key and value (R, M, D)."""
    query, key, value = (x.unflatten(-1, (num_heads, -1)).transpose(1, 2) for x in (query, key, value))
    return functional.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2)
