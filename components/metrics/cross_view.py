"""Consistency of the views of one moment with each other, wherever the true views agree."""

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from hvg.core.bounds import Metres
from hvg.core.required import required
from hvg.geometry.correspondence import Matching, both_ways, check_shapes, excess_inconsistency
from hvg.parts.frame_metric import CellMetric, CellMetricConfig, same_size, unit_range
from hvg.parts.metric import Measurement
from hvg.values.scored_clip import ScoredClip

# Fewer points than this in common say nothing about a pair of pictures.
MIN_POINTS = 8


class CrossView(CellMetric):
    """Cross-view inconsistency, from 0, as the truth's, to 1, that of unrelated points; mean over pairs of views.

    The root mean square difference of colours at surface points that both views show, over that at unrelated points, less
    what the truth has: its shading and sampling differ as well (``hvg.geometry.correspondence.excess_inconsistency``). Places
    come from the true geometry. An error of colour that all views share cancels; one that a view alone makes counts for
    each pair that it is in. What less than a pixel's displacement explains is no difference: pixels are means, and edges fall
    into them differently. A blank or flat picture has 1, and a picture that fades keeps its value.

    Each predicted picture is first moved by the whole pixels (x, y) that bring it nearest to its truth, in mean square
    over the pixels that then overlap, among all moves up to ``reach``: a person who stands a little aside is another
    metric's matter (``temporal_warp``, ``mask_iou``), and would here count as many wrong colours.
    """

    class Config(CellMetricConfig):
        """Settings of the pairs and of the registration."""

        pairs: Literal["circle", "line", "all"] = Field(
            "circle", description="Neighbouring views, with the last and the first; without these; or every two views."
        )
        reach: float = Field(
            1 / 16, ge=0, lt=0.5, description="Largest move of a picture to its truth, as a fraction of its height."
        )
        tolerance_metres: Metres = Field(
            0.01, description="A point is hidden where the surface is elsewhere by more than this."
        )

    definition = (
        "cross_view/excess-{config.pairs}-reach-{config.reach:g}-tolerance-{config.tolerance_metres:g}/"
        "mean-over-{config.average}/v2"
    )
    higher_is_better = False
    requires = frozenset({"surface", "cameras"})

    @torch.no_grad()
    def measure(self, clip: ScoredClip) -> Measurement:
        """``cells``: (V, T) float64, of every view with those that come after it in the pairs; NaN where there is none."""
        clip.require(self.requires)
        same_size(clip)
        pairs = self._pairs(clip.grid[0])
        if not pairs:
            return {}
        surface, cameras = required(clip.surface, "surface")().to(clip.truth.device), required(clip.cameras, "cameras")
        check_shapes(surface, clip.grid, (clip.truth.shape[-2], clip.truth.shape[-1]), cameras)
        truth = unit_range(clip.truth)
        prediction = torch.stack([self._registered(*views) for views in zip(clip.prediction, truth, strict=True)])
        matching = Matching(tolerance_metres=self.config.tolerance_metres)
        errors, counts = torch.zeros(2, *clip.grid, dtype=torch.float64)
        frames = torch.arange(clip.grid[1], device=truth.device)
        for one, other in pairs:
            source, target = (torch.stack([torch.full_like(frames, view), frames], dim=1) for view in (one, other))
            matches = both_ways(surface, cameras, source, target, matching)
            error, count = excess_inconsistency(
                (prediction[one], prediction[other]), (truth[one], truth[other]), matches
            )
            enough = (clip.valid[one] & clip.valid[other] & (count >= MIN_POINTS) & error.isfinite()).cpu()
            errors[one] += (error * count).cpu().where(enough, 0.0)
            counts[one] += count.cpu().where(enough, 0)
        return {"cells": (errors / counts).numpy()}

    def _pairs(self, views: int) -> list[tuple[int, int]]:
        if self.config.pairs == "all":
            return [(first, second) for first in range(views) for second in range(first + 1, views)]
        # A circle of two views has one pair.
        around = self.config.pairs == "circle" and views > 2
        return [(first, (first + 1) % views) for first in range(views if around else views - 1)]

    def _registered(self, prediction: Tensor, truth: Tensor) -> Tensor:
        """Predictions (N, 3, H, W) uint8 in [0, 1], each moved to its truth (N, 3, H, W)."""
        pictures = unit_range(prediction)
        return moved(pictures, nearest_moves(pictures, truth, round(self.config.reach * truth.shape[-2])))


def nearest_moves(prediction: Tensor, truth: Tensor, reach: int) -> Tensor:
    """Moves (N, 2) int64, (x, y) pixels, at which prediction(p + move) is nearest to truth(p), each at most ``reach``.

    Nearest in the mean of squared differences over the pixels where both are known; of equals the smallest move. All
    moves are tried at once: each sum over p is a correlation, which Fourier transforms give for every move.
    """
    height, width = truth.shape[-2:]
    # Moves of one sign and of the other do not meet when the period is longer than the picture by the largest move.
    period = (height + reach, width + reach)

    def transform(x: Tensor) -> Tensor:
        return torch.fft.rfft2(x.double(), s=period)

    def correlation(one: Tensor, other: Tensor) -> Tensor:
        return torch.fft.irfft2(one * other.conj(), s=period)

    known = transform(torch.ones_like(truth[:, 0]))
    cross = correlation(transform(prediction), transform(truth)).sum(dim=1)
    squares = correlation(transform(prediction.double().square().sum(dim=1)), known)
    squares = squares + correlation(known, transform(truth.double().square().sum(dim=1)))
    offsets = torch.arange(-reach, reach + 1, device=truth.device)
    y, x = torch.meshgrid(offsets, offsets, indexing="ij")
    error = ((squares - 2 * cross) / correlation(known, known).clamp_min(0.5))[:, y, x]
    # Far less than a grey level of one pixel, far more than the transforms' rounding.
    error = error.clamp_min(0) + 1e-11 * (y.square() + x.square())
    best = error.flatten(1).argmin(dim=1)
    return torch.stack([x.flatten()[best], y.flatten()[best]], dim=1)


def moved(pictures: Tensor, moves: Tensor) -> Tensor:
    """Pictures (N, C, H, W) read at p + move, (N, 2) as (x, y); beyond the border lies the border's colour."""
    height, width = pictures.shape[-2:]
    rows = (torch.arange(height, device=pictures.device) + moves[:, 1:]).clamp(0, height - 1)
    columns = (torch.arange(width, device=pictures.device) + moves[:, :1]).clamp(0, width - 1)
    number = torch.arange(len(pictures), device=pictures.device)[:, None, None]
    return pictures.permute(0, 2, 3, 1)[number, rows[:, :, None], columns[:, None]].permute(0, 3, 1, 2)
