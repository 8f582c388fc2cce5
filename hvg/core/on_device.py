"""Numbers that the host knows, on a device: brought there without waiting until the device has done what it was told before.

A plain ``.to(device)``, and ``torch.tensor(..., device=...)``, copy from memory that may be paged out, and wait for the copy.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor


def constants(values: Sequence[float], like: Tensor) -> Tensor:
    """A few numbers (N), of the type and on the device of ``like``."""
    return torch.stack([like.new_full((), value) for value in values])


def values_of(x: Tensor) -> list[Any] | None:
    """A tensor's values, for which the host waits; None of one that has none, as where a step is only counted."""
    from torch._subclasses.fake_tensor import FakeTensor

    return None if x.is_meta or isinstance(x, FakeTensor) else x.tolist()


def upload(x: Tensor, device: torch.device) -> Tensor:
    """A tensor of the host's on a device."""
    return x.to(device) if device.type == "cpu" else x.pin_memory().to(device, non_blocking=True)
