"""Attention of every token, in the other views, to the tokens near its epipolar line.

Source: the epipolar attention of SPAD (arXiv 2402.05235), a mask on attention over the tokens of all views. SPAD marks the
cells that a line crosses and dilates them; here a cell is seen whose centre is near the line, so the width is a number. In its
own view a token of SPAD sees everything; here itself alone, since spatial attention stands right before. The line is whole:
what lies behind a camera is not left out.
"""

import torch
from pydantic import Field
from torch import Tensor

from hvg.parts.attention import ViewMaskAttention, group_attention_flops
from hvg.parts.view_attention import ViewAttention, ViewAttentionConfig
from hvg.values.cameras import Cameras
from hvg.values.grid import ViewGrid


class EpipolarConfig(ViewAttentionConfig):
    """Setting of the width of the bands around epipolar lines."""

    band: float = Field(
        1.0,
        ge=0,
        le=8192,
        description="Largest distance from the line to the centre of a cell that is seen, in cells of the backbone's site. From "
        "0.5 on, the band is a whole cell wide, and a line that crosses the picture always meets one.",
    )


class EpipolarViewAttention(ViewAttention[EpipolarConfig]):
    """A token sees itself, and in every other view the tokens within ``band`` cells of its epipolar line.

    Two cameras at one place have no such lines; there it sees all tokens of the other view.
    """

    def __init__(self, config: EpipolarConfig, width: int, num_heads: int) -> None:
        super().__init__(config, width, num_heads)
        self.attention = ViewMaskAttention(width, num_heads)

    def forward(self, x: Tensor, grid: ViewGrid) -> Tensor:
        every = torch.arange(x.shape[1], device=x.device).expand(x.shape[:2])
        bands = _Bands(grid.cameras, self.config.band)
        return self.attention(x, lambda view: (every, bands.seen_from(view)))

    @classmethod
    def sees(cls, config: EpipolarConfig, grid: ViewGrid) -> Tensor:
        bands = _Bands(grid.cameras, config.band)
        return torch.cat([bands.seen_from(view) for view in range(grid.cameras.shape[1])], dim=2)

    @classmethod
    def flops(cls, config: EpipolarConfig, views: int, height: int, width: int, channels: int) -> int:
        tokens = views * height * width
        # What the mask hides is computed all the same, and the mask is: a line's distance from every token, the line of every
        # token in every view, and the matrix of every two views.
        mask = 2 * (3 * tokens**2 + 9 * tokens * views + (3 * 27 + 9) * views**2)
        return group_attention_flops(tokens, tokens, channels) + mask


class _Bands:
    """The bands around epipolar lines of cameras (B, V, t) of h x w cells."""

    def __init__(self, cameras: Cameras, band: float) -> None:
        self._band = band
        # Cameras in half precision would miss by cells.
        with torch.autocast(cameras.intrinsics.device.type, enabled=False):
            self._centres, self._matrices = _cell_centres(cameras), _fundamental_matrices(cameras)

    def seen_from(self, view: int) -> Tensor:
        """Visibility, (B, t, h w, V h w) bool: true where a token of ``view`` sees a token of any view."""
        centres = self._centres
        with torch.autocast(centres.device.type, enabled=False):
            lines = _unit_lines(self._matrices[:, view] @ centres.double().mT)
            distance = (lines.mT.to(centres) @ centres.mT).abs()  # B V t (cells of the view) (cells of another one)
        seen = distance <= self._band
        seen[:, view] = torch.eye(len(centres), dtype=torch.bool, device=seen.device)
        return seen.permute(0, 2, 3, 1, 4).flatten(3)


def _cell_centres(cameras: Cameras) -> Tensor:
    """Centres (h w, 3) of all cells, row by row: x, y and 1."""
    (height, width), like = cameras.image_size, torch.ones((), device=cameras.intrinsics.device)
    y, x = torch.meshgrid(*(torch.arange(n).to(like) + 0.5 for n in (height, width)), indexing="ij")
    return torch.stack([x, y, torch.ones_like(x)], dim=-1).flatten(0, 1)


def _fundamental_matrices(cameras: Cameras) -> Tensor:
    """Matrices (B, V, V, t, 3, 3), float64, from a point of a view to its line in another; 0 for cameras at one place.

    F = K'^-T [t]x R K^-1, where R and t lead from the one camera to the other. Source: Hartley and Zisserman, equation 9.2.
    """
    pose, inverse = cameras.world_to_camera.double(), torch.linalg.inv(cameras.intrinsics.double())
    rotation, translation = pose[..., :3, :3], pose[..., :3, 3]
    turn = rotation[:, None] @ rotation[:, :, None].mT
    shift = translation[:, None] - (turn @ translation[:, :, None, ..., None])[..., 0]
    # Single precision does not know where cameras are to a millionth of their distance from the world's origin.
    shift = shift.where(shift.abs() > 1e-6 * translation[:, None].abs().amax(dim=-1, keepdim=True), 0.0)
    crossed = torch.linalg.cross(shift[..., None].expand_as(turn), turn, dim=-2)
    return inverse[:, None].mT @ crossed @ inverse[:, :, None]


def _unit_lines(lines: Tensor) -> Tensor:
    """Lines (..., 3, N) scaled so that they give a point's distance; those that are no lines give 0 for every point."""
    length = lines[..., :2, :].norm(dim=-2, keepdim=True)
    return torch.where(length > 0, lines / length, 0.0)
