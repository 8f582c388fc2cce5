"""Overlapping segments of an axis and their blending weights: what sampling plans are made of."""

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Annotated, Literal, NamedTuple

import torch
from pydantic import Field, model_validator
from torch import Tensor

from hvg.core.bounds import FrameCount, FrameCountFromZero, ViewCount
from hvg.parts.part import PartConfig
from hvg.values.grid import Window

Weighting = Literal["tent", "edge_distance", "uniform"]
WEIGHTING = (
    "How a window's estimate counts where windows overlap. tent: rises to the window's middle. edge_distance: the same, "
    "but never close to 0. uniform: plain mean."
)


ViewsTogether = Annotated[
    ViewCount | None,
    Field(
        description="Views in a window, in groups that do not overlap if the numbers allow; null: all. 1 for a model that never "
        "saw two views at once.",
    ),
]


class Segment(NamedTuple):
    """Some indices of an axis and their weights (len(indices),), which over the axis's segments sum to 1 at every index."""

    indices: tuple[int, ...]
    weights: Tensor


def segments(length: int, size: int, overlap: int, circular: bool = False) -> list[tuple[int, ...]]:
    """Segments of ``size`` neighbours that cover ``length`` indices and share at least ``overlap`` with the next one.

    One segment of everything when ``size`` is enough for it. Otherwise all are of equal size: on a line the last one is
    shifted back, on a circle they are spread evenly, so that all indices are covered equally often where
    (number of segments) x size is a multiple of length, and otherwise to within one.
    """
    if size >= length:
        return [tuple(range(length))]
    stride = size - overlap
    if circular:
        number = -(-length // stride)
        starts = [i * length // number for i in range(number)]
    else:
        starts = [*range(0, length - size, stride), length - size]
    return [tuple((start + i) % length for i in range(size)) for start in starts]


def blocks(length: int, size: int, shift: int = 0) -> list[tuple[int, ...]]:
    """Neighbours without overlap, cut at shift, shift + size, ...; the first and the last may be smaller."""
    cuts = [0, *(i for i in range(shift % size, length, size) if i > 0), length]
    return [tuple(range(start, end)) for start, end in pairwise(cuts)]


def whole_blocks(length: int, size: int, shift: int = 0) -> list[tuple[int, ...]]:
    """``blocks``, of which those at the ends are filled up from their neighbours, so that all hold ``size`` indices."""
    if size >= length:
        return [tuple(range(length))]
    first = shift % size
    starts = range(first - size if first else 0, length, size)
    return [tuple(range(start, start + size)) for start in (min(max(s, 0), length - size) for s in starts)]


def segment_weights(kind: Weighting, size: int) -> Tensor:
    """Weights (size,) by position i in a segment of L: positive, symmetric, largest in the middle unless uniform.

    tent: min(2 (i + 1/2) / L, 2 - 2 (i + 1/2) / L), MimicMotion (arXiv 2406.19680), progressive latent fusion.
    edge_distance: (distance to the nearer edge + 1) / L, as in Human4DiT's code (arXiv 2405.17405).
    """
    position = torch.arange(size, dtype=torch.float32)
    if kind == "tent":
        rising = 2 * (position + 0.5) / size
        return torch.minimum(rising, 2 - rising)
    if kind == "edge_distance":
        return (torch.minimum(position, size - 1 - position) + 1) / size
    return torch.ones(size)


def weighted(parts: Sequence[tuple[int, ...]], length: int, kind: Weighting) -> list[Segment]:
    """The parts with their weights, which are scaled to sum to 1 at every index of the axis."""
    weights = [segment_weights(kind, len(part)) for part in parts]
    total = torch.zeros(length)
    for part, weight in zip(parts, weights, strict=True):
        total[list(part)] += weight
    return [Segment(part, weight / total[list(part)]) for part, weight in zip(parts, weights, strict=True)]


def whole(length: int) -> list[Segment]:
    """The axis in one segment."""
    return weighted([tuple(range(length))], length, "uniform")


def groups_of_views(views: int, together: int | None) -> list[Segment]:
    """So many views in groups of ``together``; None: all in one."""
    return weighted(segments(views, together or views, 0), views, "uniform")


def windows_of(views: Sequence[Segment], frames: Sequence[Segment]) -> list[Window]:
    """Every segment of views with every segment of frames; in every cell of the grid their weights sum to 1."""
    return [Window(v.indices, t.indices, v.weights[:, None] * t.weights) for v in views for t in frames]


def merged(windows: Iterable[Window]) -> list[Window]:
    """The same plan with every window once: the weights of equal ones are added."""
    found: dict[tuple[tuple[int, ...], tuple[int, ...]], Window] = {}
    for window in windows:
        key = window.views, window.frames
        same = found.get(key)
        found[key] = window if same is None else Window(*key, same.weights + window.weights)
    return list(found.values())


def overlap_in_time(overlap: int | None, size: int) -> int:
    """The overlap, or a quarter of the window."""
    return size // 4 if overlap is None else overlap


def overlap_of_views(overlap: int | None, size: int) -> int:
    """The overlap, or a third of the window."""
    return size // 3 if overlap is None else overlap


def require_overlap_below(size: int, overlap: int | None, size_name: str, overlap_name: str) -> None:
    """Raises: ValueError, which the configuration reports, when windows would not move on."""
    if overlap is not None and overlap >= size:
        raise ValueError(
            f"{overlap_name}={overlap} has to be smaller than {size_name}={size}, or the windows do not move on; "
            f"lower {overlap_name} or raise {size_name}"
        )


class TimeWindowsConfig(PartConfig):
    """Windows over time, of all views or of groups of them."""

    views: ViewsTogether = None
    frames: FrameCount = Field(24, description="Latent frames in a window.")
    overlap: FrameCountFromZero | None = Field(
        None, description="Latent frames that neighbouring windows share, at least; null: a quarter of a window."
    )
    weights: Weighting = Field("tent", description=WEIGHTING)

    @model_validator(mode="after")
    def _moves_on(self) -> "TimeWindowsConfig":
        require_overlap_below(self.frames, self.overlap, "frames", "overlap")
        return self


class SpaceTimeConfig(PartConfig):
    """Long windows of few views and short windows of many views.

    The defaults hold the 72 images that HVG's model was trained on: 3 views x 24 frames and 6 views x 12 frames.
    """

    frames: FrameCount = Field(24, description="Latent frames in a temporal window.")
    frame_overlap: FrameCountFromZero | None = Field(
        None,
        description="Latent frames that neighbouring temporal windows share, at least; null: a quarter of one.",
    )
    temporal_views: ViewCount | None = Field(
        3,
        description="Views in a temporal window, in groups that do not overlap if the numbers allow; null: all.",
    )
    views: ViewCount = Field(6, description="Views in a view window.")
    view_overlap: FrameCountFromZero | None = Field(
        None, description="Views that neighbouring view windows share, at least; null: a third of a window."
    )
    view_frames: FrameCount | None = Field(
        12, description="Latent frames in a view window, without overlap if the numbers allow; null: all."
    )
    circular: bool = Field(
        True, description="Whether the cameras close a circle, so that the last is next to the first."
    )
    weights: Weighting = Field("tent", description=WEIGHTING)

    @model_validator(mode="after")
    def _moves_on(self) -> "SpaceTimeConfig":
        require_overlap_below(self.frames, self.frame_overlap, "frames", "frame_overlap")
        require_overlap_below(self.views, self.view_overlap, "views", "view_overlap")
        return self

    def families(self, views: int, frames: int) -> tuple[list[Window], list[Window]]:
        """Temporal windows and view windows, each family with weights that sum to 1 in every cell.

        Where a window of either family holds the whole grid, both are that window: a cut could only lose by comparison.
        """
        kind, few, short = self.weights, self.temporal_views or views, self.view_frames or frames
        temporal = windows_of(
            weighted(segments(views, few, 0, self.circular), views, kind),
            weighted(segments(frames, self.frames, overlap_in_time(self.frame_overlap, self.frames)), frames, kind),
        )
        view = windows_of(
            weighted(
                segments(views, self.views, overlap_of_views(self.view_overlap, self.views), self.circular), views, kind
            ),
            weighted(segments(frames, short, 0), frames, kind),
        )
        if len(temporal) == 1 or len(view) == 1:
            return windows_of(whole(views), whole(frames)), windows_of(whole(views), whole(frames))
        return temporal, view
