"""The 3D ResNet-50 of FID-VID."""

from torch import Tensor, nn

from .precision import single_precision


class Resnet3d50(nn.Module):
    """(N, 3, 16, 112, 112), RGB in 0..255 less the mean of Kinetics -> (N, 2048), before the classifier.

    Source: 3D ResNets (arXiv 1711.09577), depth 50, with a convolution in the shortcut where the size changes.
    """

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv3d(3, 64, 7, stride=(1, 2, 2), padding=3, bias=False)
        self.bn1 = nn.BatchNorm3d(64)
        self.relu = nn.ReLU()
        self.maxpool = nn.MaxPool3d(3, stride=2, padding=1)
        self.layer1 = stage(64, 64, blocks=3, stride=1)
        self.layer2 = stage(256, 128, blocks=4, stride=2)
        self.layer3 = stage(512, 256, blocks=6, stride=2)
        self.layer4 = stage(1024, 512, blocks=3, stride=2)
        self.avgpool = nn.AvgPool3d((1, 4, 4))

    @single_precision()
    def forward(self, clips: Tensor) -> Tensor:
        if clips.shape[1:] != (3, 16, 112, 112):
            raise ValueError(f"the 3D ResNet takes (N, 3, 16, 112, 112), got {tuple(clips.shape)}")
        x = clips
        for layer in self.children():
            x = layer(x)
        return x.flatten(1)


class Bottleneck(nn.Module):
    """A residual block: 1x1x1 to fewer channels, 3x3x3, 1x1x1 to four times as many."""

    def __init__(self, channels: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv3d(channels, width, 1, bias=False)
        self.bn1 = nn.BatchNorm3d(width)
        self.conv2 = nn.Conv3d(width, width, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm3d(width)
        self.conv3 = nn.Conv3d(width, 4 * width, 1, bias=False)
        self.bn3 = nn.BatchNorm3d(4 * width)
        self.downsample = nn.Identity()
        if stride != 1 or channels != 4 * width:
            convolution = nn.Conv3d(channels, 4 * width, 1, stride, bias=False)
            self.downsample = nn.Sequential(convolution, nn.BatchNorm3d(4 * width))

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn1(self.conv1(x)).relu()
        y = self.bn2(self.conv2(y)).relu()
        y = self.bn3(self.conv3(y))
        return (y + self.downsample(x)).relu()


def stage(channels: int, width: int, blocks: int, stride: int) -> nn.Sequential:
    """Blocks of one width, the first of which strides."""
    first = Bottleneck(channels, width, stride)
    return nn.Sequential(first, *(Bottleneck(4 * width, width, 1) for _ in range(blocks - 1)))
