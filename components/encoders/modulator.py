"""HVG's articulated pose modulator: a guider for each map, fused by cross-attention."""

from collections.abc import Mapping

from pydantic import Field
from torch import Tensor, nn

from hvg.core.bounds import Heads
from hvg.core.errors import HvgError
from hvg.parts.context import ConditionerContext
from hvg.parts.guider import GuiderConfig, guider_stages, num_halvings
from hvg.parts.map_encoder import MapEncoder, stem
from hvg.parts.zero import zero_module
from hvg.values.conditioning import Ports

from ..nn.cross_attention import MapCrossAttention

# Channels of a head of cross-attention that the default number of heads aims at; SVD's own heads have as many.
HEAD_WIDTH = 64


class ModulatorConfig(GuiderConfig):
    """Settings of the modulator."""

    heads: Heads | None = Field(
        None,
        description="Heads of the cross-attention; divides the last width. null: heads about 64 channels wide.",
    )


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


def num_heads(heads: int | None, width: int) -> int:
    """The configured number of heads; else the one that makes heads most nearly ``HEAD_WIDTH`` channels wide.

    Raises: HvgError where ``heads`` does not divide ``width``.
    """
    if heads is None:
        return min((n for n in range(1, width + 1) if width % n == 0), key=lambda n: abs(width / n - HEAD_WIDTH))
    if width % heads:
        raise HvgError(f"heads={heads} does not divide the {width} channels of the guider's last stage")
    return heads
