"""Attention of every view to the views that stand at fixed angles from it.

Source: MagicMan (arXiv 2408.14211): a view looks at all pixels of a few views at chosen angles, beside attention at one pixel
over all views (``aligned_2d``). Its code picks them from 20 views on an even circle, by places; here the angle decides, so that
any cameras will do.
"""

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from hvg.parts.attention import ViewMaskAttention, group_attention_flops
from hvg.parts.view_attention import ViewAttention, ViewAttentionConfig
from hvg.values.cameras import azimuths_degrees
from hvg.values.grid import ViewGrid


class SelectedViewsConfig(ViewAttentionConfig):
    """Settings of which views a view sees."""

    offsets_degrees: tuple[Annotated[float, Field(ge=-180, le=180)], ...] = Field(
        (-90.0, 90.0, 180.0),
        min_length=1,
        max_length=1024,
        description="Angles around the vertical, counted as the cameras' azimuths are, at which the views stand that a view sees "
        "besides itself: for each the nearest one, of those that are denoised together.",
    )
    tolerance_degrees: float = Field(
        30.0,
        ge=0,
        le=180,
        description="How far from its angle a view may stand; where none is near enough, none is seen for it.",
    )


class SelectedViewsViewAttention(ViewAttention[SelectedViewsConfig]):
    """All tokens of a latent frame in the view itself and in the selected ones; who is seen need not see."""

    def __init__(self, config: SelectedViewsConfig, width: int, num_heads: int) -> None:
        super().__init__(config, width, num_heads)
        self.attention = ViewMaskAttention(width, num_heads)

    def forward(self, x: Tensor, grid: ViewGrid) -> Tensor:
        cells = x.shape[3] * x.shape[4]
        views, seen = _selected(self.config, grid)
        mask = seen.repeat_interleave(cells, dim=-1)
        return self.attention(x, lambda view: (views[:, view], mask[:, view, None, None]))

    @classmethod
    def sees(cls, config: SelectedViewsConfig, grid: ViewGrid) -> Tensor:
        (clips, count, frames), (height, width) = grid.cameras.shape, grid.cameras.image_size
        views, seen = _selected(config, grid)
        pairs = torch.zeros(clips, count, count, dtype=torch.bool, device=views.device).scatter(-1, views, seen)
        pairs = pairs.repeat_interleave(height * width, dim=1).repeat_interleave(height * width, dim=2)
        return pairs[:, None].expand(-1, frames, -1, -1)

    @classmethod
    def flops(cls, config: SelectedViewsConfig, views: int, height: int, width: int, channels: int) -> int:
        cells = height * width
        return group_attention_flops(views * cells, min(views, 1 + len(config.offsets_degrees)) * cells, channels)


def _selected(config: SelectedViewsConfig, grid: ViewGrid) -> tuple[Tensor, Tensor]:
    """For each view the views (B, V, K) that it may look into, itself first, each once, and which of them it does see, bool."""
    azimuths = azimuths_degrees(grid.cameras[:, :, 0]).float()  # B V
    count = azimuths.shape[1]
    turns = azimuths[:, None] - azimuths[:, :, None]  # from a view (rows) to another one
    wanted = torch.stack([torch.zeros_like(turns[..., 0]) + angle for angle in config.offsets_degrees], dim=-1)
    apart = _degrees_apart(turns[..., None, :], wanted[..., None])  # B V offsets V
    near, nearest = apart.min(dim=-1)
    each = torch.arange(count, device=turns.device)
    picked = ((nearest[..., None] == each) & (near <= config.tolerance_degrees)[..., None]).any(dim=-2)
    rank = picked.long() + 2 * (each[:, None] == each)
    most = min(count, 1 + len(config.offsets_degrees))
    views = rank.argsort(dim=-1, descending=True, stable=True)[..., :most]
    return views, rank.gather(-1, views) > 0


def _degrees_apart(a: Tensor, b: Tensor) -> Tensor:
    """How far two angles are from each other, 0 to 180."""
    return (torch.remainder(a - b + 180, 360) - 180).abs()
