"""Attention of every token of a latent frame to every token of all views: needs no alignment, costs (V h w)^2.

Source: the "3D" attention of multi-view diffusion (MVDream, arXiv 2308.16512), which HVG argues against; with places 4DAnyone's
(arXiv 2608.20335).
"""

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from hvg.core.errors import HvgError
from hvg.parts.attention import GroupAttention, attend, group_attention_flops
from hvg.parts.view_attention import ViewAttention, ViewAttentionConfig
from hvg.values.grid import ViewGrid

from ..nn.rotary import turn_pairs
from ..nn.wan_attention import Rotation


class Full3dConfig(ViewAttentionConfig):
    """Setting of whether tokens have places."""

    places: Literal["none", "rotary"] = Field(
        "none",
        description="rotary: queries and keys are turned by the view, the row and the column of their token, as Wan's are by the "
        "frame, the row and the column; the view by its place among all views, of which the last is far from the first. none: a "
        "token sees others by what they hold alone.",
    )


class Full3dViewAttention(ViewAttention[Full3dConfig]):
    """All V x h x w tokens of one latent frame see each other.

    With ``init=copy places=rotary`` it starts, behind its gate, as a video transformer's attention over a video of the views, but
    for what noise levels do to that.
    """

    def __init__(self, config: Full3dConfig, width: int, num_heads: int) -> None:
        super().__init__(config, width, num_heads)
        if config.places == "rotary" and width % (2 * num_heads):
            raise HvgError(
                f"view_attention.places=rotary turns pairs of channels, but {width} are of {num_heads} heads"
            )
        self.attention = GroupAttention(width, num_heads)

    def forward(self, x: Tensor, grid: ViewGrid) -> Tensor:
        space = (x.shape[1], x.shape[3], x.shape[4])
        tokens = x.permute(0, 1, 3, 4, 2, 5).flatten(1, 3)  # B (V h w) t D
        mixed = self.attention(tokens) if self.config.places == "none" else self._placed(tokens, grid, space)
        return mixed.unflatten(1, space).permute(0, 1, 4, 2, 3, 5)

    def _placed(self, tokens: Tensor, grid: ViewGrid, space: tuple[int, int, int]) -> Tensor:
        """Tokens (B, V h w, t, D) after attention among turned ones."""
        layers = self.attention
        query, key, value = layers.split_heads(layers.query_key_value(layers.norm(tokens)))
        rotation = Rotation.at(grid.view_index, space[1:], query.shape[-1])
        angles = [x.flatten(1, 2)[:, :, None, None] for x in (rotation.cosine, rotation.sine)]  # B (V h w) 1 1 d / 2
        mixed = attend(turn_pairs(query, *angles), turn_pairs(key, *angles), value)
        return tokens + layers.put_out(mixed.flatten(-2))

    @classmethod
    def token_groups(cls, config: Full3dConfig, views: int, height: int, width: int) -> Tensor:
        return torch.zeros(views, height, width, dtype=torch.int64)

    @classmethod
    def flops(cls, config: Full3dConfig, views: int, height: int, width: int, channels: int) -> int:
        tokens = views * height * width
        return group_attention_flops(tokens, tokens, channels)
