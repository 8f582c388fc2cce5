"""I3D, through which FVD looks."""

from collections import OrderedDict

import torch.nn.functional as F
from torch import Tensor, nn

from .branches import Branches
from .precision import single_precision


class I3d(nn.Module):
    """(N, 3, T, 224, 224) in [-1, 1] -> (N, 400), the logits averaged over time.

    pool_frames: over how many neighbouring latent frames the average pool goes, before the logits are averaged over what
    is left. From 9 to 16 frames 1 and 2 agree, and 2 needs 9. norm_epsilon: what batch norms add to the variance.

    Source: I3D (arXiv 1705.07750, figure 3): Inception-v1 with its filters inflated. Padded as TensorFlow does, by zeros
    also before a maximum. The defaults are those of VideoGPT's and DisCo's FVD.
    """

    def __init__(self, pool_frames: int = 1, norm_epsilon: float = 1e-3) -> None:
        super().__init__()
        self.pool_frames = pool_frames
        self.Conv3d_1a_7x7 = Convolution(3, 64, 7, stride=2)
        self.MaxPool3d_2a_3x3 = MaxPool((1, 3, 3), (1, 2, 2))
        self.Conv3d_2b_1x1 = Convolution(64, 64, 1)
        self.Conv3d_2c_3x3 = Convolution(64, 192, 3)
        self.MaxPool3d_3a_3x3 = MaxPool((1, 3, 3), (1, 2, 2))
        self.Mixed_3b = mixed(192, 64, (96, 128), (16, 32), 32)
        self.Mixed_3c = mixed(256, 128, (128, 192), (32, 96), 64)
        self.MaxPool3d_4a_3x3 = MaxPool((3, 3, 3), (2, 2, 2))
        self.Mixed_4b = mixed(480, 192, (96, 208), (16, 48), 64)
        self.Mixed_4c = mixed(512, 160, (112, 224), (24, 64), 64)
        self.Mixed_4d = mixed(512, 128, (128, 256), (24, 64), 64)
        self.Mixed_4e = mixed(512, 112, (144, 288), (32, 64), 64)
        self.Mixed_4f = mixed(528, 256, (160, 320), (32, 128), 128)
        self.MaxPool3d_5a_2x2 = MaxPool((2, 2, 2), (2, 2, 2))
        self.Mixed_5b = mixed(832, 256, (160, 320), (32, 128), 128)
        self.Mixed_5c = mixed(832, 384, (192, 384), (48, 128), 128)
        # 400 classes of Kinetics.
        self.logits = nn.Sequential(OrderedDict(conv3d=nn.Conv3d(1024, 400, 1)))
        for module in self.modules():
            if isinstance(module, nn.BatchNorm3d):
                module.eps = norm_epsilon

    @single_precision()
    def forward(self, clips: Tensor) -> Tensor:
        if clips.ndim != 5 or clips.shape[1] != 3 or clips.shape[3:] != (224, 224):
            raise ValueError(f"I3D takes (N, 3, T, 224, 224), got {tuple(clips.shape)}")
        x = clips
        for layer in list(self.children())[:-1]:
            x = layer(x)
        pooled = F.avg_pool3d(x, (self.pool_frames, 7, 7), stride=1)
        return self.logits(pooled).mean(dim=(2, 3, 4))


class Convolution(nn.Module):
    """Convolution without bias over a cube, batch norm, ReLU."""

    def __init__(self, channels: int, out_channels: int, kernel: int, stride: int = 1) -> None:
        super().__init__()
        self.conv3d = nn.Conv3d(channels, out_channels, kernel, stride, bias=False)
        self.bn = nn.BatchNorm3d(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        padded = same_padding(x, self.conv3d.kernel_size, self.conv3d.stride)
        return self.bn(self.conv3d(padded)).relu()


class MaxPool(nn.Module):
    """The maximum, of zero too where the window reaches over the edge."""

    def __init__(self, kernel: tuple[int, int, int], stride: tuple[int, int, int]) -> None:
        super().__init__()
        self.kernel, self.stride = kernel, stride

    def forward(self, x: Tensor) -> Tensor:
        return F.max_pool3d(same_padding(x, self.kernel, self.stride), self.kernel, self.stride)


def mixed(channels: int, one: int, three: tuple[int, int], second_three: tuple[int, int], pooled: int) -> Branches:
    """Inception-v1's block. What was 5x5 there is a second 3x3x3."""
    return Branches(
        {"b0": Convolution(channels, one, 1)},
        {"b1a": Convolution(channels, three[0], 1), "b1b": Convolution(*three, 3)},
        {"b2a": Convolution(channels, second_three[0], 1), "b2b": Convolution(*second_three, 3)},
        {"b3a": MaxPool((3, 3, 3), (1, 1, 1)), "b3b": Convolution(channels, pooled, 1)},
    )


def same_padding(x: Tensor, kernel: tuple[int, ...], stride: tuple[int, ...]) -> Tensor:
    """(N, C, T, H, W) with as many zeros around it as make ceil(size / stride) windows, the odd one behind."""
    padding: list[int] = []
    for size, window, step in zip(x.shape[2:], kernel, stride, strict=True):
        total = max((-(-size // step) - 1) * step + window - size, 0)
        # torch wants the last axis first.
        padding = [total // 2, total - total // 2, *padding]
    return F.pad(x, padding) if any(padding) else x
