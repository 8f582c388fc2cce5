"""Guiders: the convolutions that most encoders of maps are made of."""

from collections.abc import Iterable
from itertools import pairwise

from pydantic import Field
from torch import Tensor, nn

from hvg.core.bounds import Width
from hvg.core.errors import HvgError
from hvg.parts.part import PartConfig
from hvg.parts.zero import zero_module


class GuiderConfig(PartConfig):
    """Settings of an encoder that is made of guiders."""

    widths: tuple[Width, ...] | None = Field(
        None,
        min_length=1,
        max_length=16,
        description="Channels of a guider's stages. null: 16, 32, 96, 256 as in AnimateAnyone, none wider than the stem.",
    )

    def stages(self, stem: int) -> tuple[int, ...]:
        """Channels of the stages before a stem of that width: on a narrow one the full guider would cost more than a level."""
        return self.widths or tuple(min(width, stem) for width in (16, 32, 96, 256))


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
    stages = enumerate(pairwise((in_channels, *widths)))
    return convolutions((narrow, wide, 2 if stage < halvings else 1) for stage, (narrow, wide) in stages)


def convolutions(stages: Iterable[tuple[int, int, int]]) -> nn.Sequential:
    """A 3x3 convolution and SiLU for each (channels in, channels out, stride)."""
    layers: list[nn.Module] = []
    for narrow, wide, stride in stages:
        convolution = nn.Conv2d(narrow, wide, 3, stride=stride, padding=1)
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
