"""The only place where the axes B V T are folded into a library's layout and unfolded again.

Legend of the whole project: B clips, V views, T frames, C channels, H W pixels, t h w latent frames and cells, J joints,
L tokens, D width. Canonical order B V T C H W.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor


def fold_frames(x: Tensor) -> Tensor:
    """B V T ... -> (B V T) ..., the layout of image networks and of diffusers' video UNets (views act as clips)."""
    return x.flatten(0, 2)


def unfold_frames(x: Tensor, grid: Sequence[int]) -> Tensor:
    """(B V T) ... -> B V T ... for grid = (B, V, T)."""
    return x.unflatten(0, grid)


def fold_views(x: Tensor) -> Tensor:
    """B V T ... -> (B V) T ..., the layout of video networks that know one camera."""
    return x.flatten(0, 1)


def per_frame(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """Applies an image function (N C H W -> N ...) to B V T C H W."""
    return unfold_frames(function(fold_frames(x)), x.shape[:3])
