"""Base of FID and KID: features of single pictures through FID's Inception."""

from typing import Any

from pydantic import Field
from torch import Tensor

from hvg.core.bounds import FrameCount
from hvg.parts.context import Context
from hvg.parts.feature_metric import FrameFeatureMetric
from hvg.parts.part import PartConfig
from hvg.parts.set_distance import SetDistance

from .feature_networks.load import load_network
from .resizing import torch_bilinear


class InceptionConfig(PartConfig):
    """Choice of the pictures to score."""

    every: FrameCount = Field(
        1, description="Every how many-th valid frame of a clip is looked at, counted over its views one after another."
    )


class InceptionMetric(FrameFeatureMetric):
    """2048 numbers a picture: bilinear to 299 x 299 without anti-aliasing, as pytorch-fid, then the last pool."""

    def __init__(self, config: Any, context: Context | None, distance: SetDistance, name: str) -> None:
        super().__init__(config, context, distance)
        network = load_network("inception", self.files, self.device)
        self.module, self.networks = network.module, {"inception": network.hash}
        self.measurement = f"inception-299-bilinear/every-{config.every}"
        self.definition = f"{name}/{self.measurement}/{distance.id}/v1"

    def features(self, frames: Tensor) -> Tensor:
        """Frames (N, 3, H, W) uint8 -> (N, 2048)."""
        # As pytorch-fid resizes them, of values in [0, 1].
        return self.module(2 * torch_bilinear(frames.float() / 255, 299) - 1)
