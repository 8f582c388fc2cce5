"""Metrics that score one picture at a time: picture -> mean over a clip's pictures -> mean over clips (or pictures)."""

# Of some methods of tensors the library does not say what they give.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor
from typing_extensions import TypeVar

from hvg.core.errors import HvgError
from hvg.parts.metric import Measurement, Metric, Score
from hvg.parts.part import PartConfig
from hvg.values.long_clip import LongClip
from hvg.values.scored_clip import NotAvailable, ScoredClip

# Bound the memory of one scoring call: float64 and a few copies take some 200 bytes a pixel.
FRAMES_PER_CALL = 16
PIXELS_PER_CALL = 2**22


class CellMetricConfig(PartConfig):
    """Settings that every metric of single pictures has."""

    average: Literal["clips", "frames"] = Field(
        "clips",
        description="The value is the mean over clips of their means, or the mean over all frames of all clips.",
    )


CellT = TypeVar("CellT", bound=CellMetricConfig, default=Any)


class CellMetric(Metric[CellT]):
    """Keeps one number for every cell of a clip's V x T grid: ``cells``, (V, T) float64, NaN where there is none.

    Its settings derive from ``CellMetricConfig``. frames_before: how many frames before its own a number depends on: 0 where
    each is of one moment. Then a long clip is measured piece by piece along time. None: it depends on more.
    """

    Config: ClassVar[type[PartConfig]] = CellMetricConfig
    counted: ClassVar[str] = "frames"
    frames_before: ClassVar[int | None] = None

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if cls.reduce is CellMetric.reduce and not issubclass(cls.Config, CellMetricConfig):
            raise TypeError(
                f"{cls.__name__}: settings of a metric of pictures derive from CellMetricConfig; {cls.Config.__name__} does not"
            )

    def measure_pieces(self, clip: LongClip) -> Measurement:
        """The same as ``measure``, read piece by piece."""
        if self.frames_before is None:
            return super().measure_pieces(clip)
        kept = [self.measure(piece) for piece in clip.pieces(self.frames_before)]
        cells = [arrays["cells"] for arrays in kept if arrays]
        return {"cells": np.concatenate(cells, axis=1)} if cells else {}

    def reduce(self, kept: Mapping[str, Measurement]) -> Score:
        """The mean. Raises: NotAvailable when no cell has a value."""
        cells = {clip_id: arrays["cells"] for clip_id, arrays in kept.items()}
        return mean_score(cells, self.config.average, self.counted)


class FrameMetric(CellMetric[CellT]):
    """Scores every valid frame of every view by itself."""

    frames_before = 0

    @abstractmethod
    def score(self, prediction: Tensor, truth: Tensor, alpha: Tensor) -> Tensor:
        """One score per frame, (N,), of images (N, 3, H, W) uint8 and coverage alpha (N, 1, H, W) float in [0, 1].

        NaN where a frame has no score; that may depend on the truth only, so that it is the same for every arm. Alpha is
        1 everywhere where the clip has none, which only metrics that do not require it see.
        """

    @torch.no_grad()
    def measure(self, clip: ScoredClip) -> Measurement:
        """``cells``: (V, T) float64, NaN where a frame is padding or has no score.

        Raises: NotAvailable when the clip lacks a field; ValueError when the pictures differ in size.
        """
        clip.require(self.requires)
        same_size(clip)
        cells = torch.full(clip.grid, torch.nan, dtype=torch.float64).flatten()
        prediction, truth = clip.prediction.flatten(0, 1), clip.truth.flatten(0, 1)
        alpha = None if clip.alpha is None else clip.alpha.flatten(0, 1)
        valid = clip.valid.flatten().nonzero()[:, 0].cpu()
        for index in calls(valid, clip.truth.shape[-2] * clip.truth.shape[-1]):
            true = truth[index]
            cover = torch.ones_like(true[:, 0], dtype=torch.float32) if alpha is None else alpha[index].float()
            scores = self.score(prediction[index], true, cover[:, None])
            if scores.shape != (len(index),):
                raise HvgError(
                    f"{type(self).__name__}.score gives {tuple(scores.shape)}; expected ({len(index)},), a number a frame"
                )
            cells[index] = scores.double().cpu()
        return {"cells": cells.view(clip.grid).numpy()}


