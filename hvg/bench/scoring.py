"""The benchmark ``scoring`` of ``hvg bench``: metrics of single pictures."""

from collections.abc import Iterator
from functools import partial

import torch

from hvg.bench.timing import median_seconds
from hvg.config.composition import compose
from hvg.core import provenance
from hvg.core.random_keys import generator
from hvg.core.text_tables import table
from hvg.parts.context import Context
from hvg.values.scored_clip import ScoredClip


def scoring() -> Iterator[str]:
    """Metrics of single pictures over 1,000 frames of 256 x 256, on all cores."""
    random = generator("bench", "scoring")
    truth = torch.randint(0, 256, (1, 250, 3, 256, 256), generator=random, dtype=torch.uint8)
    noise = torch.randint(0, 40, truth.shape, generator=random, dtype=torch.uint8)
    clip = ScoredClip(
        clip_id="clip",
        subject="subject",
        prediction=truth.clamp(max=215) + noise,
        truth=truth,
        valid=torch.ones(1, 250, dtype=torch.bool),
    )
    rows = [("metric", "s for 1,000 frames")]
    for protocol in ("disco_2023", "disco_fixed", "modern"):
        for label in ("psnr", "ssim", "l1"):
            choice = compose([f"protocol={protocol}"]).protocol.metrics.get(label)
            if choice is not None:
                seconds = median_seconds(partial(choice.cls(choice.config, Context()).measure, clip), 3)
                rows.append((f"{protocol} {label}", f"{4 * seconds:.2f}"))
    yield f"median of 3 times 250 frames, {provenance.usable_cores()} cores"
    yield from table(rows)
