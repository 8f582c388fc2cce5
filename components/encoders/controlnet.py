"""ControlNet's encoder: the map's features go through a copy of the backbone's own first layers."""

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Field
from torch import Tensor, nn

from hvg.core.errors import HvgError
from hvg.parts.context import ConditionerContext
from hvg.parts.continued import Continued
from hvg.parts.guider import GuiderConfig, guider_stages, num_halvings
from hvg.parts.map_encoder import STEM, MapEncoder, stem
from hvg.values.conditioning import Ports


class ControlNetConfig(GuiderConfig):
    """Settings of the copy."""

    first: int | None = Field(
        None,
        ge=1,
        le=1024,
        description="Residual sites behind the stem that are filled, counted from the front, and so how much of the backbone is "
        "copied. null: those in its first half, of a UNet all on the way down and in the middle.",
    )
    checkpointing: Annotated[Literal["none", "blocks"], Continued.FREE] = Field(
        "none", description="blocks: recompute the copy's blocks in the backward pass."
    )


class ControlNet(MapEncoder[ControlNetConfig]):
    """A guider's stages and a 1x1 projection to the stem's width, then a trained copy of the backbone's first spatial layers.

    Every site has a projection that starts at zero (``Backbone.control_encoder``). The copy starts from the backbone's weights,
    published ones where it loaded them.

    Source: ControlNet (arXiv 2302.05543), section 3. We differ: the copy sees the map alone, neither noise nor its level.
    """

    def __init__(self, config: ControlNetConfig, maps: Mapping[str, int], context: ConditionerContext) -> None:
        super().__init__(config, maps, context)
        site, stride = stem(context.ports)
        widths = config.stages(site.channels)
        self.stages = guider_stages(sum(maps.values()), stride, widths)
        self.projection = nn.Conv2d(widths[-1], site.channels, 1)
        sites = [*self.sites(config, context.ports)]
        self.copy = context.backbone.control_encoder(sites, config.checkpointing == "blocks")

    @classmethod
    def fit(cls, config: ControlNetConfig, maps: Mapping[str, int], ports: Ports) -> None:
        site, stride = stem(ports)
        num_halvings(stride, config.stages(site.channels))
        behind, asked = len(ports.residuals) - 1, config.first or 1
        if asked > behind:
            raise HvgError(
                f"controlnet fills {asked} or more residual sites behind the stem, of which this backbone has {behind}"
            )

    @classmethod
    def sites(cls, config: ControlNetConfig, ports: Ports) -> Mapping[str, int]:
        behind = [(name, site) for name, site in ports.residuals.items() if name != STEM]
        chosen = (
            [(name, site) for name, site in behind if site.early] if config.first is None else behind[: config.first]
        )
        return {name: site.channels for name, site in chosen}

    def forward(self, maps: Tensor) -> Mapping[str, Tensor]:
        return self.copy(self.projection(self.stages(maps)))
