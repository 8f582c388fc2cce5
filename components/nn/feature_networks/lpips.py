"""LPIPS: how different two pictures look, through an image classifier."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from .branches import Branches
from .precision import single_precision

# Values by which pictures in [-1, 1] are shifted and divided: ImageNet's mean and spread.
MEAN = (-0.030, -0.088, -0.188)
SPREAD = (0.458, 0.448, 0.450)


class Lpips(nn.Module):
    """Two pictures (N, 3, H, W), meant to be in [-1, 1] -> their distance (N,).

    features: layers of a classifier. taps: index of each layer whose output is compared. widths: its channels. heads: the
    learned weight of every channel, not negative.

    Source: LPIPS (arXiv 1801.03924), equation 1; version 0.1 of the heads.
    """

    def __init__(self, features: nn.Sequential, taps: Sequence[int], widths: Sequence[int]) -> None:
        super().__init__()
        self.features = features
        self.taps = tuple(taps)
        self.heads = nn.ModuleList(nn.Conv2d(width, 1, 1, bias=False) for width in widths)

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        return self.layers(a, b).sum(dim=1)

    @single_precision()
    def layers(self, a: Tensor, b: Tensor) -> Tensor:
        """Contribution of each tapped layer to the distance, (N, L)."""
        if a.shape != b.shape:
            raise ValueError(f"LPIPS compares pictures of one size, got {tuple(a.shape)} and {tuple(b.shape)}")
        mean, spread = (a.new_tensor(values)[:, None, None] for values in (MEAN, SPREAD))
        # One pass for both, so that equal pictures have distance 0 whatever kernels are chosen.
        x, distances = (torch.cat([a, b]) - mean) / spread, []
        for index, layer in enumerate(self.features):
            x = layer(x)
            if index in self.taps:
                # Every pixel's features, divided by their length.
                unit_a, unit_b = (x / (x.square().sum(dim=1, keepdim=True).sqrt() + 1e-10)).chunk(2)
                weighted = self.heads[len(distances)]((unit_a - unit_b) ** 2)
                distances.append(weighted.mean(dim=(1, 2, 3)))
        return torch.stack(distances, dim=1)


def lpips_vgg() -> Lpips:
    """Through VGG16 (arXiv 1409.1556): the last layer of each of the five sizes."""
    layers: list[nn.Module] = []
    channels = 3
    for width, count in ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3)):
        for _ in range(count):
            layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU()]
            channels = width
        layers.append(nn.MaxPool2d(2))
    return Lpips(nn.Sequential(*layers[:-1]), taps=(3, 8, 15, 22, 29), widths=(64, 128, 256, 512, 512))


def lpips_alex() -> Lpips:
    """Through AlexNet (arXiv 1404.5997): all five convolutions."""
    layers = [
        nn.Conv2d(3, 64, 11, stride=4, padding=2),
        nn.ReLU(),
        nn.MaxPool2d(3, stride=2),
        nn.Conv2d(64, 192, 5, padding=2),
        nn.ReLU(),
        nn.MaxPool2d(3, stride=2),
        nn.Conv2d(192, 384, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(384, 256, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(256, 256, 3, padding=1),
        nn.ReLU(),
    ]
    return Lpips(nn.Sequential(*layers), taps=(1, 4, 7, 9, 11), widths=(64, 192, 384, 256, 256))


def lpips_squeeze() -> Lpips:
    """Through SqueezeNet 1.1 (arXiv 1602.07360): the last layer of each size, and all of the last size."""

    def pool() -> nn.MaxPool2d:
        return nn.MaxPool2d(3, stride=2, ceil_mode=True)

    layers = [
        nn.Conv2d(3, 64, 3, stride=2),
        nn.ReLU(),
        pool(),
        fire(64, 16, 64),
        fire(128, 16, 64),
        pool(),
        fire(128, 32, 128),
        fire(256, 32, 128),
        pool(),
        fire(256, 48, 192),
        fire(384, 48, 192),
        fire(384, 64, 256),
        fire(512, 64, 256),
    ]
    widths = (64, 128, 256, 384, 384, 512, 512)
    return Lpips(nn.Sequential(*layers), taps=(1, 4, 7, 9, 10, 11, 12), widths=widths)


def fire(channels: int, squeezed: int, width: int) -> Branches:
    """SqueezeNet's block: 1x1 to few channels, then 1x1 and 3x3 side by side, ``width`` channels each."""
    squeeze = nn.Conv2d(channels, squeezed, 1)
    expand = {"expand1x1": nn.Conv2d(squeezed, width, 1), "expand3x3": nn.Conv2d(squeezed, width, 3, padding=1)}
    return Branches({"squeeze": squeeze, "relu": nn.ReLU(), "expand": expand, "expanded_relu": nn.ReLU()})
