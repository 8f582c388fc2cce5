"""Frechet distance between pieces of video."""

from hvg.parts.context import Context
from hvg.parts.set_distance import Frechet, FrechetConfig

from ..nn.i3d_features import I3dConfig, I3dMetric


class FVD(I3dMetric):
    """Frechet distance between the I3D features of all predicted and all true 16-frame clips.

    The defaults are the DisCo script's: a clip from every frame on. content-debiased-fvd's I3D is
    network=i3d_content_debiased, resize=torch_bilinear, covariance=biased. Source: Unterthiner et al., "Towards accurate
    generative models of video", 2018. It says more of single frames than of motion (Ge et al., "On the content bias in
    Frechet video distance", 2024).
    """

    class Config(I3dConfig, FrechetConfig):
        """Settings of the clips and of the distance."""

    def __init__(self, config: Config, context: Context | None = None) -> None:
        super().__init__(config, context, Frechet(config), "fvd")
