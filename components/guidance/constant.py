"""The same guidance scale everywhere. Source: classifier-free guidance (arXiv 2207.12598)."""

import torch
from pydantic import Field
from torch import Tensor

from hvg.core.bounds import GuidanceScale
from hvg.parts.part import PartConfig
from hvg.parts.plan import Guidance, GuidedClips


class ConstantConfig(PartConfig):
    """The scale."""

    value: GuidanceScale = Field(
        1.0, description="Guidance scale; 1 guides not at all and needs no unconditional pass."
    )


class ConstantGuidance(Guidance[ConstantConfig]):
    """One number for all views, frames and levels."""

    def scales(self, clips: GuidedClips, sigma: float) -> Tensor:
        return torch.full((1, *clips.grid), self.config.value)
