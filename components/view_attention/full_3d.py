"""Attention of every token of a latent frame to every token of all views: needs no alignment, costs (V h w)^2.

Source: the "3D" attention of multi-view diffusion (MVDream, arXiv 2308.16512), which HVG argues against.
"""

import torch
from torch import Tensor

from hvg.parts.attention import GroupAttention, group_attention_flops
from hvg.parts.view_attention import ViewAttention, ViewAttentionConfig
from hvg.values.grid import ViewGrid


class Full3dViewAttention(ViewAttention[ViewAttentionConfig]):
    """All V x h x w tokens of one latent frame see each other."""

    def __init__(self, config: ViewAttentionConfig, width: int, num_heads: int) -> None:
        super().__init__(config, width, num_heads)
        self.attention = GroupAttention(width, num_heads)

    def forward(self, x: Tensor, grid: ViewGrid) -> Tensor:
        space = (x.shape[1], x.shape[3], x.shape[4])
        tokens = x.permute(0, 1, 3, 4, 2, 5).flatten(1, 3)  # B (V h w) t D
        return self.attention(tokens).unflatten(1, space).permute(0, 1, 4, 2, 3, 5)

    @classmethod
    def token_groups(cls, config: ViewAttentionConfig, views: int, height: int, width: int) -> Tensor:
        return torch.zeros(views, height, width, dtype=torch.int64)

    @classmethod
    def flops(cls, config: ViewAttentionConfig, views: int, height: int, width: int, channels: int) -> int:
        tokens = views * height * width
        return group_attention_flops(tokens, tokens, channels)
