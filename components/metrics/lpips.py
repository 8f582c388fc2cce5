"""Learned perceptual similarity."""

from typing import Literal

from pydantic import Field
from torch import Tensor

from hvg.parts.context import Context
from hvg.parts.feature_metric import network_files
from hvg.parts.frame_metric import CellMetricConfig, FrameMetric

from ..nn.feature_networks.load import load_lpips


class LPIPS(FrameMetric):
    """LPIPS of every frame: the distance between features of a network of image classification, weighted by people's eyes.

    Source: Zhang et al., "The unreasonable effectiveness of deep features as a perceptual metric", 2018, version 0.1.
    Numbers through different networks cannot be compared. The networks expect values in [-1, 1]; the DisCo script of
    human-video papers gives them [0, 1] (``input_range=unit``), which makes the numbers several times smaller.
    """

    higher_is_better = False

    class Config(CellMetricConfig):
        """Settings of the similarity."""

        network: Literal["vgg", "alex", "squeeze"] = Field("vgg", description="VGG16, AlexNet or SqueezeNet 1.1.")
        input_range: Literal["symmetric", "unit"] = Field(
            "symmetric",
            description="What the network is given: values in [-1, 1], as it expects; or in [0, 1], as DisCo.",
        )

    def __init__(self, config: Config, context: Context | None = None) -> None:
        super().__init__(config, context)
        files, self.device = network_files(context)
        network = load_lpips(config.network, files, self.device)
        self.module, self.networks = network.module, {f"lpips_{config.network}": network.hash}
        self.definition = f"lpips/{config.network}/{config.input_range}/mean-over-{config.average}/v1"

    def score(self, prediction: Tensor, truth: Tensor, alpha: Tensor) -> Tensor:
        """(N,), 0 where the frames are equal."""
        return self.module(self._input(prediction), self._input(truth))

    def _input(self, frames: Tensor) -> Tensor:
        frames = frames.to(self.device).float()
        return frames / 255 if self.config.input_range == "unit" else frames / 127.5 - 1
