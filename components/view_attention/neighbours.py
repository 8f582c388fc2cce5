"""Attention of every view to itself and to the views next to it on the circle, or line, of all views.

Source: EpiDiff (arXiv 2312.06725) lets a view look into its nearest views alone. There views are near by their cameras, and
a pixel sees points along its epipolar lines; here they are near by their place among all views, and a token sees all tokens.
"""

from pydantic import Field
from torch import Tensor

from hvg.parts.attention import ViewMaskAttention, group_attention_flops
from hvg.parts.view_attention import ViewAttention, ViewAttentionConfig
from hvg.values.grid import ViewGrid


class NeighboursConfig(ViewAttentionConfig):
    """Setting of how many views away a view sees."""

    reach: int = Field(
        1,
        ge=0,
        le=1024,
        description="Views on either side that a view sees, counted among all views of the clip: on a circle it has twice as "
        "many neighbours, at the end of a line fewer. Those that are not denoised together with it are not seen.",
    )


class NeighboursViewAttention(ViewAttention[NeighboursConfig]):
    """All tokens of a latent frame in views that are at most ``reach`` places apart see each other."""

    def __init__(self, config: NeighboursConfig, width: int, num_heads: int) -> None:
        super().__init__(config, width, num_heads)
        self.attention = ViewMaskAttention(width, num_heads)

    def forward(self, x: Tensor, grid: ViewGrid) -> Tensor:
        views, cells = x.shape[1], x.shape[3] * x.shape[4]
        near = _near(self.config, grid)
        # The nearest first; as many as can be near.
        nearest = grid.steps().argsort(dim=-1, stable=True)[..., : _most_near(self.config, views)]
        near = near.gather(-1, nearest).repeat_interleave(cells, dim=-1)

        def seen(view: int) -> tuple[Tensor, Tensor]:
            return nearest[:, view], near[:, view, None, None]

        return self.attention(x, seen)

    @classmethod
    def sees(cls, config: NeighboursConfig, grid: ViewGrid) -> Tensor:
        frames, (height, width) = grid.cameras.shape[2], grid.cameras.image_size
        cells = height * width
        near = _near(config, grid).repeat_interleave(cells, dim=1).repeat_interleave(cells, dim=2)
        return near[:, None].expand(-1, frames, -1, -1)

    @classmethod
    def flops(cls, config: NeighboursConfig, views: int, height: int, width: int, channels: int) -> int:
        cells = height * width
        return group_attention_flops(views * cells, _most_near(config, views) * cells, channels)


def _near(config: NeighboursConfig, grid: ViewGrid) -> Tensor:
    """Visibility between views, (B, V, V) bool: true where two views see each other."""
    return grid.steps() <= config.reach


def _most_near(config: NeighboursConfig, views: int) -> int:
    """Largest number of ``views`` that a view may see, itself included."""
    return min(views, 2 * config.reach + 1)
