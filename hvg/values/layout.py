"""The only place where the axes B V T are folded into a library's layout and unfolded again.

Legend of the whole project: B clips, V views, T frames, C channels, H W pixels, t h w latent frames and cells, J joints,
L tokens, D width. Canonical order B V T C H W.
"""

from collections.abc import Callable, Sequence

import torch
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


def fold_groups(x: Tensor, stride: int, channels: Sequence[int]) -> Tensor:
    """B V (t s) C H W -> B V t (s C) H W, the s frames of every latent frame as channels of one picture, map by map.

    channels: of the maps that C is made of, in their order; of each map the s frames stand together.
    """
    if stride == 1:
        return x
    maps: Sequence[Tensor] = x.unflatten(2, (-1, stride)).split(list(channels), dim=4)
    return torch.cat([part.flatten(3, 4) for part in maps], dim=3)


def unfold_groups(x: Tensor, stride: int, channels: Sequence[int]) -> Tensor:
    """N (s C) H W -> (N s) C H W, pictures of ``fold_groups`` as those that they were made of."""
    if stride == 1:
        return x
    maps: Sequence[Tensor] = x.split([stride * count for count in channels], dim=1)
    return torch.cat([part.unflatten(1, (stride, -1)) for part in maps], dim=2).flatten(0, 1)


def per_frame(function: Callable[[Tensor], Tensor], x: Tensor, chunk: int | None = None) -> Tensor:
    """Applies an image function (N C H W -> N ...) to B V T C H W, at most ``chunk`` frames at a time."""
    grid = x.shape[:3]
    flat = fold_frames(x)
    if chunk is None or chunk >= len(flat):
        return unfold_frames(function(flat), grid)
    return unfold_frames(torch.cat([function(part) for part in flat.split(chunk)]), grid)
