"""The encoder that control maps have unless another is chosen: one guider for all of a map's channels."""

from collections.abc import Mapping

from torch import Tensor

from hvg.parts.context import ConditionerContext
from hvg.parts.guider import Guider, GuiderConfig, num_halvings
from hvg.parts.map_encoder import MapEncoder, stem
from hvg.values.conditioning import Ports


class GuiderEncoder(MapEncoder[GuiderConfig]):
    """The condition encoder of ControlNet (arXiv 2302.05543) in the form of AnimateAnyone (arXiv 2311.17117): ``Guider``."""

    def __init__(self, config: GuiderConfig, maps: Mapping[str, int], context: ConditionerContext) -> None:
        super().__init__(config, maps, context)
        site, stride = stem(context.ports)
        guider = Guider(sum(maps.values()), site.channels, stride, config.stages(site.channels))
        self.stages, self.projection = guider.stages, guider.projection

    @classmethod
    def fit(cls, config: GuiderConfig, maps: Mapping[str, int], ports: Ports) -> None:
        site, stride = stem(ports)
        num_halvings(stride, config.stages(site.channels))

    def forward(self, maps: Tensor) -> Tensor:
        return self.projection(self.stages(maps))
