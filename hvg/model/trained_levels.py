"""Does what samples begin with look like what training shows at that noise level?"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

from hvg.config.build import build_part
from hvg.config.wiring import picture_size
from hvg.core.random_keys import generator

if TYPE_CHECKING:
    from hvg.config.settings import RunConfig

# Levels that are drawn in order to know the noisiest of training.
DRAWS = 100_000
# Share of a picture in the noisiest latents that training shows, from which on it is one that samples lack.
REST = 0.05
# (height, width) of pictures whose files alone know how large they are.
ANY_SIZE = (512, 512)


def level_notes(config: RunConfig, num_steps: int) -> Iterator[str]:
    """A note for the user where the noise that samples begin with is more than any that training shows.

    Source: arXiv 2305.08891, section 3.1.
    """
    prediction = build_part(config.prediction)
    pixels = picture_pixels(config)
    first = float(prediction.sigma_schedule(num_steps, pixels=pixels)[0])
    noisiest = float(prediction.sample_sigma((DRAWS,), generator("noisiest level"), pixels=pixels).max())
    spread = getattr(config.prediction.config, "sigma_data", 1.0)
    rest = spread / math.hypot(spread, min(first, noisiest))
    if rest > REST:
        yield (
            f"prediction={config.prediction.name}: samples begin with noise alone, and the noisiest latents that the network is "
            f"asked about in training hold {100 * rest:.0f} percent of a picture, so that samples are never very dark or bright; "
            "prediction=v_zero_snr trains down to none"
        )


def picture_pixels(config: RunConfig) -> int:
    """Pixels of a run's pictures, by which its levels may go; of pictures whose files alone know, those of ``ANY_SIZE``."""
    return math.prod(picture_size(config) or ANY_SIZE)
