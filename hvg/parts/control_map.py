"""What a conditioner's control map has to be, as whoever draws it finds out: its shape and its type."""

from typing import Any

from torch import Tensor

from hvg.parts.model import Conditioner
from hvg.parts.pose_guided import PoseSignal
from hvg.values.clip import ClipBatch


def map_problem(part: Conditioner, drawn: Any, batch: ClipBatch) -> str | None:
    """Why what a part drew of a batch is no control map (B, V, T, K, H, W) of its; None where it is one.

    No value of it is read, so nothing waits for a GPU.
    """
    source = "draw_map" if isinstance(part, PoseSignal) else "signal"
    if not isinstance(drawn, Tensor):
        return f"{source} gives {'None' if drawn is None else f'a {type(drawn).__name__}'}, not a control map"
    if not drawn.is_floating_point():
        return f"the control map has to be floating point; {source} gives {drawn.dtype}"
    channels = part.signal_channels(part.config)
    expected, shape = (*batch.grid, channels, *batch.cameras.image_size), tuple(drawn.shape)
    if shape == expected:
        return None
    if (*shape[:3], *shape[4:]) == (*expected[:3], *expected[4:]) and len(shape) == len(expected):
        return f"signal_channels says {channels}, {source} gives {shape[3]}"
    return f"the control map has shape {shape}, not (B, V, T, K, H, W) = {expected}"
