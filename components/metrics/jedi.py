"""Distance between sets of videos through V-JEPA 2, after JEDi."""

from typing import Literal

from pydantic import Field
from torch import Tensor

from hvg.core.bounds import FrameCount, Scale, Weight
from hvg.parts.context import Context
from hvg.parts.feature_metric import VideoFeatureConfig, VideoFeatureMetric
from hvg.parts.set_distance import Kernel, KernelConfig

from ..nn.feature_networks.vision_transformers import VideoTokens


class Jedi(VideoFeatureMetric):
    """Maximum mean discrepancy between V-JEPA 2 features of predicted and of true videos, in the manner of JEDi.

    Source: Luo et al., "Beyond FVD: Enhanced Evaluation Metrics for Video Generation Quality", 2024 (arXiv 2410.05203), and
    its package videojedi. The kernel is theirs: squared MMD, (x.y / D)^2, all pairs counted, times 100.

    **These are not the paper's numbers**, and cannot be compared with them. Theirs look through V-JEPA (arXiv 2404.08471),
    ViT-H/16 at 224 pixels, whose tokens an attentive probe trained on Something-Something v2 sums up to 1280 numbers; its
    files are pickles in a layout of their own. This one looks through V-JEPA 2 (arXiv 2506.09985) in the layout of Hugging
    Face, with the preprocessing that the folder states, and takes the mean of the tokens. ``pooling=probe`` comes nearer:
    it takes V-JEPA 2's own probe, from a folder that has one (facebook/vjepa2-vitl-fpc16-256-ssv2).

    The whole picture counts, background included.
    """

    class Config(VideoFeatureConfig, KernelConfig):
        """Settings of the videos, the features and the kernel."""

        stride: FrameCount = Field(
            16, description="Frames from the start of a window to the start of the next; 16: they do not overlap."
        )
        pooling: Literal["mean", "probe"] = Field(
            "mean", description="mean: of the encoder's tokens. probe: the attentive pooler of a fine-tuned V-JEPA 2."
        )
        degree: int = Field(2, ge=1, le=16, description="Degree of the polynomial.")
        coef0: Weight = Field(0.0, description="What is added to the inner product.")
        estimator: Literal["unbiased", "biased"] = Field(
            "biased", description="Whether the pairs of a feature with itself are left out (0 on average) or counted."
        )
        scale: Scale = Field(100.0, description="What the value is multiplied by.")

    def __init__(self, config: Config, context: Context | None = None) -> None:
        super().__init__(config, context, Kernel(config))
        self.network = VideoTokens(self.files.path("vjepa2"), self.device, probe=config.pooling == "probe")
        self.networks = {"vjepa2": self.files.hash("vjepa2")}
        details = f"{self.network.preprocessing.id}/{config.windows_id()}/{self.distance.id}"
        self.definition = f"jedi-style/vjepa2-{config.pooling}/{details}/v1"

    def resize(self, frames: Tensor) -> Tensor:
        """Frames (N, 3, H, W) uint8 -> (N, 3, h, w) float32, normalised."""
        return self.network.preprocessing(frames)

    def features(self, videos: Tensor) -> Tensor:
        """(n, L, 3, h, w) -> (n, D)."""
        return self.network.embed(videos)
