"""Attention of every token of a latent frame to every token of all views: needs no alignment, costs (V h w)^2.

Source: the "3D" attention of multi-view diffusion (MVDream, arXiv 2308.16512), which HVG argues against; with places, and further
views packed small, 4DAnyone's (arXiv 2608.20335).
"""

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor
from torch.nn.functional import avg_pool2d

from hvg.core.bounds import ViewCount
from hvg.core.errors import HvgError
from hvg.parts.attention import GroupAttention, attend, group_attention_flops
from hvg.parts.view_attention import ViewAttention, ViewAttentionConfig
from hvg.values.grid import ViewGrid

from ..nn.rotary import turn_pairs
from ..nn.wan_attention import Rotation


class Full3dConfig(ViewAttentionConfig):
    """Settings of whether tokens have places, and which views are seen token by token."""

    places: Literal["none", "rotary"] = Field(
        "none",
        description="rotary: queries and keys are turned by the view, the row and the column of their token, as Wan's are by the "
        "frame, the row and the column; the view by its place among all views, of which the last is far from the first. none: a "
        "token sees others by what they hold alone.",
    )
    packed: int = Field(
        1,
        ge=1,
        le=64,
        description="Side of the square of tokens that are seen as one, by the mean of their keys and values, in views that are "
        "not among the `whole_views`; 1: all tokens are seen.",
    )
    whole_views: ViewCount = Field(
        1,
        description="With packed above 1, how many views a view sees token by token: itself, and the nearest by their places "
        "among all views.",
    )


class Full3dViewAttention(ViewAttention[Full3dConfig]):
    """All V x h x w tokens of one latent frame see each other, those of some views in squares.

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
        if self.config.packed > 1:
            return self._packed(x, grid)
        space = (x.shape[1], x.shape[3], x.shape[4])
        tokens = x.permute(0, 1, 3, 4, 2, 5).flatten(1, 3)  # B (V h w) t D
        if self.config.places == "none":
            mixed = self.attention(tokens)
        else:
            query, key, value = self._projected(x, grid)
            told = (y.transpose(2, 3).flatten(1, 2) for y in (query, key, value))  # B (V h w) t heads d
            mixed = tokens + self.attention.put_out(attend(*told).flatten(-2))
        return mixed.unflatten(1, space).permute(0, 1, 4, 2, 3, 5)

    def _packed(self, x: Tensor, grid: ViewGrid) -> Tensor:
        """One view after the other, over the views that it sees whole and squares of the others."""
        query, key, value = self._projected(x, grid)
        small = [_in_squares(y, (x.shape[3], x.shape[4]), self.config.packed) for y in (key, value)]
        # Of two that are as near the one of the lower place, in whatever order they come.
        apart = grid.steps() * grid.num_views[:, None, None] + grid.view_index[:, None]
        nearest, mixed = apart.argsort(dim=-1), []
        for view in range(x.shape[1]):
            near, far = nearest[:, view].tensor_split([self.config.whole_views], dim=1)
            keys, values = (
                torch.cat([_tokens_of(whole, near), _tokens_of(squares, far)], dim=1)
                for whole, squares in zip((key, value), small, strict=True)
            )
            mixed.append(attend(query[:, view].flatten(0, 1), keys, values).unflatten(0, (len(x), -1)))
        return x + self.attention.put_out(torch.stack(mixed, dim=1).flatten(-2).view(x.shape))

    def _projected(self, x: Tensor, grid: ViewGrid) -> tuple[Tensor, Tensor, Tensor]:
        """Query, key and value (B, V, t, h w, heads, d) of tokens (B, V, t, h, w, D), turned to the places that they have."""
        layers = self.attention
        projected = layers.split_heads(layers.query_key_value(layers.norm(x)))
        query, key, value = (y.flatten(3, 4) for y in projected)
        if self.config.places == "none":
            return query, key, value
        rotation = Rotation.at(grid.view_index, (x.shape[3], x.shape[4]), query.shape[-1])
        angles = [y[:, :, None, :, None] for y in (rotation.cosine, rotation.sine)]  # B V 1 (h w) 1 d / 2
        return turn_pairs(query, *angles), turn_pairs(key, *angles), value

    @classmethod
    def token_groups(cls, config: Full3dConfig, views: int, height: int, width: int) -> Tensor:
        return torch.zeros(views, height, width, dtype=torch.int64)

    @classmethod
    def flops(cls, config: Full3dConfig, views: int, height: int, width: int, channels: int) -> int:
        cells = height * width
        whole = views if config.packed == 1 else min(views, config.whole_views)
        squares = -(-height // config.packed) * -(-width // config.packed)
        return group_attention_flops(views * cells, whole * cells + (views - whole) * squares, channels)


def _tokens_of(x: Tensor, views: Tensor) -> Tensor:
    """Of what all views have, (B, V, t, S, heads, d), that of some, (B, K), for each moment: (B t, K S, heads, d)."""
    clips = torch.arange(len(x), device=x.device)[:, None]
    return x[clips, views].transpose(1, 2).flatten(2, 3).flatten(0, 1)


def _in_squares(x: Tensor, cells: tuple[int, int], side: int) -> Tensor:
    """Means (B, V, t, S', heads, d) over squares of tokens (B, V, t, h w, heads, d); those at the border may be smaller."""
    pictures = x.flatten(0, 2).flatten(2).mT.unflatten(2, cells)  # N D h w
    means = avg_pool2d(pictures, side, ceil_mode=True, count_include_pad=False)
    return means.flatten(2).mT.unflatten(-1, x.shape[-2:]).unflatten(0, x.shape[:3])
