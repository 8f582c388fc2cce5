"""Wan-Animate's way with a pose: the codec's latents of the map, through a patch embedding of their own."""

from collections.abc import Mapping

from torch import Tensor, nn

from hvg.parts.codec_pictures import CodecPictures, check_pictures
from hvg.parts.context import ConditionerContext
from hvg.parts.map_encoder import MapEncoder, stem
from hvg.parts.part import PartConfig
from hvg.parts.zero import zero_module
from hvg.values.conditioning import Ports


class CodecPatch(MapEncoder[PartConfig]):
    """The codec's latents of a map, and one linear layer from those of a cell of the stem to its width; 0 at the start.

    What a transformer does with the noise, once more for the map; on a UNet a 1x1 convolution of the latents. ``pictures`` says
    how a map is a picture.

    Source: ``pose_patch_embedding`` of Wan-Animate (diffusers' ``WanAnimateTransformer3DModel``). We differ: it starts at zero;
    where the codec joins frames, a latent frame is made of its own frames alone (``CodecPictures``).
    """

    def __init__(self, config: PartConfig, maps: Mapping[str, int], context: ConditionerContext) -> None:
        super().__init__(config, maps, context)
        site, _ = stem(context.ports)
        self.latents = CodecPictures(maps, context.codec, site.stride)
        self.projection = zero_module(nn.Conv2d(self.latents.channels, site.channels, 1))

    @classmethod
    def fit(cls, config: PartConfig, maps: Mapping[str, int], ports: Ports) -> None:
        check_pictures(maps)

    def forward(self, maps: Tensor) -> Tensor:
        return self.projection(self.latents(maps))