def calls(frames: Tensor, pixels: int) -> list[Tensor]:
    """Places of frames (N), in groups that are scored together, by their number of pixels.

    Groups of ``FRAMES_PER_CALL`` are divided where pictures are large.
    """
    groups = [group for group in frames.split(FRAMES_PER_CALL) if len(group)]
    return [part for group in groups for part in parts(group, max(1, PIXELS_PER_CALL // pixels))]


def parts(frames: Tensor, most: int) -> Sequence[Tensor]:
    """Places of frames (N), N > 0, in parts of about ``most``, none of which is a single frame unless there is one only.

    Torch may add up the values of a single frame in another order than those of several: the last bits of a score would
    depend on the parts.
    """
    return frames.tensor_split(min(-(-len(frames) // most), max(1, len(frames) // 2)))


def same_size(clip: ScoredClip) -> None:
    """Raises: ValueError when prediction and truth differ in size."""
    if clip.prediction.shape != clip.truth.shape:
        sizes = [f"{frames.shape[-1]} x {frames.shape[-2]}" for frames in (clip.prediction, clip.truth)]
        raise ValueError(f"clip '{clip.clip_id}': the prediction is {sizes[0]} pixels, the truth {sizes[1]}")


def mean_score(
    cells: Mapping[str, np.ndarray], average: Literal["clips", "frames"] = "clips", counted: str = "frames"
) -> Score:
    """The score of clip id -> (V, T) values, NaN where there is none.

    Raises: NotAvailable when there is no value at all.
    """
    counts = {clip_id: int(np.isfinite(values).sum()) for clip_id, values in cells.items()}
    per_clip = {clip_id: float(np.nanmean(cells[clip_id])) for clip_id, count in counts.items() if count}
    if not per_clip:
        raise NotAvailable(f"none of the {counted} has a score")
    total = sum(counts.values())
    weights = {clip_id: counts[clip_id] / total if average == "frames" else 1 / len(per_clip) for clip_id in per_clip}
    missing = sum(values.size for values in cells.values()) - total
    return Score(
        value=sum(per_clip[clip_id] * weights[clip_id] for clip_id in per_clip),
        per_clip=per_clip,
        cells=cells,
        count=total,
        counted=counted,
        notes=(f"{missing} {counted} have no score",) if missing else (),
    )


def unit_range(frames: Tensor) -> Tensor:
    """uint8 -> float32 in [0, 1]."""
    return frames.float() / 255


class ChangeMetric(CellMetric[CellT]):
    """Scores how wrongly a clip changes from one frame to the next (or one view to the next), whatever the frames are.

    A clip with one frame (one view) has no score. axis: 1 for time; 0 for views, around the whole circle.
    """

    axis: ClassVar[int]
    higher_is_better = False
    counted: ClassVar[str] = "changes"

    @torch.no_grad()
    def measure(self, clip: ScoredClip) -> Measurement:
        """``cells``: float64, the error of the change that begins at a cell; NaN where one of the two is padding.

        (V, T - 1) along time; (V, T) along views, where the last view is followed by the first, and (1, T) for two views.
        """
        clip.require(self.requires)
        same_size(clip)
        count = clip.grid[self.axis]
        if count == 1:
            return {}
        changes = []
        # A circle of two views has one change, which would otherwise count twice.
        for first in range(count if self.axis == 0 and count > 2 else count - 1):
            pair = (first, (first + 1) % count)
            both = clip.valid.select(self.axis, pair[0]) & clip.valid.select(self.axis, pair[1])
            changes.append(self.errors(clip, pair).where(both.cpu(), torch.nan))
        return {"cells": torch.stack(changes, dim=self.axis).numpy()}

    def errors(self, clip: ScoredClip, pair: tuple[int, int]) -> Tensor:
        """(N,) float64 of the change between two places on the axis, for every place on the other one."""
        places = torch.arange(clip.grid[1 - self.axis])
        most = max(FRAMES_PER_CALL, PIXELS_PER_CALL // (clip.truth.shape[-2] * clip.truth.shape[-1]))
        errors = []
        for part in parts(places, most):
            some = slice(int(part[0]), int(part[-1]) + 1)
            before, after = (
                [unit_range(frames.select(self.axis, place)[some]) for frames in (clip.prediction, clip.truth)]
                for place in pair
            )
            errors.append(self.score_change(after[0] - before[0], after[1] - before[1]).double().cpu())
        return torch.cat(errors)

    def score_change(self, prediction: Tensor, truth: Tensor) -> Tensor:
        """(N,) root mean square over pixels and channels of changes (N, 3, H, W) of images in [0, 1]."""
        return (prediction - truth).square().mean(dim=(1, 2, 3)).sqrt()
