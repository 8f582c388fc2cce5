"""Error of the pose in space."""

from torch import Tensor

from hvg.parts.context import Context
from hvg.parts.keypoint_metric import KeypointMetricConfig, mean_cost

from ..nn.triangulated_pose import TriangulatedPose


class MPJPE(TriangulatedPose):
    """Mean per-joint position error, mm, relative to the root: key points triangulated over the views of a moment.

    A point that the prediction's views do not fix counts as if it lay at the root, and no point counts more than that: one
    that is triangulated far away would otherwise outweigh all others. ``pck`` says beside it how many points are right.
    Source: the measure of Ionescu et al., Human3.6M, TPAMI 2014; there against motion capture, and without a bound.
    """

    Config = KeypointMetricConfig
    unit = "mm"

    def __init__(self, config: KeypointMetricConfig, context: Context | None = None) -> None:
        """Raises: as of ``KeypointMetric``."""
        super().__init__(config, context)
        self.definition = f"mpjpe/{self.found_by}/at-most-the-root/mean-over-{config.average}/v3"

    def moments(self, distance: Tensor, reach: Tensor) -> Tensor:
        """Mean distance (T), mm."""
        return mean_cost(distance, reach)
