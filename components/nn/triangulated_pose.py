"""Poses in space, found in the pictures of several views: what metrics of them measure."""

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import replace
from typing import ClassVar

import torch
from torch import Tensor

from hvg.core.required import required
from hvg.geometry.triangulation import determined, triangulate
from hvg.parts.context import Context
from hvg.parts.frame_metric import mean_score
from hvg.parts.keypoint_metric import KeypointMetric, KeypointMetricConfig, at_the_root, distances
from hvg.parts.metric import Measurement, Score
from hvg.values.scored_clip import ScoredClip


class TriangulatedPose(KeypointMetric):
    """Compares key points triangulated over the views of a moment, relative to the root.

    The true points are triangulated from the true pictures by the same views with the same weights (the product of both
    confidences), so what the regressor does wrong in both cancels. In each view the predicted points are first moved so
    that their root is at the true one: a picture that is moved sideways would otherwise bend the pose in space.
    Which points are scored the truth decides: those that at least two views find from directions 20 degrees apart or more.
    """

    requires: ClassVar[frozenset[str]] = frozenset({"cameras"})

    def __init__(self, config: KeypointMetricConfig, context: Context | None = None) -> None:
        """Raises: as of ``KeypointMetric``."""
        super().__init__(config, context)
        self.found_by = f"{self.regressor.definition}-confidence-{config.min_confidence:g}-view-roots"
        self.measurement = f"triangulated_pose/{self.found_by}/v2"

    @abstractmethod
    def moments(self, distance: Tensor, reach: Tensor) -> Tensor:
        """The value of every moment (T), NaN where no point is scored; arguments (T, K) as ``measure`` keeps them."""

    @torch.no_grad()
    def measure(self, clip: ScoredClip) -> Measurement:
        """``distance``, ``reach``: (T, K) float64, mm, as of ``hvg.parts.keypoint_metric.distances``; nothing where
        there is one view."""
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
        points, centred = at_the_root(points.double(), truth, trusted > 0, found > 0, self.root)
        points = points + (truth - centred)
        scored, fixed = determined(truth, trusted, cameras), determined(points, weights, cameras)
        fixed = fixed & determined(truth, weights, cameras)
        # What the prediction does not fix is not found: the true place is then that of all the truth's views.
        true = triangulate(truth, weights, cameras).where(fixed[..., None], triangulate(truth, trusted, cameras))
        triangulated = triangulate(points, weights, cameras).nan_to_num()
        found_at = distances(triangulated, true.nan_to_num(), scored, fixed, self.root)
        return {name: (1000 * x).cpu().numpy() for name, x in zip(("distance", "reach"), found_at, strict=True)}

    def reduce(self, kept: Mapping[str, Measurement]) -> Score:
        """The mean over moments; no picture has a value of its own."""
        cells = {
            clip_id: self.moments(*(torch.from_numpy(arrays[name]) for name in ("distance", "reach"))).numpy()[None]
            for clip_id, arrays in kept.items()
        }
        return replace(mean_score(cells, self.config.average, counted="moments"), cells={})
