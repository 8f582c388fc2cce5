"""Guidance that is strongest behind the person. Source: GAS (arXiv 2502.06957).

GAS takes the idea from SV3D (arXiv 2403.12008) and writes it down for 20 views, 1 to 2. This is the same there, and the same
shape for any number.
"""

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from hvg.core.bounds import GuidanceScale
from hvg.parts.part import PartConfig
from hvg.parts.plan import Guidance, GuidedClips


class TriangularConfig(PartConfig):
    """The two ends, and along which axis."""

    minimum: GuidanceScale = Field(1.0, description="Scale of the first view, taken to be nearest to the photo's.")
    maximum: GuidanceScale = Field(2.0, description="Scale on the opposite side of the circle.")
    axis: Literal["views", "frames"] = Field(
        "views", description="Along what it rises and falls; frames is for one camera that goes around, as in GAS."
    )


class TriangularGuidance(Guidance[TriangularConfig]):
    """minimum + (maximum - minimum) (1 - |1 - 2 i / n|) at i of n evenly spaced around a full circle."""

    def scales(self, clips: GuidedClips, sigma: float) -> Tensor:
        (_, views, frames), along_frames = clips.grid, self.config.axis == "frames"
        number = frames if along_frames else views
        rise = 1 - (1 - 2 * torch.arange(number) / number).abs()
        scales = self.config.minimum + (self.config.maximum - self.config.minimum) * rise
        return (scales[None] if along_frames else scales[:, None]).expand(1, *clips.grid).clone()
