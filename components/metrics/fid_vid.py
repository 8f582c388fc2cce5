"""Frechet distance between pieces of video, through a network of actions."""

import torch
from pydantic import Field
from torch import Tensor

from hvg.parts.context import Context
from hvg.parts.feature_metric import VideoFeatureConfig, VideoFeatureMetric
from hvg.parts.set_distance import Frechet, FrechetConfig

from ..nn.feature_networks.load import load_network
from ..nn.resizing import pil_bicubic

SIZE = 112
# Mean of R, G, B over the videos of Kinetics, in 0..255.
KINETICS_MEAN = (114.7748, 107.7354, 99.4750)


class FIDVid(VideoFeatureMetric):
    """Frechet distance between the features of a 3D ResNet-50 of all predicted and all true 16-frame clips.

    As the DisCo script computes FID-VID: a clip from every frame on, 112 x 112 pixels, 2048 numbers before the classifier.
    A whole video (``items=whole``) is cut into pieces of 16 frames, its last frame repeated, and their features averaged.
    """

    segments = True

    class Config(VideoFeatureConfig, FrechetConfig):
        """Settings of the clips and of the distance."""

        clip_frames: int = Field(
            16, ge=16, le=16, description="Frames that are looked at together: the network takes 16."
        )

    def __init__(self, config: Config, context: Context | None = None) -> None:
        super().__init__(config, context, Frechet(config))
        network = load_network("resnet3d50", self.files, self.device)
        self.module, self.networks = network.module, {"resnet3d50": network.hash}
        self.definition = f"fid_vid/resnet3d50/{config.windows_id()}/pil_bicubic-{SIZE}/{self.distance.id}/v1"

    def resize(self, frames: Tensor) -> Tensor:
        """Frames (N, 3, H, W) uint8 -> (N, 3, 112, 112) in 0..255 less the mean; not clipped."""
        # The mean is taken off in double precision, as the script does.
        mean = torch.tensor(KINETICS_MEAN, dtype=torch.float64, device=frames.device)[:, None, None]
        return (pil_bicubic(frames, SIZE).double() - mean).float()

    def features(self, videos: Tensor) -> Tensor:
        """Videos (n, L, 3, 112, 112), L a multiple of 16 -> (n, 2048)."""
        pieces = videos.unflatten(1, (-1, self.config.clip_frames))
        features = self.module(pieces.flatten(0, 1).transpose(1, 2))
        return features.unflatten(0, pieces.shape[:2]).mean(dim=1)
