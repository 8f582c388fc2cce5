"""A control map beside the noise, seen by the backbone's first convolution: folded to the latents' grid, or as latents."""

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, pixel_unshuffle

from hvg.parts.codec_pictures import CodecPictures


class FoldedMap(nn.Module):
    """Control maps (N, K, H, W) -> what they add to the backbone's first convolution, (N, D, h, w), 0 at the start.

    Every cell's pixels become channels, K stride^2 of them, concatenated to the noise. A convolution of concatenated channels
    is the sum of convolutions: the weight here, (D, K stride^2, 3, 3), is the columns by which the first convolution would
    grow, and what it gives is added where that one ends, at the stem. So a published backbone stays as it was published, its
    new channels start at zero, and one that is trained from nothing starts from the same weights in every arm of a study.

    Source: space to depth is the inverse of the sub-pixel shuffle (arXiv 1609.05158); of control maps T2I-Adapter (arXiv
    2302.08453) folds so. We differ: no encoder follows.
    """

    def __init__(self, channels: int, width: int, stride: int) -> None:
        """channels: K. width: D. stride: pixels to a cell."""
        super().__init__()
        self.stride = stride
        self.weight = nn.Parameter(torch.zeros(width, channels * stride**2, 3, 3))

    def forward(self, maps: Tensor) -> Tensor:
        return conv2d(pixel_unshuffle(maps, self.stride), self.weight, padding=1)


class EncodedMap(nn.Module):
    """Control maps (N, K, H, W) -> what their latents add to the backbone's first convolution, (N, D, h, w), 0 at the start.

    As ``FoldedMap``, of the codec's latents of the map's pictures, scaled as the noised ones are.
    """

    def __init__(self, latents: CodecPictures, width: int) -> None:
        """width: D."""
        super().__init__()
        self.latents = latents
        self.weight = nn.Parameter(torch.zeros(width, latents.channels, 3, 3))

    def forward(self, maps: Tensor) -> Tensor:
        return conv2d(self.latents(maps), self.weight, padding=1)
