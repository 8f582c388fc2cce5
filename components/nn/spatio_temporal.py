"""Our forward passes of diffusers' spatio-temporal blocks, over the library's own weights. N = frames of all clips."""

from __future__ import annotations

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


def _temporal_convolution(convolution: nn.Conv3d, x: Tensor) -> Tensor:
    return functional.conv2d(x, convolution.weight[..., 0], convolution.bias, padding=(1, 0))


def spatial_transformer_block(block: Any, x: Tensor, context: Tensor | None, memory: Tensor | None) -> Tensor:
    """diffusers' BasicTransformerBlock, with ``memory`` (N, M, D) as further keys and values of self-attention.

    x: (N, h w, D). context: (N, L, D'), or None where the block has no cross-attention.
    """
    normed = block.norm1(x)
    keys = None if memory is None else torch.cat([normed, memory.to(normed.dtype)], dim=1)
    x = block.attn1(normed, encoder_hidden_states=keys) + x
    if block.attn2 is not None:
        x = block.attn2(block.norm2(x), encoder_hidden_states=context) + x
    return block.ff(block.norm3(x)) + x
