"""What a conditioner says, as numbers for every view and latent frame: for measures of what a signal knows."""

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

from hvg.values.conditioning import Conditioning
from hvg.values.latent_time import grouped_frames, latent_frames
from hvg.values.scored_clip import Told

# Cells along each side that maps are averaged to, and numbers of tokens beyond which their mean stands for them.
CELLS, MOST = 4, 4096


def told_of(given: Mapping[str, Conditioning], frames: int, stride: int) -> Told:
    """Of a clip (B = 1) of so many frames, each slot's numbers, as of ``numbers_of``, at the last frame of every latent one.

    given: slot -> its ports. stride: frames that a latent frame joins.
    """
    numbers = {slot: numbers_of(ports) for slot, ports in given.items()}
    chosen = grouped_frames(range(latent_frames(frames, stride)), frames, stride)
    return Told({slot: x[0] for slot, x in numbers.items() if x is not None}, tuple(chosen[stride - 1 :: stride]))


def numbers_of(conditioning: Conditioning) -> Tensor | None:
    """All ports side by side, (B, V, t, D); None where it fills none.

    Tokens one after the other, or their mean where they are many; maps and pictures as means of ``CELLS`` x ``CELLS`` parts;
    memory as the mean of its tokens. V or t is 1 where all ports are the same along it.
    """
    found = [*_flat(conditioning)]
    if not found:
        return None
    views, frames = (max(x.shape[axis] for x in found) for axis in (1, 2))
    return torch.cat([x.float().expand(-1, views, frames, -1) for x in found], dim=-1)


def _flat(conditioning: Conditioning) -> Iterator[Tensor]:
    for tokens in (conditioning.tokens, conditioning.text):
        if tokens is not None:
            yield tokens.flatten(3) if tokens.shape[3] * tokens.shape[4] <= MOST else tokens.mean(dim=3)
    yield from (x for x in (conditioning.pooled, conditioning.embedding) if x is not None)
    if conditioning.pictures is not None:
        # A picture's channels (B, V, t, R C, h, w), of every picture.
        yield _parts(conditioning.pictures.flatten(3, 4))
    maps = [conditioning.channels, conditioning.base, *conditioning.residuals.values()]
    yield from (_parts(x) for x in maps if x is not None)
    yield from (memory.mean(dim=3) for memory in conditioning.memory.values())


def _parts(maps: Tensor) -> Tensor:
    """Maps (B, V, t, C, h, w) -> means of their parts, (B, V, t, C CELLS CELLS)."""
    return adaptive_avg_pool2d(maps.flatten(0, 2), CELLS).flatten(1).unflatten(0, maps.shape[:3])
