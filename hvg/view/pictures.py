"""Pictures that cameras saw, as small as a scene shows them."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from hvg.core.errors import DataError
from hvg.media.video import video_frames

# Longer side, pixels: every frame sends one of each camera.
PICTURE_SIDE = 256


def small_pictures(frames: Tensor) -> np.ndarray:
    """Pictures (T, H, W, 3) uint8 of frames (T, 3, H, W) uint8, no side longer than ``PICTURE_SIDE``."""
    height, width = frames.shape[-2:]
    scale = min(1.0, PICTURE_SIDE / max(height, width))
    if scale < 1:
        size = [max(1, round(side * scale)) for side in (height, width)]
        # Frame by frame: as floats all of a long video are four times as large.
        frames = torch.cat([interpolate(frame[None], size, mode="bilinear", antialias=True) for frame in frames])
    return frames.movedim(1, -1).contiguous().numpy()


def video_pictures(path: Path, frames: int) -> np.ndarray:
    """The same of a video of so many frames. Raises: DataError where it has another number, or cannot be read."""
    found = [
        small_pictures(torch.from_numpy(pixels.copy()).movedim(-1, 0)[None])[0] for pixels, _ in video_frames(path)
    ]
    if len(found) != frames:
        raise DataError(f"{path}: has {len(found)} frames, and its cameras stand in {frames}; expected as many")
    return np.stack(found)
