"""Guidance by task: grows towards the person's back for a novel view, is the same everywhere for a novel pose.

Source: GAS (arXiv 2502.06957), section 3.5.
"""

from collections.abc import Sequence
from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor

from hvg.core.bounds import GuidanceScale
from hvg.core.required import required
from hvg.parts.part import PartConfig
from hvg.parts.plan import Guidance, GuidedClips, known_slots
from hvg.values.cameras import azimuths_degrees
from hvg.values.task import NOVEL_VIEW

# Slots that say what the photo shows; GAS has the first and the last.
_OF_THE_PHOTO = ("appearance", "reference_keys", "image_embedding")


class GasConfig(PartConfig):
    """Scales of both tasks, and what the unconditional branch is not told."""

    minimum: GuidanceScale = Field(1.0, description="Scale of a novel view from where its first camera stands.")
    maximum: GuidanceScale = Field(2.0, description="Scale of a novel view from the opposite side.")
    pose: GuidanceScale = Field(2.0, description="Scale of a novel pose, for all views and frames.")
    drops: tuple[str, ...] | None = Field(
        None,
        min_length=1,
        max_length=64,
        description="Slots that the unconditional branch is without, each with a dropout in training. null: those of appearance, "
        "reference_keys and image_embedding that have one; so it keeps the pose, a reconstruction's render and the task.",
    )


class GasGuidance(Guidance[GasConfig]):
    """Novel view: minimum + (maximum - minimum) a / 180, a camera at a degrees, at most 180, around the vertical from the first.

    Of F cameras evenly around the person that is GAS's minimum + (maximum - minimum) min(i, F - i) / (F / 2), along views, or
    along frames where one camera goes around; its code fixes F = 20. Novel pose: one number, as in the text; the code ramps.
    """

    requires: ClassVar[frozenset[str]] = frozenset({"task"})

    def branches(self, droppable: Sequence[str]) -> tuple[frozenset[str], ...]:
        if self.config.drops is None:
            return (frozenset(_OF_THE_PHOTO).intersection(droppable),)
        return (frozenset(known_slots(self.config.drops, droppable)),)

    def scales(self, clips: GuidedClips, sigma: float) -> Tensor:
        azimuths = azimuths_degrees(required(clips.cameras, "GuidedClips.cameras"))
        away = (torch.remainder(azimuths - azimuths[:, :1, :1] + 180, 360) - 180).abs()
        views = self.config.minimum + (self.config.maximum - self.config.minimum) * away / 180
        is_view = required(clips.task, "GuidedClips.task")[:, None, None] == NOVEL_VIEW
        return torch.where(is_view, views, self.config.pose)[None]
