"""A video diffusion model of people: conditioners steer a backbone that denoises a codec's latents."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, ClassVar

from hvg.parts.part import PartConfig
from hvg.parts.system import System

if TYPE_CHECKING:
    from hvg.config.settings import RunConfig
    from hvg.model.system import HumanVideoSystem
    from hvg.parts.backbone import Backbone


class HumanVideo(System[PartConfig]):
    """A video model: every part but a reconstructor. Its steps are ``hvg.model.system.HumanVideoSystem``'s."""

    uses: ClassVar[frozenset[str]] = frozenset(
        {
            *("alignment", "codec", "backbone", "view_attention", "prediction"),
            *("conditioner", "sampler", "solver", "guidance"),
        }
    )

    def build(self, run: RunConfig, start: Callable[[Backbone], None] | None = None) -> HumanVideoSystem:
        # Late: wrong words are told without what trains.
        from hvg.model.load import build_video_model

        return build_video_model(run, start)
