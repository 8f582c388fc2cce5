"""Identity of the person, judged by CLIP."""

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor
from torch.nn.functional import cosine_similarity

from hvg.core.eight_bit import frames_to_uint8
from hvg.core.required import required
from hvg.parts.context import Context
from hvg.parts.feature_metric import network_files
from hvg.parts.frame_metric import FRAMES_PER_CALL, CellMetric, CellMetricConfig
from hvg.parts.metric import Measurement
from hvg.values.scored_clip import ScoredClip

from ..nn.feature_networks.vision_transformers import ClipImages


class IdentityClip(CellMetric):
    """Cosine similarity of CLIP's image embeddings of prediction and truth, per frame; then the mean over frames.

    The truth has 1 against itself. Against the photo (the mean over photos, where there are several), the truth has less,
    as it shows other sides and poses: compare with that value. CLIP looks at the whole picture, background included, and
    at the square in its middle only: where pictures are tall, heads and feet may be cut off.

    Source: CLIP (arXiv 2103.00020), with the preprocessing that its folder states; as a measure of identity, CLIP-I of
    DreamBooth (arXiv 2208.12242). Numbers through different encoders cannot be compared.
    """

    class Config(CellMetricConfig):
        """Settings of the similarity."""

        against: Literal["truth", "reference"] = Field(
            "truth", description="truth: the same picture. reference: the photo that says who the person is."
        )

    frames_before = 0

    @classmethod
    def judges(cls, config: Config) -> bool:
        """False against the photo: a copy of it would be the best."""
        return config.against == "truth"

    def __init__(self, config: Config, context: Context | None = None) -> None:
        super().__init__(config, context)
        files, device = network_files(context)
        self.encoder = ClipImages(files.path("clip"), device)
        self.networks = {"clip": files.hash("clip")}
        details = f"{self.encoder.preprocessing.id}/against-{config.against}/mean-over-{config.average}"
        self.definition = f"identity_clip/cosine/{details}/v1"

    def measure(self, clip: ScoredClip) -> Measurement:
        """``cells``: (V, T) float64 in [-1, 1]; NaN where a frame is padding."""
        if not clip.valid.any():
            return {}
        if self.config.against == "reference":
            clip.require({"reference"})
            photos = frames_to_uint8(required(clip.reference, "ScoredClip.reference").frames[0])
            target = self._embeddings(photos)[:, None]
        else:
            target = self._embeddings(clip.truth[clip.valid])[None]
        similarity = cosine_similarity(self._embeddings(clip.prediction[clip.valid])[None], target, dim=-1)
        cells = torch.full(clip.grid, torch.nan, dtype=torch.float64)
        cells[clip.valid.cpu()] = similarity.mean(dim=0)
        return {"cells": cells.numpy()}

    def _embeddings(self, frames: Tensor) -> Tensor:
        """(N, D) float64."""
        return torch.cat([self.encoder.embed(chunk).double().cpu() for chunk in frames.split(FRAMES_PER_CALL)])
