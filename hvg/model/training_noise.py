"""How training noises a clip: levels that cells share, cells that stay clean, and an offset of the noise."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from hvg.config.noise_section import NoiseConfig
from hvg.parts.model import Prediction
from hvg.values.clip import ClipBatch
from hvg.values.known import of_frames

# Fewest and most.
Range = tuple[int, int]
# From a name and a training clip's number to what draws for it.
Keyed = Callable[[str, int], torch.Generator]


@dataclass(frozen=True)
class TrainingNoise:
    """What training draws for a clip, by these settings."""

    config: NoiseConfig = field(default_factory=NoiseConfig)

    @property
    def has_known(self) -> bool:
        """Whether some clips have cells that stay clean."""
        return max(self.config.known_views[1], self.config.known_frames[1]) > 0

    def drawn(
        self, prediction: Prediction, shape: torch.Size, keyed: Keyed, index: int, *, pixels: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Noise level (V, t, 1, 1, 1), 0 where a cell is known, noise of ``shape`` (V, t, C, h, w), and a number in [0, 1).

        keyed: a generator for the training clip ``index``, by what is drawn. pixels: as of ``Prediction``.
        """
        key, (views, frames) = keyed("noise", index), shape[:2]
        sigma = self.levels(prediction, views, frames, key, pixels=pixels).expand(views, frames)
        noise, draw = torch.randn(shape, generator=key), torch.rand((), generator=key)
        if self.config.noise_offset:
            noise = self.offset(noise, keyed("noise offset", index))
        if self.has_known:
            sigma = sigma.masked_fill(self.known(views, frames, keyed("known", index)), 0.0)
        return sigma[..., None, None, None], noise, draw

    def told(self, batch: ClipBatch, sigma: Tensor, stride: int) -> ClipBatch:
        """The batch with what is known in it: all frames of the cells whose level (B, V, t, 1, 1, 1) is 0."""
        if not self.has_known:
            return batch
        return replace(batch, known=of_frames(sigma[..., 0, 0, 0] == 0, batch.grid[2], stride))

    def weight(self, prediction: Prediction, sigma: Tensor) -> Tensor:
        """Loss weight of noise levels, 0 of what is known."""
        weight = prediction.weight(sigma)
        return weight.where(sigma > 0, 0.0) if self.has_known else weight

    def levels(
        self, prediction: Prediction, views: int, frames: int, generator: torch.Generator, *, pixels: int
    ) -> Tensor:
        """Noise levels (V or 1, t or 1) of a clip, as many as the setting has them differ. pixels: as of ``Prediction``."""
        rows = views if self.config.noise_levels in ("view", "cell") else 1
        columns = frames if self.config.noise_levels in ("frame", "cell") else 1
        return prediction.sample_sigma((rows, columns), generator, pixels=pixels)

    def offset(self, noise: Tensor, generator: torch.Generator) -> Tensor:
        """Noise (V, t, C, h, w) of a clip, moved by a number for each channel. Source: offset noise (crosslabs.org, 2023)."""
        return noise + self.config.noise_offset * torch.randn(noise.shape[2], 1, 1, generator=generator)

    def known(self, views: int, frames: int, generator: torch.Generator) -> Tensor:
        """Which cells (V, t) bool of a clip stay clean: some views, and the first frames of all; never every one."""
        cells = torch.zeros(views, frames, dtype=torch.bool)
        count, length = (
            _drawn(bounds, most, generator)
            for bounds, most in ((self.config.known_views, views - 1), (self.config.known_frames, frames - 1))
        )
        cells[torch.randperm(views, generator=generator)[:count]] = True
        cells[:, :length] = True
        return cells


def _drawn(bounds: Range, most: int, generator: torch.Generator) -> int:
    """A number of these bounds, each as likely, or the most that there may be."""
    return min(int(torch.randint(bounds[0], bounds[1] + 1, (), generator=generator)), most)
