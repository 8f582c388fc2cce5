"""No attention over views: every view is generated on its own."""

import torch
from torch import Tensor

from hvg.parts.part import PartConfig
from hvg.parts.view_attention import ViewAttention
from hvg.values.grid import ViewGrid


class NoViewAttention(ViewAttention[PartConfig]):
    """Identity; tokens see only themselves."""

    def forward(self, x: Tensor, grid: ViewGrid) -> Tensor:
        return x

    @classmethod
    def token_groups(cls, config: PartConfig, views: int, height: int, width: int) -> Tensor:
        return torch.arange(views * height * width).view(views, height, width)

    @classmethod
    def flops(cls, config: PartConfig, views: int, height: int, width: int, channels: int) -> int:
        return 0
