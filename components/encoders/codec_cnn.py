"""GAS's encoder of renders: the codec's latents of the map, then convolutions."""

from collections.abc import Mapping
from itertools import pairwise

import torch
from pydantic import Field
from torch import Tensor, nn

from hvg.core.bounds import Width
from hvg.parts.codec_pictures import CodecPictures, check_pictures
from hvg.parts.context import ConditionerContext
from hvg.parts.guider import convolutions
from hvg.parts.map_encoder import MapEncoder, stem
from hvg.parts.part import PartConfig
from hvg.parts.zero import zero_module
from hvg.values.conditioning import Ports

WIDTHS = (16, 32, 64, 128)


class CodecCnnConfig(PartConfig):
    """Settings of the convolutions."""

    widths: tuple[Width, ...] | None = Field(
        None,
        min_length=1,
        max_length=16,
        description="Channels of the convolutions after the first, which has those of the latents. null: 16, 32, 64, 128 as in "
        "GAS, none narrower than the latents, and else none wider than the stem.",
    )
    scale: float = Field(2.0, gt=0, le=1000, description="Factor on what is added, which is learned, at the start.")


class CodecCnn(MapEncoder[CodecCnnConfig]):
    """The mode of the codec's latents of a map, unscaled; 3x3 convolutions at their size; a zero 1x1 projection; a scale.

    Nothing is lost between pixels and cells that the codec keeps, and the features are made of what the network denoises. Of a
    stem whose cells are several latent cells the convolutions are of its size.
    ``pictures`` says how a map is a picture.

    Source: the encoder of the NeRF's render in GAS's code: latents of 4 channels, convolutions 4-4-16-32-64-128, a learned factor
    that starts at 2. We differ: He initialisation, as of all our encoders of maps; widths that fit any codec and stem.
    """

    def __init__(self, config: CodecCnnConfig, maps: Mapping[str, int], context: ConditionerContext) -> None:
        super().__init__(config, maps, context)
        site, _ = stem(context.ports)
        self.latents, self.codec_scale = CodecPictures(maps, context.codec, site.stride), context.codec.scale
        first = self.latents.channels
        widths = config.widths or [max(first, min(width, site.channels)) for width in WIDTHS]
        self.convolutions = convolutions((narrow, wide, 1) for narrow, wide in pairwise((first, first, *widths)))
        self.projection = zero_module(nn.Conv2d(widths[-1], site.channels, 1))
        self.scale = nn.Parameter(torch.tensor([config.scale]))

    @classmethod
    def fit(cls, config: CodecCnnConfig, maps: Mapping[str, int], ports: Ports) -> None:
        check_pictures(maps)

    def forward(self, maps: Tensor) -> Tensor:
        return self.scale * self.projection(self.convolutions(self.latents(maps) / self.codec_scale))
