"""Base of the metrics of pose: a regressor of key points, and poses relative to a root."""

# Of some methods of tensors the library does not say what they give.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
from collections.abc import Mapping
from itertools import combinations
from pathlib import Path
from typing import Annotated, Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from hvg.parts.context import Context
from hvg.parts.frame_metric import FRAMES_PER_CALL, CellMetric, CellMetricConfig
from hvg.parts.metric import KeypointRegressor
from hvg.parts.part import PartConfig, PartName


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
    higher_is_better = False

    def __init__(self, config: KeypointMetricConfig, context: Context | None = None) -> None:
        """Raises: UnknownPartError for the regressor; NotAvailable where it lacks its file."""
        super().__init__(config, context)
        cls, settings = config.inner_part("regressor")
        self.regressor: KeypointRegressor = cls(settings, context or Context())
        self.networks = self.regressor.networks
        names = self.regressor.names
        self.root = torch.tensor([name in self.regressor.root for name in names])

    @classmethod
    def programs(cls, config: KeypointMetricConfig) -> tuple[Path, ...]:
        regressor, settings = config.inner_part("regressor")
        return regressor.programs(settings)

    def locate(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        """Pixels (V, T, K, 2) and confidence (V, T, K) in pictures (V, T, 3, H, W) uint8."""
        parts = [self.regressor.locate(some) for some in frames.flatten(0, 1).split(FRAMES_PER_CALL)]
        pixels, confidence = (torch.cat(values).unflatten(0, frames.shape[:2]) for values in zip(*parts, strict=True))
        return pixels, confidence


def at_the_root(points: Tensor, truth: Tensor, scored: Tensor, found: Tensor, root: Tensor) -> tuple[Tensor, Tensor]:
    """Both poses (..., K, D) less the place of their roots.

    scored, found: (..., K) bool. root: (K,) bool. The origin is the mean of the root's points that are both; of all points that
    are both where none of the root's is; and where nothing is, nothing is moved. Points of the root are left out of it where
    the poses then differ less (by ``mean_cost``): one that is found badly would move all others, as none does that is not found.
    """
    root, common = root.to(scored.device), scored & found
    reach = _reach(truth, scored, root)
    best, least = _origin(common, root), torch.full_like(reach[..., :1], torch.inf)
    of_root = root.nonzero()[:, 0].tolist()
    for left_out in (some for count in range(len(of_root) + 1) for some in combinations(of_root, count)):
        known = common.clone()
        known[..., list(left_out)] = False
        origin = _origin(known, root)
        distance = (_centred(points, origin) - _centred(truth, origin)).norm(dim=-1)
        cost = torch.minimum(distance, reach).where(common, 0).sum(dim=-1, keepdim=True)
        best, least = torch.where(cost < least, origin, best), torch.minimum(cost, least)
    return _centred(points, best), _centred(truth, best)


def _reach(truth: Tensor, scored: Tensor, root: Tensor) -> Tensor:
    """Distances of the true points from the root, (..., K)."""
    return _centred(truth, _origin(scored, root)).norm(dim=-1)


def _origin(known: Tensor, root: Tensor) -> Tensor:
    """(..., K) bool: the points whose mean is the origin, of those that are known."""
    of_root = known & root
    return torch.where(of_root.any(dim=-1, keepdim=True), of_root, known)


def _centred(pose: Tensor, origin: Tensor) -> Tensor:
    weight = origin[..., None].to(pose.dtype)
    return pose - (pose.nan_to_num() * weight).sum(dim=-2, keepdim=True) / weight.sum(dim=-2, keepdim=True).clamp_min(1)


def distances(points: Tensor, truth: Tensor, scored: Tensor, found: Tensor, root: Tensor) -> tuple[Tensor, Tensor]:
    """How far root-relative points (..., K, D) are from the true ones, and how far the true ones are from the root, (..., K).

    scored, found: (..., K) bool. Both are NaN where a point is not scored; the first is infinite where it is not found. The
    second belongs to the truth alone, whatever is found.
    """
    relative, true = at_the_root(points, truth, scored, found, root)
    distance = (relative - true).norm(dim=-1).where(found, torch.inf)
    return distance.where(scored, torch.nan), _reach(truth, scored, root.to(scored.device)).where(scored, torch.nan)


def mean_cost(distance: Tensor, reach: Tensor) -> Tensor:
    """Mean (...) over the scored points of their distances, each at most that of the true point from the root; NaN where none is.

    distance, reach: (..., K), as of ``distances``. So a point that is not found counts as if it lay at the root: it costs more
    the further out it belongs, leaving a limb out never pays, and a point that is found badly costs no more than one that is
    not found.
    """
    return torch.minimum(distance, reach).nanmean(dim=-1)
