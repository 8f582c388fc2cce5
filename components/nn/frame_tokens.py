"""Pictures as a few tokens each.

Source: TiTok (arXiv 2406.07550), section 3.2: learnable latents beside the patches of a picture, in one transformer, of which the
latents alone are kept.
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate, pad

from .spatio_temporal import attend

# Deviation from 0 of new places and latents. Source: Vision Transformer (arXiv 2010.11929).
SPREAD = 0.02


class FrameTokens(nn.Module):
    """Pictures (N, 3, H, W) of any size, in [-1, 1], as ``tokens`` tokens each, (N, K, D).

    size: side of the square that they are brought to, pixels. patch: side of a patch. width: D. depth: layers.
    """

    def __init__(self, *, size: int, patch: int, width: int, depth: int, heads: int, tokens: int) -> None:
        super().__init__()
        self.size = size
        self.patches = nn.Conv2d(3, width, patch, stride=patch)
        self.places = nn.Parameter(SPREAD * torch.randn((size // patch) ** 2, width))
        self.latents = nn.Parameter(SPREAD * torch.randn(tokens, width))
        self.first = nn.LayerNorm(width)
        self.blocks = nn.ModuleList(_Block(width, heads) for _ in range(depth))
        self.last = nn.LayerNorm(width)

    def forward(self, pictures: Tensor) -> Tensor:
        seen = squared(pictures.float(), self.size).to(self.places.dtype)
        patches = self.patches(seen).flatten(2).mT + self.places
        latents = self.latents.expand(len(patches), -1, -1)
        x = self.first(torch.cat([latents.to(patches.dtype), patches], dim=1))
        for block in self.blocks:
            x = block(x)
        return self.last(x[:, : len(self.latents)])


class _Block(nn.Module):
    """Attention of all to all, then two layers for each; both are added to (N, L, D), which is normalised before."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm, self.feed_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.inputs, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.feed = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = self.inputs(self.norm(x)).chunk(3, dim=-1)
        x = x + self.out(attend(query, key, value, self.heads))
        return x + self.feed(self.feed_norm(x))


def squared(pictures: Tensor, side: int) -> Tensor:
    """Pictures (N, 3, H, W) whole in the middle of a square (N, 3, side, side); borders are repeated where it is wider."""
    height, width = pictures.shape[-2:]
    if (height, width) == (side, side):
        return pictures
    inner = [max(1, round(length * side / max(height, width))) for length in (height, width)]
    small = interpolate(pictures, inner, mode="bilinear", antialias=True, align_corners=False)
    top, left = (side - inner[0]) // 2, (side - inner[1]) // 2
    return pad(small, (left, side - inner[1] - left, top, side - inner[0] - top), mode="replicate")
