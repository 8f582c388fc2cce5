"""An encoder of maps: the mean of every cell's pixels, then one linear layer."""

from torch import nn
from torch.nn.functional import avg_pool2d

from hvg.plugin import MapEncoder, PartConfig, stem, zero_module


class Pooled(MapEncoder[PartConfig]):
    """Sees no finer than the latents' cells."""

    def __init__(self, config, maps, context):
        super().__init__(config, maps, context)
        site, self.stride = stem(context.ports)
        self.linear = zero_module(nn.Conv2d(sum(maps.values()), site.channels, 1))

    def forward(self, maps):
        return self.linear(avg_pool2d(maps, self.stride))
