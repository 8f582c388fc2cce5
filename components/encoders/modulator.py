"""HVG's articulated pose modulator: a guider for each map, fused by cross-attention."""

from collections.abc import Mapping

from torch import Tensor, nn

from hvg.core.errors import HvgError
from hvg.parts.context import ConditionerContext
from hvg.parts.guider import guider_stages, num_halvings
from hvg.parts.map_encoder import MapEncoder, stem
from hvg.parts.zero import zero_module
from hvg.values.conditioning import Ports

from ..nn.cross_attention import AttendingConfig, MapCrossAttention, num_heads


class ModulatorConfig(AttendingConfig):
    """Settings of the modulator."""


class Modulator(MapEncoder[ModulatorConfig]):
    """One or two maps with a guider each; of two, the first asks (query) and the second answers (key, value).

    The first map's features plus what they find in the second's, then a zero-initialised 1x1 projection. With one map there is no
    cross-attention, which leaves ``guider``.

    Source: HVG (arXiv 2602.21188), section 3.2. The paper leaves open which map is the query, the heads, and the initialisation;
    our choices are in decision 15.
    """

    def __init__(self, config: ModulatorConfig, maps: Mapping[str, int], context: ConditionerContext) -> None:
        super().__init__(config, maps, context)
        site, stride = stem(context.ports)
        widths = config.stages(site.channels)
        self.channels = list(maps.values())
        self.guiders = nn.ModuleDict({name: guider_stages(count, stride, widths) for name, count in maps.items()})
        fused = len(maps) == 2
        self.fusion = MapCrossAttention(widths[-1], num_heads(config.heads, widths[-1])) if fused else None
        self.projection = zero_module(nn.Conv2d(widths[-1], site.channels, 1))

    @classmethod
    def fit(cls, config: ModulatorConfig, maps: Mapping[str, int], ports: Ports) -> None:
        site, stride = stem(ports)
        widths = config.stages(site.channels)
        num_halvings(stride, widths)
        num_heads(config.heads, widths[-1])
        if len(maps) > 2:
            raise HvgError(
                f"modulator fuses two maps at most, not {len(maps)} ({', '.join(maps)}); choose another encoder"
            )

    def forward(self, maps: Tensor) -> Tensor:
        parts = maps.split(self.channels, dim=1)
        features = [guider(part) for guider, part in zip(self.guiders.values(), parts, strict=True)]
        return self.projection(features[0] if self.fusion is None else self.fusion(*features))
