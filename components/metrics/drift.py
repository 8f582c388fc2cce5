"""Drift: change of a video's colour error from its beginning to its end."""

from collections.abc import Mapping

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from hvg.parts.frame_metric import FrameMetric
from hvg.parts.metric import Measurement, Score
from hvg.parts.part import PartConfig
from hvg.values.long_clip import LongClip
from hvg.values.scored_clip import ScoredClip

from ..nn.lab_colour import lab


class Drift(FrameMetric):
    """Mean colour error of a video's last quarter of frames minus that of its first; then the mean over views, over clips.

    The error of a frame is the mean CIELAB distance (CIE 1976) of prediction and truth over the pixels of the true person,
    alpha > 0.5; these errors are the pictures' values, so that they can be drawn over time. The truth has 0, and so has any
    error that does not change with time, however large. Below 0, the beginning is worse than the end. So it says what an
    arm does, and not which arm is better: a blank video has 0, and one that begins badly has less.

    Counted are the frames that show the person; a video with too few for a quarter (fewer than 4) has no value.
    """

    definition = "drift/lab-distance-foreground/last-{config.share:g}-minus-first/mean-over-clips/v1"
    unit = "ΔE"
    higher_is_better = False
    verdict = False
    requires = frozenset({"alpha"})

    class Config(PartConfig):
        """Settings of the two ends."""

        share: float = Field(
            0.25, gt=0, le=0.5, description="Share of the frames that each end has, rounded down; at least one frame."
        )

    def score(self, prediction: Tensor, truth: Tensor, alpha: Tensor) -> Tensor:
        """(N,) mean distance; NaN where there is no person."""
        # Only the person's pixels are converted, a frame at a time: in float64 a batch of frames takes gigabytes.
        return torch.stack(
            [
                (lab(p[:, person]) - lab(t[:, person])).square().sum(dim=0).sqrt().mean()
                for p, t, person in zip(prediction, truth, alpha[:, 0] > 0.5, strict=True)
            ]
        )

    def measure(self, clip: ScoredClip) -> Measurement:
        """``cells``: (V, T) float64, the error of every frame; nothing where every view is too short."""
        return self._long_enough(super().measure(clip)["cells"])

    def measure_pieces(self, clip: LongClip) -> Measurement:
        """The same as ``measure``, read piece by piece."""
        cells = [super(Drift, self).measure(piece)["cells"] for piece in clip.pieces()]
        return self._long_enough(np.concatenate(cells, axis=1))

    def _long_enough(self, cells: np.ndarray) -> Measurement:
        return {"cells": cells} if np.isfinite(self._changes(cells)).any() else {}

    def reduce(self, kept: Mapping[str, Measurement]) -> Score:
        """The mean over clips of the mean change of a view."""
        changes = {clip_id: self._changes(arrays["cells"]) for clip_id, arrays in kept.items()}
        per_clip = {clip_id: float(np.nanmean(change)) for clip_id, change in changes.items()}
        every = np.concatenate(list(changes.values()))
        missing = int(np.isnan(every).sum())
        return Score(
            value=float(np.mean(list(per_clip.values()))),
            per_clip=per_clip,
            cells={clip_id: arrays["cells"] for clip_id, arrays in kept.items()},
            count=len(every) - missing,
            counted="videos",
            notes=(f"{missing} videos are too short and were left out",) if missing else (),
        )

    def _changes(self, cells: np.ndarray) -> np.ndarray:
        """(V,) late minus early error of every view, of errors (V, T); NaN where there are too few."""
        return np.asarray([change_between_ends(errors[np.isfinite(errors)], self.config.share) for errors in cells])


def change_between_ends(errors: np.ndarray, share: float) -> float:
    """Mean of the last ``share`` of the errors minus mean of the first; NaN where that is less than one each."""
    count = int(share * len(errors))
    return float(errors[-count:].mean() - errors[:count].mean()) if count else np.nan
