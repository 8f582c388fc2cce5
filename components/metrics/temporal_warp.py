"""Steadiness of the texture on the person's surface while the person moves."""

import torch
from pydantic import Field

from hvg.core.bounds import Metres
from hvg.core.required import required
from hvg.geometry.correspondence import Matching, both_ways, check_shapes, excess_inconsistency
from hvg.parts.frame_metric import CellMetric, CellMetricConfig, same_size, unit_range
from hvg.parts.metric import Measurement
from hvg.values.scored_clip import ScoredClip

# Fewer points than this in common say nothing about a pair of pictures.
MIN_POINTS = 8


class TemporalWarp(CellMetric):
    """Temporal inconsistency, from 0, as the truth's, to 1, that of unrelated points; mean over frames and the next.

    The root mean square difference of colours at surface points that both frames show, over that at unrelated points, less
    what the truth has: its shading changes as people turn (``hvg.geometry.correspondence.excess_inconsistency``). Places come
    from the true motion of the mesh. A frame that is moved, flicker and texture that slides over the body count, also where
    the person stands still; a wrong colour that stays on its point does not. What less than a pixel's displacement explains
    is no difference. A blank or flat video has 1, and a video that fades keeps its value. One that stands still is bad
    only as far as the person moves.

    Source: the warping error of Lai et al., "Learning Blind Video Temporal Consistency", ECCV 2018, equation 8: squared
    difference of a frame and its warped neighbour where flow is not occluded. There the flow is estimated from the
    pictures, and nothing is divided by: a blank video is the best.
    """

    class Config(CellMetricConfig):
        """Settings of the matching."""

        tolerance_metres: Metres = Field(
            0.01, description="A point is hidden where the surface is elsewhere by more than this."
        )

    definition = "temporal_warp/excess-tolerance-{config.tolerance_metres:g}/mean-over-{config.average}/v2"
    counted = "changes"
    higher_is_better = False
    requires = frozenset({"surface", "cameras"})

    @torch.no_grad()
    def measure(self, clip: ScoredClip) -> Measurement:
        """``cells``: (V, T - 1) float64, of every frame with the next; NaN where too little is seen of both."""
        clip.require(self.requires)
        same_size(clip)
        views, frames = clip.grid
        if frames == 1:
            return {}
        surface, cameras = required(clip.surface, "surface")().to(clip.truth.device), required(clip.cameras, "cameras")
        check_shapes(surface, clip.grid, (clip.truth.shape[-2], clip.truth.shape[-1]), cameras)
        prediction, truth = unit_range(clip.prediction), unit_range(clip.truth)
        matching = Matching(tolerance_metres=self.config.tolerance_metres)
        view = torch.arange(views, device=truth.device)
        cells = torch.full((views, frames - 1), torch.nan, dtype=torch.float64)
        for t in range(frames - 1):
            source, target = (torch.stack([view, torch.full_like(view, s)], dim=1) for s in (t, t + 1))
            matches = both_ways(surface, cameras, source, target, matching)
            error, count = excess_inconsistency(
                (prediction[:, t], prediction[:, t + 1]), (truth[:, t], truth[:, t + 1]), matches
            )
            enough = clip.valid[:, t] & clip.valid[:, t + 1] & (count >= MIN_POINTS)
            cells[:, t] = error.where(enough, torch.nan).cpu()
        return {"cells": cells.numpy()}
