"""Kernel distance between pieces of video."""

from hvg.parts.context import Context
from hvg.parts.set_distance import Kernel, KernelConfig

from ..nn.i3d_features import I3dConfig, I3dMetric


class KVD(I3dMetric):
    """Squared maximum mean discrepancy between the I3D features of all predicted and all true 16-frame clips.

    Its mean does not depend on how many clips there are, as FVD's does; it can be below 0. Source: Unterthiner et al.,
    "Towards accurate generative models of video", 2018.
    """

    class Config(I3dConfig, KernelConfig):
        """Settings of the clips and of the kernel."""

    def __init__(self, config: Config, context: Context | None = None) -> None:
        super().__init__(config, context, Kernel(config), "kvd")
