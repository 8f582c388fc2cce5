"""One moving picture of a request to show to others: the photo, and what was made of it in every view above what was told."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from hvg.media.tiles import GAP, LARGEST_SIDE, enlargement, tile_columns

# The same twice: for players, and for pages.
GRID = ("grid.mp4", "grid.webp")
# Least height of a cell, pixels; most views.
CELL, MOST_VIEWS = 192, 8


def as_grid(photo: Tensor | None, views: Sequence[Mapping[str, Tensor]]) -> Tensor:
    """A labelled column for the photo (3, H, W), where there is one, and for each view, (T, 3, H', W') in [-1, 1].

    views: title -> pictures (T, 3, H, W) of each view, what was made first; they stand below each other under the first one's
    title. As many views are shown as fit into ``LARGEST_SIDE``, spread evenly over all.
    """
    columns = {} if photo is None else {"photo": photo[None, None]}
    height, width = next(iter(views[0].values())).shape[-2:]
    there = (LARGEST_SIDE - GAP) // (width * enlargement(height, CELL) + GAP) - len(columns)
    count = max(1, min(len(views), MOST_VIEWS, there))
    chosen = [views[k * len(views) // count] for k in range(count)]
    columns |= {next(iter(pictures)): torch.stack([*pictures.values()]) for pictures in chosen}
    return tile_columns(columns, CELL)
