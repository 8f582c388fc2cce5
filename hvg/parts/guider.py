"""The encoder that all control maps share."""

from itertools import pairwise

from torch import Tensor, nn

from hvg.core.errors import HvgError
from hvg.parts.zero import zero_module


class Guider(nn.Module):
    """Control maps (N, in_channels, H, W) -> features (N, out_channels, H / stride, W / stride), 0 at the start.

    ``guider_stages``, then a zero-initialised 1x1 projection.

    Source: the condition encoder of ControlNet (arXiv 2302.05543) in its AnimateAnyone form (arXiv 2311.17117), widths
    16-32-96-256. HVG (arXiv 2602.21188, section 3.2) has four convolutions too. We differ: one convolution per stage
    where AnimateAnyone has two, a 1x1 projection where it has 3x3, He initialisation (as in MimicMotion's pose net).
    """

    def __init__(
        self, in_channels: int, out_channels: int, stride: int, widths: tuple[int, ...] = (16, 32, 96, 256)
    ) -> None:
        super().__init__()
        self.stages = guider_stages(in_channels, stride, widths)
        self.projection = zero_module(nn.Conv2d(widths[-1], out_channels, 1))

    def forward(self, maps: Tensor) -> Tensor:
        return self.projection(self.stages(maps))


def guider_stages(in_channels: int, stride: int, widths: tuple[int, ...]) -> nn.Sequential:
    """Control maps (N, in_channels, H, W) -> features (N, widths[-1], H / stride, W / stride), not 0 at the start.

    One 3x3 convolution and SiLU per width. As much of the stride as possible is spent in the first stages (8 = 2 2 2 1,
    4 = 2 2 1 1), where pixels are many and channels few.
    """
    halvings = num_halvings(stride, widths)
    layers: list[nn.Module] = []
    for stage, (narrow, wide) in enumerate(pairwise((in_channels, *widths))):
        convolution = nn.Conv2d(narrow, wide, 3, stride=2 if stage < halvings else 1, padding=1)
        # torch's default shrinks features by half a stage or more; behind a zero projection they then learn slowly.
        nn.init.kaiming_normal_(convolution.weight, nonlinearity="relu")
        layers += [convolution, nn.SiLU()]
    return nn.Sequential(*layers)


def num_halvings(stride: int, widths: tuple[int, ...]) -> int:
    """Number of stages that halve the map. Raises: HvgError when they cannot reach ``stride``."""
    halvings = stride.bit_length() - 1
    if stride != 2**halvings or halvings > len(widths):
        raise HvgError(
            f"widths={widths} give {len(widths)} stages, which reach strides 1 to {2 ** len(widths)} in powers of two; "
            f"the backbone's stem has {stride} pixels to a cell"
        )
    return halvings
