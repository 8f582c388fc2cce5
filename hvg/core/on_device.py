"""Numbers that the host knows, on a device: brought there without waiting until the device has done what it was told before.

A plain ``.to(device)``, and ``torch.tensor(..., device=...)``, copy from memory that may be paged out, and wait for the copy.
"""

from collections.abc import Sequence

import torch
from torch import Tensor


def constants(values: Sequence[float], like: Tensor) -> Tensor:
    """A few numbers (N), of the type and on the device of ``like``."""
    return torch.stack([like.new_full((), value) for value in values])


def upload(x: Tensor, device: torch.device) -> Tensor:
    """A tensor of the host's on a device."""
    return x.to(device) if device.type == "cpu" else x.pin_memory().to(device, non_blocking=True)
