"""Pictures and videos as numbers, for tests that look into files."""

from pathlib import Path

import av
import numpy as np
import torch
from torch import Tensor

from hvg.core.eight_bit import frames_from_uint8
from hvg.media.images import read_image_8bit
from hvg.media.video import video_frames


def read_image(path: Path) -> tuple[Tensor, Tensor | None]:
    """An image file as (3, H, W) in [-1, 1] and its alpha as (1, H, W) in [0, 1], None where the file has none."""
    pixels, alpha = read_image_8bit(path)
    return frames_from_uint8(pixels), None if alpha is None else alpha.float() / 255


def read_video(path: Path) -> tuple[Tensor, float]:
    """All frames of a video file, (T, 3, H, W) in [-1, 1], and its mean frame rate in Hz."""
    frames, rate = read_video_8bit(path)
    return frames_from_uint8(frames), rate


def read_video_8bit(path: Path) -> tuple[Tensor, float]:
    """The same as ``read_video``, with frames (T, 3, H, W) as uint8."""
    pixels = [image for image, _ in video_frames(path)]
    with av.open(str(path)) as container:
        rate = container.streams.video[0].average_rate
    assert rate is not None
    return torch.from_numpy(np.stack(pixels)).movedim(-1, 1), float(rate)
