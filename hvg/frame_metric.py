"""Metrics that score one frame at a time: frame score -> mean over a clip's frames -> mean over clips."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from hvg.errors import DataError
from hvg.layout import fold_frames
from hvg.protocols import Context, Metric, MetricResult
from hvg.types import ClipBatch

# Bounds the memory of one scoring call: SSIM holds five filtered copies of its images.
FRAMES_PER_CALL = 16


class FrameMetric(Metric):
    """Scores every valid frame; keeps one sum and one count per clip, so memory does not grow with frames.

    A clip's value is the mean over its valid frames of all views, the metric's value is the mean over clips. A clip may
    come in several updates. Frames are neither rounded to 8 bits nor resized.

    protocol: id of exactly how the number is computed; a changed computation gets a new id.
    """

    protocol: str
    higher_is_better: ClassVar[bool] = True
    requires_alpha: ClassVar[bool] = False

    def __init__(self, config: Any, context: Context | None = None) -> None:
        self.config = config
        self._sums: dict[str, float] = {}
        self._counts: dict[str, int] = {}
        self._left_out = 0

    @abstractmethod
    def score(self, prediction: Tensor, truth: Tensor, alpha: Tensor) -> Tensor:
        """One score per frame, (N,), of images (N, 3, H, W) in [0, 1] and alpha (N, 1, H, W) in [0, 1].

        Alpha is 1 everywhere where the clip has none, which only metrics without ``requires_alpha`` see.
        """

    def is_defined(self, truth: Tensor, alpha: Tensor) -> Tensor:
        """(N,) bool: frames that have a score. It reads the truth only, so it is the same for every arm."""
        return torch.ones(len(truth), dtype=torch.bool, device=truth.device)

    @torch.no_grad()
    def update(self, prediction: Tensor, batch: ClipBatch) -> None:
        """Adds clips: prediction (B, V, T, 3, H, W) in [-1, 1], truth ``batch.frames``.

        Raises: DataError when the batch has no truth, or no alpha where it is needed; ValueError when shapes differ.
        """
        truth, alpha = batch.frames, batch.alpha
        if truth is None or (alpha is None and self.requires_alpha):
            missing = "frames" if truth is None else "alpha"
            raise DataError(f"metric '{self.protocol}' needs {missing}, which clip '{batch.clip_id[0]}' does not hold")
        if prediction.shape != truth.shape:
            raise ValueError(f"prediction is {tuple(prediction.shape)}, the truth is {tuple(truth.shape)}")
        alpha = torch.ones_like(truth[:, :, :, :1]) if alpha is None else alpha
        valid = torch.ones(batch.grid, dtype=torch.bool) if batch.valid is None else batch.valid
        for i, clip_id in enumerate(batch.clip_id):
            clip = (fold_frames(x[i : i + 1]) for x in (prediction, truth, alpha, valid.to(truth.device)))
            self._update_clip(clip_id, *clip)

    def _update_clip(self, clip_id: str, prediction: Tensor, truth: Tensor, alpha: Tensor, valid: Tensor) -> None:
        """Adds one clip, every tensor with its V T frames first."""
        for index in valid.nonzero()[:, 0].split(FRAMES_PER_CALL):
            true, foreground = _to_unit_range(truth[index]), alpha[index].float()
            scores = self.score(_to_unit_range(prediction[index]), true, foreground)
            scores = scores[self.is_defined(true, foreground)]
            self._left_out += len(index) - len(scores)
            if len(scores):
                self._sums[clip_id] = self._sums.get(clip_id, 0.0) + float(scores.double().sum())
                self._counts[clip_id] = self._counts.get(clip_id, 0) + len(scores)

    def compute(self) -> MetricResult:
        """Mean over clips. Raises: ValueError when no frame was scored."""
        if not self._counts:
            raise ValueError(f"metric '{self.protocol}' has seen no frame that it can score")
        per_clip = {clip_id: self._sums[clip_id] / self._counts[clip_id] for clip_id in self._sums}
        return MetricResult(
            value=sum(per_clip.values()) / len(per_clip),
            per_clip=per_clip,
            higher_is_better=self.higher_is_better,
            protocol=self.protocol,
            count=sum(self._counts.values()),
            notes={"left_out": f"{self._left_out} frames without a score"} if self._left_out else {},
        )


def _to_unit_range(frames: Tensor) -> Tensor:
    """[-1, 1] in any floating type -> [0, 1] in float32, without clamping: a prediction out of range has to show."""
    return (frames.float() + 1) / 2


class ChangeMetric(FrameMetric):
    """Scores how wrongly a clip changes from one frame to the next (or one view to the next), whatever the frames are.

    ``score`` sees the changes of prediction and truth, so that their difference is that of changes in [0, 1] images. A
    clip with one frame (one view) has no score.

    axis: 2 for time; 1 for views, around the whole circle.
    """

    axis: ClassVar[int]
    higher_is_better: ClassVar[bool] = False

    def update(self, prediction: Tensor, batch: ClipBatch) -> None:
        """See ``FrameMetric.update``."""
        truth = batch.frames
        if truth is None or prediction.shape != truth.shape:
            return super().update(prediction, batch)
        count = truth.shape[self.axis]
        # A circle of two views has one change, which would otherwise count twice.
        first = list(range(count if self.axis == 1 and count > 2 else count - 1))
        if not first:
            self._left_out += truth.shape[:3].numel()
            return None
        second = [(i + 1) % count for i in first]

        def change(x: Tensor) -> Tensor:
            places = [torch.tensor(index, device=x.device) for index in (first, second)]
            before, after = (x.float().index_select(self.axis, place) for place in places)
            return after - before

        valid = torch.ones(batch.grid, dtype=torch.bool) if batch.valid is None else batch.valid
        both = valid.index_select(self.axis, torch.tensor(first, device=valid.device)) & valid.index_select(
            self.axis, torch.tensor(second, device=valid.device)
        )
        changes = replace(
            batch.select(**{"views" if self.axis == 1 else "frames": first}),
            frames=change(truth),
            alpha=None,
            valid=both,
        )
        return super().update(change(prediction), changes)

    def score(self, prediction: Tensor, truth: Tensor, alpha: Tensor) -> Tensor:
        """(N,) root mean square over pixels and channels."""
        return (prediction - truth).square().mean(dim=(1, 2, 3)).sqrt()
