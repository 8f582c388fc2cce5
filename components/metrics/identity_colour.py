"""Identity of the person, judged by the colours they wear."""

from itertools import product
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from hvg.core.eight_bit import frames_to_uint8
from hvg.core.required import required
from hvg.parts.context import Context
from hvg.parts.frame_metric import CellMetric, CellMetricConfig, same_size
from hvg.parts.metric import Measurement
from hvg.values.scored_clip import NotAvailable, ScoredClip

from ..nn.lab_colour import HIGHEST, LOWEST, lab


class IdentityColour(CellMetric):
    """Share of the person's colours that agree: intersection of colour histograms, per frame; then the mean over frames.

    It is 1 where the same colours cover the same share of the person, wherever on the person they are, and falls by x where
    a share x has another colour. (1 - Hellinger distance would fall by about the root of x: at once, by some stray pixels.)
    With ``against=truth`` and ``person=alpha`` the truth has exactly 1. The truth itself has less than 1 against the photo,
    which may show another side of the person: compare with that value. A frame without a true person has no score.

    The true person is alpha > 0.5. With ``person=alpha`` the same pixels are looked at in the prediction, so that nothing
    outside them counts, but a person who stands elsewhere does. ``person=silhouette`` looks wherever the prediction shows
    a person on a white background (the rule of ``mask_iou``): place and pose do not matter, and white clothes are not seen.

    Source: histogram intersection of Swain and Ballard, "Color Indexing", 1991; here over CIELAB, each pixel shared between
    the eight nearest bins, so that a colour near the border of two does not jump.
    """

    requires = frozenset({"alpha"})

    class Config(CellMetricConfig):
        """Settings of the histograms."""

        against: Literal["truth", "reference"] = Field(
            "truth", description="truth: the same picture. reference: the photo, or all photos together."
        )
        person: Literal["alpha", "silhouette"] = Field(
            "alpha",
            description="Which pixels of the prediction count: those of the true person, or all that are not white.",
        )
        threshold: float = Field(
            0.75,
            gt=0,
            lt=1,
            description="With silhouette: the person is where any channel, in [0, 1], is below this value.",
        )
        # Light and shade change L* far more than a* and b*.
        lightness_bin: float = Field(
            20.0, ge=1, le=100, description="Distance of the bins along L*, which is in [0, 100]."
        )
        chroma_bin: float = Field(15.0, ge=1, le=256, description="Distance of the bins along a* and b*.")

    frames_before = 0

    @classmethod
    def judges(cls, config: Config) -> bool:
        """False against the photo: a copy of it would be the best."""
        return config.against == "truth"

    def __init__(self, config: Config, context: Context | None = None) -> None:
        super().__init__(config, context)
        self.bins = (config.lightness_bin, config.chroma_bin, config.chroma_bin)
        person = "alpha" if config.person == "alpha" else f"white-background-{config.threshold:g}"
        bins = f"lab-{config.lightness_bin:g}-{config.chroma_bin:g}"
        details = f"{bins}/against-{config.against}/person-{person}/mean-over-{config.average}"
        self.definition = f"identity_colour/intersection/{details}/v1"

    @torch.no_grad()
    def measure(self, clip: ScoredClip) -> Measurement:
        """``cells``: (V, T) float64 in [0, 1]; NaN where a frame is padding or shows no person."""
        clip.require(self.requires)
        same_size(clip)
        photo = self._photo(clip) if self.config.against == "reference" else None
        person = required(clip.alpha, "ScoredClip.alpha") > 0.5
        cells = torch.full(clip.grid, torch.nan, dtype=torch.float64)
        for view, frame in (clip.valid & person.flatten(2).any(dim=2)).nonzero().tolist():
            prediction, true = clip.prediction[view, frame], person[view, frame]
            shown = true if self.config.person == "alpha" else (prediction < 255 * self.config.threshold).any(dim=0)
            target = self._histogram(clip.truth[view, frame][:, true]) if photo is None else photo
            # The intersection of two histograms whose sums are 1; equal ones have exactly 1. Nobody shown has 0.
            difference = (self._histogram(prediction[:, shown]) - target).abs().sum()
            cells[view, frame] = (1 - difference / 2).clamp_min(0) if shown.any() else 0.0
        return {"cells": cells.numpy()}

    def _photo(self, clip: ScoredClip) -> Tensor:
        """Histogram of the person in the photos."""
        clip.require({"reference"})
        photo = required(clip.reference, "ScoredClip.reference")
        if photo.alpha is None:
            raise NotAvailable(f"needs the alpha of the reference photo, which clip '{clip.clip_id}' does not hold")
        colours = frames_to_uint8(photo.frames[0]).transpose(0, 1)[:, photo.alpha[0, :, 0] > 0.5]
        if not colours.numel():
            raise NotAvailable(f"the reference photo of clip '{clip.clip_id}' shows no person: its alpha is empty")
        return self._histogram(colours)

    def _histogram(self, colours: Tensor) -> Tensor:
        """Histogram of colours (3, P) uint8 over L* x a* x b*, as a flat vector of sum 1, on the CPU.

        There, because sums on a GPU come in any order and are not the same twice.
        """
        low, high, width = (torch.tensor(x, dtype=torch.float64)[:, None] for x in (LOWEST, HIGHEST, self.bins))
        shape = ((high - low) / width).floor().long() + 2
        place = (lab(colours.cpu()) - low) / width
        lower = place.floor()
        histogram = torch.zeros(int(shape.prod()), dtype=torch.float64)
        for corner in product((0, 1), repeat=3):
            offset = torch.tensor(corner)[:, None]
            share = (1 - (place - lower - offset).abs()).prod(dim=0)
            bins = lower.long() + offset
            index = (bins[0] * shape[1] + bins[1]) * shape[2] + bins[2]
            histogram += torch.bincount(index, weights=share, minlength=len(histogram))
        return histogram / max(colours.shape[1], 1)
