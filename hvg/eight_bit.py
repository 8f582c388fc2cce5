"""Images and control maps as 8 bits hold them. What passes through here is the same whether it was stored or not."""

from __future__ import annotations

import torch
from torch import Tensor


def frames_to_uint8(frames: Tensor) -> Tensor:
    """[-1, 1] in any floating type and shape -> uint8 in [0, 255], rounded to nearest; values out of range are clamped."""
    return (frames.detach().float().clamp(-1, 1) + 1).mul(127.5).round().to(torch.uint8)


def frames_from_uint8(frames: Tensor) -> Tensor:
    """uint8 in [0, 255] -> float32 in [-1, 1]."""
    return frames.float() / 127.5 - 1


def signal_to_uint8(signal: Tensor) -> Tensor:
    """[-1, 1] -> uint8 with 0 at 128, so that an empty control map stays exactly 0; values out of range are clamped."""
    return (signal.detach().float().clamp(-1, 1) * 127).round().add(128).to(torch.uint8)


def signal_from_uint8(signal: Tensor) -> Tensor:
    """The inverse of ``signal_to_uint8`` on what it wrote, float32."""
    return (signal.float() - 128) / 127
