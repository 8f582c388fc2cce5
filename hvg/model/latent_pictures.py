"""From latents to pictures, piece by piece, and to latents of another size."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from hvg.core.finite import refuse_not_finite
from hvg.parts.model import Codec
from hvg.values.moved import move


@torch.no_grad()
def decoded_pieces(
    codec: Codec,
    latents: Tensor,
    offsets: Tensor | None,
    background: Tensor,
    clips: Sequence[str],
    length: int | None,
) -> Iterator[Tensor]:
    """As of ``HumanVideoSystem.decode``. background: sRGB in [-1, 1], (3,)."""
    length, done = 1 + (latents.shape[2] - 1) * codec.temporal_stride if length is None else length, 0
    # View by view, so that no more than one is decoded at a time.
    views = [codec.decode_pieces(latents[:, v : v + 1]) for v in range(latents.shape[1])]
    for pieces in zip(*views, strict=True):
        frames = torch.cat(pieces, dim=1)[:, :, : length - done]
        refuse_not_finite(frames, clips, "the frames that the model makes")
        frames = frames.clamp(-1, 1)
        back = None if offsets is None else -offsets[:, :, done : done + frames.shape[2]]
        done += frames.shape[2]
        yield move(frames, back, background)


@torch.no_grad()
def resized_latents(codec: Codec, latents: Tensor, size: tuple[int, int]) -> Tensor:
    """Latents of the same pictures at another size (h, w); through the pixels, for latents need not be an image."""
    frames = codec.decode(latents)
    resized = interpolate(
        frames.flatten(0, 2),
        (size[0] * codec.stride, size[1] * codec.stride),
        mode="bicubic",
        antialias=True,
        align_corners=False,
    )
    return codec.encode(resized.clamp(-1, 1).unflatten(0, frames.shape[:3]))
