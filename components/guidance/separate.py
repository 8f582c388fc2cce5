"""A guidance scale for each of several conditions. Source: InstructPix2Pix (arXiv 2211.09800), section 3.2.1, equation 3."""

from collections.abc import Sequence

import torch
from pydantic import Field
from torch import Tensor

from hvg.core.bounds import GuidanceScale
from hvg.parts.part import PartConfig
from hvg.parts.plan import Guidance, GuidedClips, known_slots


class SeparateConfig(PartConfig):
    """Slots and their scales."""

    scales: dict[str, GuidanceScale] = Field(
        {"pose": 2.0, "appearance": 1.5},
        min_length=1,
        max_length=64,
        description="Slot -> its scale, each with a dropout in training. The slots are left out one after another: how far the "
        "estimate goes from what is left to what there was before counts so many times. What is not named is never left out. "
        "{pose: 2, appearance: 1.5} denoises three times: with all, without the pose, without pose and appearance.",
    )


class SeparateGuidance(Guidance[SeparateConfig]):
    """Branch n leaves out the first n slots. With text and image, in this order, these are InstructPix2Pix's two scales."""

    def branches(self, droppable: Sequence[str]) -> tuple[frozenset[str], ...]:
        slots = known_slots(self.config.scales, droppable)
        return tuple(frozenset(slots[: n + 1]) for n in range(len(slots)))

    def scales(self, clips: GuidedClips, sigma: float) -> Tensor:
        scales = torch.tensor([*self.config.scales.values()])
        return scales[:, None, None, None].expand(-1, *clips.grid).clone()
