"""Share of the joints that are where they belong."""

from pydantic import Field
from torch import Tensor

from hvg.parts.context import Context
from hvg.parts.keypoint_metric import KeypointMetricConfig

from ..nn.triangulated_pose import TriangulatedPose


class PCK(TriangulatedPose):
    """Share of key points within 150 mm of the true ones, relative to the root, triangulated over the views of a moment.

    One that the prediction's views do not fix is not within. The stray points that decide a mean error count here as one
    wrong point each. Source: 3DPCK of Mehta et al., "Monocular 3D Human Pose Estimation In The Wild", 3DV 2017.
    """

    class Config(KeypointMetricConfig):
        """Settings of the regressor, and of what is right."""

        within: float = Field(150.0, gt=0, le=1e6, description="Millimetres from the true point that are no error.")

    higher_is_better = True

    def __init__(self, config: Config, context: Context | None = None) -> None:
        """Raises: as of ``KeypointMetric``."""
        super().__init__(config, context)
        self.definition = f"pck/{self.found_by}/within-{config.within:g}-mm/mean-over-{config.average}/v2"

    def moments(self, distance: Tensor, reach: Tensor) -> Tensor:
        """Share (T) of the scored points, in [0, 1]."""
        scored = ~distance.isnan()
        return (distance <= self.config.within).sum(dim=-1).double() / scored.sum(dim=-1)
