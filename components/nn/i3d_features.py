"""Base of FVD and KVD: features of stretches of video through I3D."""

from typing import Any, Literal

from pydantic import Field, model_validator
from torch import Tensor

from hvg.parts.context import Context
from hvg.parts.feature_metric import VideoFeatureConfig, VideoFeatureMetric
from hvg.parts.set_distance import SetDistance

from .feature_networks.load import load_network
from .resizing import pil_bicubic, torch_bilinear

SIZE = 224


class I3dConfig(VideoFeatureConfig):
    """Settings of how videos are given to I3D."""

    resize: Literal["pil_bicubic", "torch_bilinear"] = Field(
        "pil_bicubic",
        description="How frames become 224 x 224: as DisCo, channels as 32-bit PIL images; or as cd-fvd, without "
        "anti-aliasing.",
    )
    network: Literal["i3d", "i3d_content_debiased"] = Field(
        "i3d",
        description="How the one file of weights is run: as DisCo and VideoGPT do; or as cd-fvd, with another epsilon in its "
        "norms, and neighbouring latent frames pooled. The numbers differ by some percent.",
    )

    @model_validator(mode="after")
    def _enough_frames(self) -> "I3dConfig":
        if self.network == "i3d_content_debiased" and self.clip_frames < 9:
            raise ValueError(f"network=i3d_content_debiased needs clip_frames of 9 or more, got {self.clip_frames}")
        return self


class I3dMetric(VideoFeatureMetric):
    """400 numbers a piece of video: the logits of Kinetics-400, averaged over time; a whole video is seen at once."""

    def __init__(self, config: Any, context: Context | None, distance: SetDistance, name: str) -> None:
        super().__init__(config, context, distance)
        network = load_network(config.network, self.files, self.device)
        self.module, self.networks = network.module, {config.network: network.hash}
        given = f"{config.network}-logits/{config.windows_id()}/{config.resize}-{SIZE}"
        self.measurement = given
        self.definition = f"{name}/{given}/{distance.id}/v1"

    def resize(self, frames: Tensor) -> Tensor:
        """Frames (N, 3, H, W) uint8 -> (N, 3, 224, 224) in about [-1, 1]; not clipped."""
        if self.config.resize == "torch_bilinear":
            return 2 * torch_bilinear(frames, SIZE) / 255 - 1
        return pil_bicubic(frames, SIZE) / 127.5 - 1

    def features(self, videos: Tensor) -> Tensor:
        """Videos (n, L, 3, 224, 224) -> (n, 400)."""
        return self.module(videos.transpose(1, 2))
