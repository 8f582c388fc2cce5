"""The benchmark ``reconstruction`` of ``hvg bench``: how long a picture of a reconstructed person takes."""

import statistics
import time
from collections.abc import Iterator

import torch

from hvg.bench.timing import one_thread
from hvg.config.build import build_dataset, build_part
from hvg.config.composition import compose
from hvg.core.text_tables import table
from hvg.parts import registry
from hvg.parts.context import SceneContext
from hvg.parts.reconstructor import Reconstructor
from hvg.values.clip import ClipBatch

_RUNS = 7


def reconstruction() -> Iterator[str]:
    """Milliseconds of a 64 x 64 picture, untrained: with all of its clip, and by itself; photo and search included."""
    config = compose(["scale=cpu"])
    clip = build_dataset(config, "test").load(0)
    context = SceneContext(renderer=build_part(config.renderer), body=build_part(config.body))
    _, views, frames = clip.grid
    height, width = clip.cameras.image_size
    rows: list[tuple[str, ...]] = [("", f"of {views} x {frames}", "alone")]
    with one_thread():
        for name in ("projection", "nerf"):
            cls = registry.load("reconstructor", name)
            # Nothing is kept from one run to the next.
            settings = {"kept_megabytes": 0} if "kept_megabytes" in cls.Config.model_fields else {}
            part = cls(cls.Config(**settings), context)
            costs = _picture(part, clip), _picture(part, clip.select([0], [0]))
            rows.append((name, *(f"{1e3 * cost:.1f} ms" for cost in costs)))
    yield f"a picture of {width} x {height}, one core, median of {_RUNS}"
    yield from table(rows)


@torch.no_grad()
def _picture(part: Reconstructor, clip: ClipBatch) -> float:
    """Median seconds of one of a clip's pictures, when all of them are drawn."""
    times = []
    for _ in range(_RUNS + 1):
        started = time.perf_counter()
        part.render(clip)
        times.append(time.perf_counter() - started)
    # The first one warms up.
    return statistics.median(times[1:]) / (clip.grid[1] * clip.grid[2])
