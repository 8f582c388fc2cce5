"""The Inception of FID."""

from torch import Tensor, nn

from .branches import Branches
from .precision import single_precision


class FidInception(nn.Module):
    """(N, 3, 299, 299) in [-1, 1] -> (N, 2048), the last average pool.

    Source: Inception-v3 (arXiv 1512.00567) as in TensorFlow's graph of 2015-12-05, with which FID was defined (arXiv
    1706.08500). Where that graph differs from torchvision's: average pools do not count the padding, and the last block
    pools by the maximum. The names are those of pytorch-fid's file; its classifier is left out.
    """

    def __init__(self) -> None:
        super().__init__()
        self.Conv2d_1a_3x3 = Convolution(3, 32, 3, stride=2)
        self.Conv2d_2a_3x3 = Convolution(32, 32, 3)
        self.Conv2d_2b_3x3 = Convolution(32, 64, 3, padding=1)
        self.pool_1 = nn.MaxPool2d(3, stride=2)
        self.Conv2d_3b_1x1 = Convolution(64, 80, 1)
        self.Conv2d_4a_3x3 = Convolution(80, 192, 3)
        self.pool_2 = nn.MaxPool2d(3, stride=2)
        self.Mixed_5b = block_35x35(192, pooled=32)
        self.Mixed_5c = block_35x35(256, pooled=64)
        self.Mixed_5d = block_35x35(288, pooled=64)
        self.Mixed_6a = to_17x17(288)
        self.Mixed_6b = block_17x17(128)
        self.Mixed_6c = block_17x17(160)
        self.Mixed_6d = block_17x17(160)
        self.Mixed_6e = block_17x17(192)
        self.Mixed_7a = to_8x8()
        self.Mixed_7b = block_8x8(1280, average_pool())
        self.Mixed_7c = block_8x8(2048, nn.MaxPool2d(3, stride=1, padding=1))
        self.pool_3 = nn.AdaptiveAvgPool2d(1)

    @single_precision()
    def forward(self, images: Tensor) -> Tensor:
        if images.shape[1:] != (3, 299, 299):
            raise ValueError(f"FID's Inception takes (N, 3, 299, 299), got {tuple(images.shape)}")
        x = images
        for layer in self.children():
            x = layer(x)
        return x.flatten(1)


class Convolution(nn.Module):
    """Convolution without bias, batch norm, ReLU."""

    def __init__(
        self,
        channels: int,
        out_channels: int,
        kernel: int | tuple[int, int],
        stride: int = 1,
        padding: int | tuple[int, int] = 0,
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, out_channels, kernel, stride, padding, bias=False)
        self.bn = nn.BatchNorm2d(out_channels, eps=0.001)

    def forward(self, x: Tensor) -> Tensor:
        return self.bn(self.conv(x)).relu()


def average_pool() -> nn.AvgPool2d:
    """3x3 at stride 1, over the pixels that there are."""
    return nn.AvgPool2d(3, stride=1, padding=1, count_include_pad=False)


def wide(channels: int, out_channels: int) -> Convolution:
    """1x7."""
    return Convolution(channels, out_channels, (1, 7), padding=(0, 3))


def tall(channels: int, out_channels: int) -> Convolution:
    """7x1."""
    return Convolution(channels, out_channels, (7, 1), padding=(3, 0))


def block_35x35(channels: int, pooled: int) -> Branches:
    """224 + pooled channels. Source: figure 5, with 5x5 in one of the branches."""
    return Branches(
        {"branch1x1": Convolution(channels, 64, 1)},
        {"branch5x5_1": Convolution(channels, 48, 1), "branch5x5_2": Convolution(48, 64, 5, padding=2)},
        {
            "branch3x3dbl_1": Convolution(channels, 64, 1),
            "branch3x3dbl_2": Convolution(64, 96, 3, padding=1),
            "branch3x3dbl_3": Convolution(96, 96, 3, padding=1),
        },
        {"pool": average_pool(), "branch_pool": Convolution(channels, pooled, 1)},
    )


def to_17x17(channels: int) -> Branches:
    """480 more channels at half the size. Source: figure 10."""
    return Branches(
        {"branch3x3": Convolution(channels, 384, 3, stride=2)},
        {
            "branch3x3dbl_1": Convolution(channels, 64, 1),
            "branch3x3dbl_2": Convolution(64, 96, 3, padding=1),
            "branch3x3dbl_3": Convolution(96, 96, 3, stride=2),
        },
        {"pool": nn.MaxPool2d(3, stride=2)},
    )


def block_17x17(width: int) -> Branches:
    """768 channels to 768. Source: figure 6, n = 7."""
    return Branches(
        {"branch1x1": Convolution(768, 192, 1)},
        {
            "branch7x7_1": Convolution(768, width, 1),
            "branch7x7_2": wide(width, width),
            "branch7x7_3": tall(width, 192),
        },
        {
            "branch7x7dbl_1": Convolution(768, width, 1),
            "branch7x7dbl_2": tall(width, width),
            "branch7x7dbl_3": wide(width, width),
            "branch7x7dbl_4": tall(width, width),
            "branch7x7dbl_5": wide(width, 192),
        },
        {"pool": average_pool(), "branch_pool": Convolution(768, 192, 1)},
    )


def to_8x8() -> Branches:
    """768 channels to 1280 at half the size."""
    return Branches(
        {"branch3x3_1": Convolution(768, 192, 1), "branch3x3_2": Convolution(192, 320, 3, stride=2)},
        {
            "branch7x7x3_1": Convolution(768, 192, 1),
            "branch7x7x3_2": wide(192, 192),
            "branch7x7x3_3": tall(192, 192),
            "branch7x7x3_4": Convolution(192, 192, 3, stride=2),
        },
        {"pool": nn.MaxPool2d(3, stride=2)},
    )


def block_8x8(channels: int, pool: nn.Module) -> Branches:
    """2048 channels. Source: figure 7."""

    def fork(name: str) -> dict[str, nn.Module]:
        """384 channels, side by side through 1x3 and 3x1."""
        return {
            f"{name}a": Convolution(384, 384, (1, 3), padding=(0, 1)),
            f"{name}b": Convolution(384, 384, (3, 1), padding=(1, 0)),
        }

    return Branches(
        {"branch1x1": Convolution(channels, 320, 1)},
        {"branch3x3_1": Convolution(channels, 384, 1), "fork": fork("branch3x3_2")},
        {
            "branch3x3dbl_1": Convolution(channels, 448, 1),
            "branch3x3dbl_2": Convolution(448, 384, 3, padding=1),
            "fork": fork("branch3x3dbl_3"),
        },
        {"pool": pool, "branch_pool": Convolution(channels, 192, 1)},
    )
