"""Champ's encoder: a guider for each map, self-attention over its cells, and the sum of all."""

from collections.abc import Mapping

from torch import Tensor, nn

from hvg.parts.context import ConditionerContext
from hvg.parts.guider import guider_stages, num_halvings
from hvg.parts.map_encoder import MapEncoder, stem
from hvg.parts.zero import zero_module
from hvg.values.conditioning import Ports

from ..nn.cross_attention import AttendingConfig, MapCrossAttention, num_heads


class AttentionConfig(AttendingConfig):
    """Settings of the guiders and their attention."""


class Attention(MapEncoder[AttentionConfig]):
    """Any number of maps, each with a guider, self-attention over its cells, and a 1x1 projection that starts at zero; summed.

    Several slots are added at the stem, too: maps of one slot and maps of several are told in the same way.

    Source: the guidance encoders of Champ (arXiv 2403.14781), section 3.2 and ``models/guidance_encoder.py``. We differ: one
    attention with a residual, of the last stage's cells, where theirs stands in a transformer block with a feed-forward (of
    several of which its code uses the last alone); no positions, as theirs has none.
    """

    def __init__(self, config: AttentionConfig, maps: Mapping[str, int], context: ConditionerContext) -> None:
        super().__init__(config, maps, context)
        site, stride = stem(context.ports)
        widths = config.stages(site.channels)
        heads = num_heads(config.heads, widths[-1])
        self.channels = list(maps.values())
        self.guiders = nn.ModuleDict({name: guider_stages(count, stride, widths) for name, count in maps.items()})
        self.attentions = nn.ModuleDict({name: MapCrossAttention(widths[-1], heads) for name in maps})
        self.projections = nn.ModuleDict({name: zero_module(nn.Conv2d(widths[-1], site.channels, 1)) for name in maps})

    @classmethod
    def fit(cls, config: AttentionConfig, maps: Mapping[str, int], ports: Ports) -> None:
        site, stride = stem(ports)
        widths = config.stages(site.channels)
        num_halvings(stride, widths)
        num_heads(config.heads, widths[-1])

    def forward(self, maps: Tensor) -> Tensor:
        parts = maps.split(self.channels, dim=1)
        told = [self._encode(name, part) for name, part in zip(self.guiders, parts, strict=True)]
        return sum(told[1:], told[0])

    def _encode(self, name: str, part: Tensor) -> Tensor:
        """What one map (N, K, H, W) adds, (N, D, h, w)."""
        features = self.guiders[name](part)
        return self.projections[name](self.attentions[name](features, features))
