"""Error of the pose in space."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch

from hvg.frame_metric import mean_score
from hvg.geometry.triangulation import determined, triangulate
from hvg.keypoints import KeypointMetric, KeypointMetricConfig, at_the_root, mean_distance
from hvg.protocols import Context, Measurement, Score
from hvg.required import required
from hvg.scored_clip import ScoredClip


class MPJPE(KeypointMetric):
    """Mean per-joint position error, mm: key points triangulated over the views of a moment, relative to the root.

    The true points are triangulated from the true pictures by the same views with the same weights (the product of both
    confidences), so what the regressor does wrong in both cancels. In each view the predicted points are first moved so
    that their root is at the true one: a picture that is moved sideways would otherwise bend the pose in space.
    Which points are scored the truth decides: those that at least two views find from directions 20 degrees apart or more.
    One that the prediction's views do not fix in that way counts as if it lay at the root.
    Source: the measure of Ionescu et al., Human3.6M, TPAMI 2014; there against motion capture.
    """

    Config = KeypointMetricConfig
    unit = "mm"
    requires = frozenset({"cameras"})

    def __init__(self, config: KeypointMetricConfig, context: Context | None = None) -> None:
        """Raises: as of ``KeypointMetric``."""
        super().__init__(config, context)
        found_by = f"{self.regressor.definition}-confidence-{config.min_confidence:g}"
        self.definition = f"mpjpe/{found_by}-view-roots/mean-over-{config.average}/v1"

    @torch.no_grad()
    def measure(self, clip: ScoredClip) -> Measurement:
        """``cells``: (1, T) float64, of every moment; NaN where no point is scored."""
        clip.require(self.requires)
        if clip.grid[0] == 1:
            return {}
        self.regressor.check(clip)
        cameras = required(clip.cameras, "cameras")
        truth, confidence = self.locate(clip.truth)
        truth = truth.double()
        sure = confidence >= max(self.config.min_confidence, 1e-6)
        trusted = confidence * (sure & clip.valid[..., None])
        points, found = self.locate(clip.prediction)
        weights = trusted * found
        points, centred = at_the_root(points.double(), truth, weights > 0, self.root)
        points = points + (truth - centred)
        scored, fixed = determined(truth, trusted, cameras), determined(points, weights, cameras)
        fixed = fixed & determined(truth, weights, cameras)
        # What the prediction does not fix counts as at the root: the true place is then that of all the truth's views.
        true = triangulate(truth, weights, cameras).where(fixed[..., None], triangulate(truth, trusted, cameras))
        error = mean_distance(
            triangulate(points, weights, cameras).nan_to_num(), true.nan_to_num(), scored, fixed, self.root
        )
        return {"cells": 1000 * error[None].cpu().numpy()}

    def reduce(self, kept: Mapping[str, Measurement]) -> Score:
        """The mean over moments; no picture has a value of its own."""
        cells = {clip_id: arrays["cells"] for clip_id, arrays in kept.items()}
        return replace(mean_score(cells, self.config.average, counted="moments"), cells={})
