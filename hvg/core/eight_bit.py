"""Images and control maps as files hold them, most in 8 bits. What passes through here is the same whether stored or not."""

from typing import Literal

import numpy as np
import torch
from torch import Tensor

# OpenCV resizes 8-bit images with weights in units of 2^-11.
OPENCV_WEIGHT_BITS = 11


def frames_to_uint8(frames: Tensor) -> Tensor:
    """[-1, 1] in any floating type and shape -> uint8 in [0, 255], rounded to nearest; values out of range are clamped."""
    return (frames.detach().float().clamp(-1, 1) + 1).mul(127.5).round().to(torch.uint8)


def frames_from_uint8(frames: Tensor) -> Tensor:
    """uint8 in [0, 255] -> float32 in [-1, 1]."""
    return _divided(frames.float(), 127.5) - 1


def alpha_to_uint8(alpha: Tensor) -> Tensor:
    """[0, 1] -> uint8, rounded to nearest."""
    return (alpha * 255).round().to(torch.uint8)


def alpha_from_uint8(alpha: Tensor) -> Tensor:
    """uint8 -> float32 in [0, 1]."""
    return _divided(alpha.float(), 255)


def signal_to_uint8(signal: Tensor) -> Tensor:
    """[-1, 1] -> uint8 with 0 at 128, so that an empty control map stays exactly 0; values out of range are clamped."""
    return (signal.detach().float().clamp(-1, 1) * 127).round().add(128).to(torch.uint8)


def signal_from_uint8(signal: Tensor) -> Tensor:
    """The inverse of ``signal_to_uint8`` on what it wrote, float32."""
    return _divided(signal.float() - 128, 127)


def _divided(values: Tensor, by: float) -> Tensor:
    """The quotient, the same bits on every device: where the divisor is the host's, a GPU multiplies by its reciprocal."""
    return values / torch.full((), by, dtype=values.dtype, device=values.device)


def signal_as_stored(signal: Tensor, storage: Literal["uint8", "float16", "float32"]) -> Tensor:
    """A control map as its file gives it back (``Conditioner.signal_storage``), float32."""
    if storage == "uint8":
        return signal_from_uint8(signal_to_uint8(signal))
    return signal.detach().to(torch.float16 if storage == "float16" else torch.float32).float()


def same_bits(a: Tensor, b: Tensor) -> bool:
    """Whether two tensors hold the same numbers in the same type, to the last bit: 0 and -0 differ, equal NaNs do not."""
    if (a.dtype, a.shape) != (b.dtype, b.shape):
        return False
    return torch.equal(a.contiguous().view(torch.uint8), b.contiguous().view(torch.uint8))


def resize_8bit(frames: Tensor, size: tuple[int, int]) -> Tensor:
    """Frames (N, 3, H, W) uint8 -> the same of ``size`` (height, width): OpenCV's 8-bit bilinear resize, to the last bit.

    Weights are fixed point and the sum over rows drops bits on the way; there is no anti-aliasing.
    """
    if tuple(frames.shape[-2:]) == tuple(size):
        return frames
    rows, row_weights = _opencv_taps(frames.shape[-2], size[0], frames.device)
    columns, column_weights = _opencv_taps(frames.shape[-1], size[1], frames.device)
    # At the left and right edge the only neighbour has the whole weight. At the top and bottom both weights stay, on the
    # same row twice, which drops bits twice.
    alone = columns[0] == columns[1]
    column_weights = torch.stack([column_weights.sum(dim=0), column_weights[1] * 0]).where(alone, column_weights)
    pixels = frames.int()
    wide = pixels[..., columns[0]] * column_weights[0] + pixels[..., columns[1]] * column_weights[1]
    upper, lower = (((wide[..., rows[tap], :] >> 4) * row_weights[tap][:, None]) >> 16 for tap in (0, 1))
    return ((upper + lower + 2) >> 2).clamp(0, 255).to(torch.uint8)


def _opencv_taps(old: int, new: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Both neighbours of every new pixel, inside the image, and their weights: (2, new) int64 and int32."""
    # As OpenCV does: the place in double precision, rounded to single; the fraction taken in single.
    place = ((np.arange(new) + 0.5) * (old / new) - 0.5).astype(np.float32)
    left = np.floor(place)
    fraction = place - left
    neighbours = np.stack([left, left + 1]).clip(0, old - 1).astype(np.int64)
    unit = np.float32(1 << OPENCV_WEIGHT_BITS)
    weights = np.rint(np.stack([(1 - fraction) * unit, fraction * unit])).astype(np.int32)
    return torch.from_numpy(neighbours).to(device), torch.from_numpy(weights).to(device)
