"""Kernel distance between single pictures."""

from hvg.parts.context import Context
from hvg.parts.set_distance import Kernel, KernelConfig

from ..nn.inception_features import InceptionConfig, InceptionMetric


class KID(InceptionMetric):
    """Squared maximum mean discrepancy between the Inception features of all predicted and all true frames.

    Unlike FID its mean does not depend on N; it can be below 0. Source: Binkowski et al., "Demystifying MMD GANs", 2018;
    over all pairs, where the usual tools average over random subsets.
    """

    class Config(InceptionConfig, KernelConfig):
        """Settings of the frames and of the kernel."""

    def __init__(self, config: Config, context: Context | None = None) -> None:
        super().__init__(config, context, Kernel(config), "kid")
