"""The benchmark ``view_attention`` of ``hvg bench``: attention over views against the number of views and cells."""

import statistics
from collections.abc import Iterator
from functools import partial
from itertools import product

import numpy as np
import torch

from hvg.bench.drawing import cameras_around
from hvg.bench.timing import median_seconds, one_thread
from hvg.core.text_tables import table
from hvg.parts import registry
from hvg.values.grid import ViewGrid

CHANNELS, HEADS = 64, 2
VIEWS, SIDES = (2, 4, 8, 16), (8, 16, 32)
# The part, and in which groups of tokens it attends where it has several.
VIEW_ATTENTIONS = ("aligned_2d pixel", "aligned_2d row", "full_3d", "epipolar", "neighbours")


def view_attention() -> Iterator[str]:
    """Attention over views against the number of views and cells: measured and as declared; then few tokens, many cells."""
    # Milliseconds, and millions of FLOPs as declared.
    costs: dict[tuple[str, int, int], np.ndarray] = {}
    rows: list[tuple[str, ...]] = [("", "views", "cells", "ms", "MFLOP", "x views", "ms / pixel's", "(declared)")]
    for name in VIEW_ATTENTIONS:
        part, *group = name.split()
        cls = registry.load("view_attention", part)
        module = cls(cls.Config(group=group[0]) if group else cls.Config(), CHANNELS, HEADS)
        for views, side in product(VIEWS, SIDES):
            cameras = cameras_around(torch.arange(views) * (360.0 / views), side, torch.zeros(3))
            x, grid = torch.randn(1, views, 1, side, side, CHANNELS), ViewGrid.whole(cameras[None, :, None])
            with one_thread(), torch.no_grad():
                seconds = median_seconds(partial(module, x, grid), 5)
            cost = np.array([1e3 * seconds, cls.flops(module.config, views, side, side, CHANNELS) / 1e6])
            costs[name, views, side] = cost
            half = costs.get((name, views // 2, side))
            growth = "" if half is None else "{:.1f} ({:.1f})".format(*cost / half)
            over = "{:.1f} ({:.1f})".format(*cost / costs["aligned_2d pixel", views, side]).split()
            rows.append((name, str(views), f"{side} x {side}", f"{cost[0]:.2f}", f"{cost[1]:.1f}", growth, *over))
    yield f"forward pass of one latent frame, {CHANNELS} channels, {HEADS} heads, one core, median of 5"
    yield "x: growth from the row with half as many views, measured and (declared)"
    yield from table(rows)
    yield ""
    yield "aligned_2d pixel: time of attention over that of its four projections, forward; forward and backward, median of 9"
    few = [("views", "cells", "forward", "both")]
    for views, side in product(VIEWS, SIDES):
        forward, both = (f"{_products_over_projections(views, side, backward):.2f}" for backward in (False, True))
        few.append((str(views), f"{side} x {side}", forward, both))
    yield from table(few)


def _products_over_projections(views: int, side: int, backward: bool) -> float:
    """Time of attending (moving axes included) over that of the four projections, at many cells of few tokens."""
    cls = registry.load("view_attention", "aligned_2d")
    attention = cls(cls.Config(), CHANNELS, HEADS).attention
    x = torch.randn(1, views, 1, side, side, CHANNELS, requires_grad=backward)
    projected = attention.query_key_value(x).detach().requires_grad_(backward)

    def project() -> None:
        for layer in (attention.query_key_value, attention.out):
            result = layer(x)
            if backward:
                torch.autograd.grad(result, [x, layer.weight], torch.empty_like(result))

    def mix() -> None:
        result = attention.mix(projected)
        if backward:
            torch.autograd.grad(result, projected, torch.empty_like(result))

    with one_thread(), torch.set_grad_enabled(backward):
        # One after the other, so that a busy moment hits both.
        pairs = [(median_seconds(mix, 1), median_seconds(project, 1)) for _ in range(9)]
    return statistics.median(a for a, _ in pairs) / statistics.median(b for _, b in pairs)
