"""Attention over views at the same place of the picture, for views in which the people are aligned.

Source: HVG shifts the projected pelvis of every view to one position and then uses "2D, not 3D" attention over views.
The paper leaves the grouping open, so it is a choice here: ``pixel`` is the natural reading (as in SV4D,
arXiv 2407.17470), ``row`` also sees its own image row, where epipolar lines of level cameras lie.
"""

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from hvg.parts.attention import GroupAttention, group_attention_flops
from hvg.parts.view_attention import ViewAttention, ViewAttentionConfig
from hvg.values.grid import ViewGrid


class Aligned2dConfig(ViewAttentionConfig):
    """Settings of attention among the same cells, or rows, of all views."""

    group: Literal["pixel", "row"] = Field(
        "pixel", description="pixel: the same latent cell in all V views; row: the same latent row, V x w cells."
    )


class Aligned2dViewAttention(ViewAttention[Aligned2dConfig]):
    """Tokens at one cell (or row) of one latent frame see each other across views."""

    def __init__(self, config: Aligned2dConfig, width: int, num_heads: int) -> None:
        super().__init__(config, width, num_heads)
        self.attention = GroupAttention(width, num_heads)

    def forward(self, x: Tensor, grid: ViewGrid) -> Tensor:
        if self.config.group == "pixel":
            return self.attention(x)
        v, w = x.shape[1], x.shape[4]
        rows = x.permute(0, 1, 4, 2, 3, 5).flatten(1, 2)  # B (V w) t h D
        return self.attention(rows).unflatten(1, (v, w)).permute(0, 1, 3, 4, 2, 5)

    @classmethod
    def token_groups(cls, config: Aligned2dConfig, views: int, height: int, width: int) -> Tensor:
        if config.group == "pixel":
            return torch.arange(height * width).view(1, height, width).expand(views, -1, -1)
        return torch.arange(height).view(1, height, 1).expand(views, -1, width)

    @classmethod
    def flops(cls, config: Aligned2dConfig, views: int, height: int, width: int, channels: int) -> int:
        group_size = views if config.group == "pixel" else views * width
        return group_attention_flops(views * height * width, group_size, channels)
