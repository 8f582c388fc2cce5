"""Resizing and grey conversion exactly as the tools do it that published numbers come from."""

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import interpolate

# Weights of R, G, B in units of 2^-15: 0.299, 0.587, 0.114 as OpenCV rounds them.
GREY_WEIGHTS = (9798, 19235, 3735)
GREY_BITS = 15


def pil_bicubic(frames: Tensor, size: int) -> Tensor:
    """Frames (N, 3, H, W) in 0..255 -> (N, 3, size, size) float32, neither clipped nor rounded, on the frames' device.

    Every channel by itself as PIL's 32-bit float image, with PIL's anti-aliasing, straight to a square.
    """
    channels = frames.flatten(0, 1).float().cpu().numpy()
    resized = [np.asarray(Image.fromarray(c).resize((size, size), Image.Resampling.BICUBIC)) for c in channels]
    return torch.from_numpy(np.stack(resized)).unflatten(0, frames.shape[:2]).to(frames.device)


def torch_bilinear(frames: Tensor, size: int) -> Tensor:
    """Frames (N, 3, H, W) in 0..255 -> (N, 3, size, size) float32: bilinear, no anti-aliasing, pixel centres at +0.5."""
    return interpolate(frames.float(), size=(size, size), mode="bilinear", align_corners=False, antialias=False)


def grey_8bit(frames: Tensor) -> Tensor:
    """RGB frames (N, 3, H, W) uint8 -> grey (N, H, W) uint8: 15-bit fixed point, equal to OpenCV's."""
    red, green, blue = frames.int().unbind(1)
    total = GREY_WEIGHTS[0] * red + GREY_WEIGHTS[1] * green + GREY_WEIGHTS[2] * blue
    return ((total + (1 << (GREY_BITS - 1))) >> GREY_BITS).to(torch.uint8)
