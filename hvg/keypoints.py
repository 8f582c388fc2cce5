"""What metrics of pose have in common: a regressor of key points, and poses relative to a root."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from hvg.frame_metric import FRAMES_PER_CALL, CellMetric, CellMetricConfig
from hvg.protocols import Context, KeypointRegressor, PartConfig, PartName


class KeypointMetricConfig(CellMetricConfig):
    """Settings that every metric of key points has."""

    regressor: Annotated[str, PartName("keypoints", settings="regressor_settings")] = Field(
        "suit", description="Registered name of what finds key points in pictures (hvg list keypoints)."
    )
    regressor_settings: Mapping[str, Any] = Field({}, description="The regressor's own settings.")
    min_confidence: float = Field(
        0.3, ge=0, le=1, description="Key points that are found in the truth with less are not scored, in any arm."
    )


class KeypointMetric(CellMetric):
    """Compares key points that one regressor finds in the prediction and in the truth."""

    Config: ClassVar[type[PartConfig]] = KeypointMetricConfig
    higher_is_better: ClassVar[bool] = False

    def __init__(self, config: Any, context: Context | None = None) -> None:
        """Raises: UnknownPartError for the regressor; NotAvailable where it lacks its file."""
        super().__init__(config, context)
        cls, settings = config.inner_part("regressor")
        self.regressor: KeypointRegressor = cls(settings, context or Context())
        self.networks = self.regressor.networks
        names = self.regressor.names
        self.root = torch.tensor([name in self.regressor.root for name in names])

    @classmethod
    def programs(cls, config: Any) -> tuple[Path, ...]:
        regressor, settings = config.inner_part("regressor")
        return regressor.programs(settings)

    def locate(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        """Pixels (V, T, K, 2) and confidence (V, T, K) in pictures (V, T, 3, H, W) uint8."""
        parts = [self.regressor.locate(some) for some in frames.flatten(0, 1).split(FRAMES_PER_CALL)]
        pixels, confidence = (torch.cat(values).unflatten(0, frames.shape[:2]) for values in zip(*parts, strict=True))
        return pixels, confidence


def at_the_root(points: Tensor, truth: Tensor, common: Tensor, root: Tensor) -> tuple[Tensor, Tensor]:
    """Both poses (..., K, D) less the place of their roots.

    common: (..., K) bool, points that are known in both. root: (K,) bool. The origin is the mean of the root's points that are
    common; of all common points where none of the root's is; and where nothing is, nothing is moved.
    """
    of_root = common & root.to(common.device)
    origin = torch.where(of_root.any(dim=-1, keepdim=True), of_root, common)[..., None].to(points.dtype)

    def centred(pose: Tensor) -> Tensor:
        return pose - (pose.nan_to_num() * origin).sum(dim=-2, keepdim=True) / origin.sum(
            dim=-2, keepdim=True
        ).clamp_min(1)

    return centred(points), centred(truth)


def mean_distance(points: Tensor, truth: Tensor, scored: Tensor, found: Tensor, root: Tensor) -> Tensor:
    """Mean distance (...) of root-relative points (..., K, D) over those that are scored; NaN where none is.

    scored, found: (..., K) bool. A scored point that is not found in the prediction counts as if it lay at the root: it costs
    more the further out it belongs, and leaving a limb out never pays.
    """
    relative, true = at_the_root(points, truth, scored & found, root)
    # Without a point in common the true pose has its own root for its origin.
    alone, _ = at_the_root(truth, truth, scored, root)
    true = torch.where((scored & found).any(dim=-1)[..., None, None], true, alone)
    distance = (relative.where(found[..., None], 0.0) - true).norm(dim=-1)
    return distance.where(scored, 0.0).sum(dim=-1) / scored.sum(dim=-1)
