"""One window after another, each denoised to its end, with the last frames of the one before in front: finished, and clean.

Source: Wan-Animate (arXiv 2509.14055), whose clips of 77 frames carry over 1 or 5, and SV4D 2.0 (arXiv 2503.16396), whose
windows of 12 frames begin with frames that are made, the last window shifted back. Nothing is blended.
"""

import torch
from pydantic import Field, model_validator
from torch import Tensor

from hvg.core.bounds import FrameCount, FrameCountFromZero
from hvg.parts.part import PartConfig
from hvg.parts.plan import Sampler
from hvg.values.grid import Window

from ..nn.windows import require_overlap_below, segments


class CarryOverConfig(PartConfig):
    """Windows over time, of all views."""

    frames: FrameCount = Field(24, description="Latent frames in a window.")
    carried: FrameCountFromZero = Field(
        1,
        description="Latent frames of a window that the one before has made; more in the last one, which ends with the video. "
        "training.known_frames trains for it.",
    )

    @model_validator(mode="after")
    def _moves_on(self) -> "CarryOverConfig":
        require_overlap_below(self.frames, self.carried, "frames", "carried")
        return self


class CarryOverWindows(Sampler[CarryOverConfig]):
    """Errors grow with the length, and so does nothing else: as many cells are denoised as there are, and the carried ones."""

    def levels(self, num_steps: int, views: int, frames: int) -> Tensor:
        spans = self._spans(frames)
        # The first window that holds a frame makes it.
        maker = torch.tensor([next(n for n, span in enumerate(spans) if i in span) for i in range(frames)])
        step = torch.arange(len(spans) * num_steps + 1)[:, None]
        return (step - maker * num_steps).clamp(0, num_steps)[:, None]

    def windows(self, step: int, num_steps: int, views: int, frames: int) -> list[Window]:
        span = self._spans(frames)[step // num_steps]
        return [Window(tuple(range(views)), span, torch.ones(views, len(span)))]

    def _spans(self, frames: int) -> list[tuple[int, ...]]:
        return segments(frames, self.config.frames, self.config.carried)
