"""Interface of the encoders of maps, and the places where what they make is added."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING

from torch import Tensor, nn

from hvg.parts.part import ConfigT, Part
from hvg.values.conditioning import Ports, Site

if TYPE_CHECKING:
    from hvg.parts.context import ConditionerContext

STEM = "stem"


class MapEncoder(Part[ConfigT], nn.Module):
    """Control maps (N, K, H, W) -> what is added at the backbone's stem, (N, D, h, w), or at several ``sites``; 0 at the start.

    Conditioners name one by their setting ``encoder``, so that what a map shows and how it is encoded are two words. ``stem``
    says how wide the stem is, and how many pixels one of its cells has.
    """

    def __init__(self, config: ConfigT, maps: Mapping[str, int], context: ConditionerContext) -> None:
        """maps: name -> channels of the maps that a control map is made of, in their order; where nobody is all are 0."""
        super().__init__(config, context)

    @classmethod
    def fit(cls, config: ConfigT, maps: Mapping[str, int], ports: Ports) -> None:
        """Asked before any weight exists. Raises: HvgError where it cannot encode these maps for this stem."""

    @classmethod
    def sites(cls, config: ConfigT, ports: Ports) -> Mapping[str, int]:
        """Residual sites that it fills -> their channels; the stem, unless a part says more."""
        return {STEM: stem(ports)[0].channels}

    @abstractmethod
    def forward(self, maps: Tensor) -> Tensor | Mapping[str, Tensor]:
        """What is added at the stem; site -> what is added there, where a part fills others."""


def by_site(added: Tensor | Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """What an encoder gives, by the sites where it is added."""
    return {STEM: added} if isinstance(added, Tensor) else added


def stem(ports: Ports) -> tuple[Site, int]:
    """Site where control maps are told, and its stride in pixels."""
    site = ports.residuals[STEM]
    return site, site.stride * ports.latent_stride
