"""Guidance that grows over frames or views. Source: Stable Video Diffusion (arXiv 2311.15127), which guides frames far from
the photo more; its diffusers pipeline goes from 1 to 3."""

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from hvg.core.bounds import GuidanceScale
from hvg.parts.part import PartConfig
from hvg.parts.plan import Guidance, GuidedClips


class LinearConfig(PartConfig):
    """Settings: scales at both ends, and the axis along which the scale grows."""

    minimum: GuidanceScale = Field(1.0, description="Scale of the first frame or view.")
    maximum: GuidanceScale = Field(3.0, description="Scale of the last frame or view.")
    axis: Literal["frames", "views"] = Field(
        "frames", description="Along what it grows; it is constant along the other."
    )


class LinearGuidance(Guidance[LinearConfig]):
    """minimum + (maximum - minimum) i / (n - 1) at i of n; minimum where there is only one."""

    def scales(self, clips: GuidedClips, sigma: float) -> Tensor:
        (_, views, frames), along_frames = clips.grid, self.config.axis == "frames"
        ramp = torch.linspace(self.config.minimum, self.config.maximum, frames if along_frames else views)
        return (ramp[None] if along_frames else ramp[:, None]).expand(1, *clips.grid).clone()
