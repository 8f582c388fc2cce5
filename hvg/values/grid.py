"""Selections of views and frames: windows that are denoised together, and the places of views."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from hvg.values.cameras import Cameras, close_a_circle
from hvg.values.tensors import concatenate


@dataclass(frozen=True, kw_only=True)
class ViewGrid:
    """Where the views at hand stand: among all views of their clip, and in the world.

    view_index: (B, V) int64, place of every view among all views of its clip. num_views: (B,) int64, how many those are.
    circle: (B,) bool, whether those close a circle, so that the last is next to the first
    (``hvg.values.cameras.close_a_circle``).
    cameras: (B, V, t) of the aligned pictures, one for every latent frame; at a site of a backbone their image size is that
    of the site, (h, w) cells.
    """

    view_index: Tensor
    num_views: Tensor
    circle: Tensor
    cameras: Cameras

    @staticmethod
    def whole(cameras: Cameras) -> "ViewGrid":
        """All views of clips with these cameras (B, V, T)."""
        (b, v, _), device = cameras.shape, cameras.intrinsics.device
        return ViewGrid(
            view_index=torch.arange(v, device=device).expand(b, v),
            num_views=torch.full((b,), v, device=device),
            circle=close_a_circle(cameras),
            cameras=cameras,
        )

    def select(self, views: Sequence[int] | Tensor | slice, frames: Sequence[int] | Tensor | slice) -> "ViewGrid":
        """Some of the views and frames, in the order given; what they are part of stays."""
        v, t = as_index(views), as_index(frames)
        return replace(self, view_index=self.view_index[:, v], cameras=self.cameras[:, v][:, :, t])

    def resized(self, image_size: tuple[int, int]) -> "ViewGrid":
        """The same views at another size (height, width), such as that of a backbone's site."""
        return replace(self, cameras=self.cameras.resized(image_size))

    def steps(self) -> Tensor:
        """Number of places between any two views, (B, V, V) int64; around the circle the shorter way."""
        apart = (self.view_index[:, :, None] - self.view_index[:, None]).abs()
        return torch.where(self.circle[:, None, None], apart.minimum(self.num_views[:, None, None] - apart), apart)

    @staticmethod
    def stack(grids: "Sequence[ViewGrid]") -> "ViewGrid":
        """Grids of equal shapes, one after the other along B."""
        return concatenate(grids)


def as_index(places: Sequence[int] | Tensor | slice) -> Tensor | slice:
    """What picks these places from an axis; a tensor stays where it is."""
    return places if isinstance(places, (slice, Tensor)) else torch.as_tensor(places)


def as_slice(places: Sequence[int]) -> slice | Tensor:
    """What picks these places from an axis: without a copy where each follows the one before."""
    first = places[0] if places else 0
    follow = [*places] == [*range(first, first + len(places))]
    return slice(first, first + len(places)) if follow and first >= 0 else torch.as_tensor(places)


@dataclass(frozen=True)
class Window:
    """A part of the V x t grid that is denoised together at one step.

    views, frames: indices into the grid. weights: (len(views), len(frames)), positive; the engine normalises them.
    """

    views: tuple[int, ...]
    frames: tuple[int, ...]
    weights: Tensor
