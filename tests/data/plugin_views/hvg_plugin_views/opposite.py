"""Attention of every view to itself and to the view that looks from the other side."""

from hvg.plugin import PartConfig, ViewAttention, ViewMaskAttention, group_attention_flops


class Opposite(ViewAttention):
    """A token sees its own view, and the one half a circle away where that is denoised with it."""

    Config = PartConfig

    def __init__(self, config, width, num_heads):
        super().__init__(config, width, num_heads)
        self.attention = ViewMaskAttention(width, num_heads)

    def forward(self, x, grid):
        _, views, _, height, width, _ = x.shape
        faces = _faces(grid)
        # Its own view and one more, for every view of the window, (B, V, K); a mask hides one that is not opposite.
        looked_at = faces.byte().topk(_most(views)).indices
        mask = faces.gather(-1, looked_at).repeat_interleave(height * width, dim=-1)
        return self.attention(x, lambda view: (looked_at[:, view], mask[:, view, None, None]))

    @classmethod
    def sees(cls, config, grid):
        frames, (height, width) = grid.cameras.shape[2], grid.cameras.image_size
        cells = height * width
        seen = _faces(grid).repeat_interleave(cells, dim=1).repeat_interleave(cells, dim=2)
        return seen[:, None].expand(-1, frames, -1, -1)

    @classmethod
    def flops(cls, config, views, height, width, channels):
        cells = height * width
        return group_attention_flops(views * cells, _most(views) * cells, channels)


def _faces(grid):
    """Which views see each other, (B, V, V) bool: a line of views has no opposite ones, nor has an odd circle."""
    steps = grid.steps()
    return (steps == 0) | (grid.circle[:, None, None] & (2 * steps == grid.num_views[:, None, None]))


def _most(views):
    """How many of a window's views a view sees at most."""
    return min(views, 2)
