"""Frechet distance between single pictures."""

from hvg.parts.context import Context
from hvg.parts.set_distance import Frechet, FrechetConfig

from ..nn.inception_features import InceptionConfig, InceptionMetric


class FID(InceptionMetric):
    """Frechet distance between the Inception features of all predicted and all true frames, as pytorch-fid computes it.

    Source: Heusel et al., "GANs trained by a two time-scale update rule", 2017. Frames of one video are not independent,
    so N says less than it seems.
    """

    class Config(InceptionConfig, FrechetConfig):
        """Settings of the frames and of the distance."""

    def __init__(self, config: Config, context: Context | None = None) -> None:
        super().__init__(config, context, Frechet(config), "fid")
