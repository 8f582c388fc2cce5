"""Everything trains."""

from collections.abc import Mapping
from typing import ClassVar

from hvg.parts.adapter import Adapter
from hvg.parts.backbone import Backbone
from hvg.parts.model import Conditioner
from hvg.parts.part import PartConfig


class Full(Adapter[PartConfig]):
    """All weights train, but those that the settings of a conditioner freeze."""

    whole: ClassVar[bool] = True

    def adapt(self, backbone: Backbone, conditioners: Mapping[str, Conditioner]) -> dict[str, float]:
        return {}
