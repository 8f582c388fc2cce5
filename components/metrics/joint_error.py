"""Error of the pose as it is seen in each picture."""

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from hvg.core.required import required
from hvg.geometry.skeleton import joint_index
from hvg.parts.context import Context
from hvg.parts.keypoint_metric import KeypointMetric, KeypointMetricConfig, distances, mean_cost
from hvg.parts.metric import Measurement
from hvg.values.cameras import project
from hvg.values.scored_clip import NotAvailable, ScoredClip


class JointError(KeypointMetric):
    """Mean distance of 2D key points found in the prediction from the true ones, relative to the root; % of the height.

    Relative to the root, since a person who stands aside has no wrong pose. Which points are scored the truth decides:
    those that the regressor finds there. One that it does not find in the prediction counts as if it lay at the root, and no
    point counts more than that.
    Against ``truth_picture`` what the regressor does wrong cancels, and the truth has 0; against ``projected_joints`` it
    does not.
    """

    class Config(KeypointMetricConfig):
        """Settings of the regressor, and of what it is compared with."""

        against: Literal["truth_picture", "projected_joints"] = Field(
            "truth_picture", description="True points: those found in the true picture, or the body's own joints."
        )

    frames_before = 0
    unit = "%"

    def __init__(self, config: Config, context: Context | None = None) -> None:
        """Raises: as of ``KeypointMetric``."""
        super().__init__(config, context)
        found_by = f"{self.regressor.definition}-confidence-{config.min_confidence:g}"
        self.definition = f"joint_error/{found_by}-{config.against}/mean-over-{config.average}/v3"

    @torch.no_grad()
    def measure(self, clip: ScoredClip) -> Measurement:
        """``cells``: (V, T) float64; NaN for padding, and where no key point is found in the truth."""
        self.regressor.check(clip)
        truth, confidence = self.locate(clip.truth)
        scored = confidence >= max(self.config.min_confidence, 1e-6)
        points, found = self.locate(clip.prediction)
        if self.config.against == "projected_joints":
            truth, known = self._projected(clip)
            scored = scored & known
        error = mean_cost(*distances(points.double(), truth.double(), scored, found > 0, self.root))
        cells = (100 * error / clip.truth.shape[-2]).where(clip.valid, torch.nan)
        return {"cells": cells.cpu().numpy()}

    def _projected(self, clip: ScoredClip) -> tuple[Tensor, Tensor]:
        """Pixels (V, T, K, 2) of the body's joints, and which key points (K,) are such.

        Raises: NotAvailable where none is, or the clip does not hold the body.
        """
        clip.require({"body", "cameras"})
        body, names = required(clip.body, "body"), self.regressor.names
        marks = [self.regressor.joints.get(name, (name,)) for name in names]
        known = [all(joint in body.joint_names for joint in joints) for joints in marks]
        if not any(known):
            raise NotAvailable(f"none of the key points {', '.join(names)} is a joint of the body")
        joints = body.joints[0].to(clip.truth.device)
        places = [
            joints[:, joint_index(body.joint_names, mark if is_known else body.joint_names[:1])].mean(dim=1)
            for mark, is_known in zip(marks, known, strict=True)
        ]
        pixels, _ = project(torch.stack(places, dim=1)[None], required(clip.cameras, "cameras"))
        return pixels, torch.tensor(known, device=pixels.device)
