"""A small network's features of a photo, looked up at places in it."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import embedding_bag, interpolate, pad


@dataclass(frozen=True, kw_only=True)
class Picture:
    """Pictures (B) with C values a pixel, laid out so that a pixel's values lie side by side.

    rows: (B (H + 3) (W + 3), C), of pictures with a pixel of nothing before them, left and above, and two behind. size: (H, W).
    """

    rows: Tensor
    size: tuple[int, int]

    @classmethod
    def of(cls, maps: Tensor) -> "Picture":
        """Of maps (B, C, H, W)."""
        return cls(rows=pad(maps, (1, 2, 1, 2)).movedim(1, -1).flatten(0, 2), size=(maps.shape[-2], maps.shape[-1]))

    def at(self, pixels: Tensor, which: Tensor) -> Tensor:
        """Bilinear values (M, C) at pixels (M, 2) of those pictures that ``which`` (M) names; 0 outside, centres at +0.5."""
        height, width = self.size
        # From a pixel outside on there is nothing, however far; and what is no number is there.
        x, y = (pixels + 0.5).nan_to_num(0.0).unbind(dim=-1)
        x, y = x.clamp(0, width + 1), y.clamp(0, height + 1)
        column, row = x.floor(), y.floor()
        right, below = x - column, y - row
        first = (which * (height + 3) + row.long()) * (width + 3) + column.long()
        index = torch.stack([first, first + 1, first + width + 3, first + width + 4], dim=1)
        left, above = 1 - right, 1 - below
        weights = torch.stack([above * left, above * right, below * left, below * right], dim=1)
        return embedding_bag(index, self.rows, per_sample_weights=weights.to(self.rows), mode="sum")


class PhotoEncoder(nn.Module):
    """Features of a photo at full and half resolution, (B, C, H, W) side by side, and one of all of it, (B, G).

    widths: channels at full and at half resolution. The one of all is a mean over the person.
    """

    def __init__(self, channels: int, widths: tuple[int, int], whole: int) -> None:
        super().__init__()
        full, half = widths
        self.whole_size = nn.Sequential(_layer(channels, full), _layer(full, full))
        self.halved = nn.Sequential(_layer(full, half, stride=2), _layer(half, half))
        self.quartered = nn.Sequential(_layer(half, half, stride=2), _layer(half, half))
        self.mean = nn.Linear(half, whole)
        self.channels = full + half

    def multiplications(self, height: int, width: int) -> int:
        """Of its convolutions, over one photo."""
        stages = ((self.whole_size, 1), (self.halved, 4), (self.quartered, 16))
        layers = [(x, share) for stage, share in stages for x in stage.modules() if isinstance(x, nn.Conv2d)]
        return sum(layer.weight.numel() * height * width // share for layer, share in layers)

    def forward(self, photo: Tensor, alpha: Tensor) -> tuple[Tensor, Tensor]:
        """photo: (B, K, H, W). alpha: (B, 1, H, W)."""
        full = self.whole_size(photo)
        half = self.halved(full)
        quarter = self.quartered(half)
        covered = interpolate(alpha, size=quarter.shape[-2:], mode="area") + 1e-3
        mean = (quarter * covered).sum(dim=(-2, -1)) / covered.sum(dim=(-2, -1))
        larger = interpolate(half, size=full.shape[-2:], mode="bilinear", align_corners=False)
        return torch.cat([full, larger], dim=1), self.mean(mean)


def _layer(channels: int, width: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(channels, width, 3, stride=stride, padding=1), nn.ReLU())
