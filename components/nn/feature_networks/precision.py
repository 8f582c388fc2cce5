"""The arithmetic of feature networks, the same whatever a run has chosen for its own."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def single_precision() -> Iterator[None]:
    """All 32 bits, and the same ones every time: no autocast, no TF32, no kernels chosen by a race.

    TF32, which torch has convolutions on GPUs use by default, changes features in the fourth digit.
    """
    cudnn = torch.backends.cudnn
    with (
        torch.autocast("cpu", enabled=False),
        torch.autocast("cuda", enabled=False),
        cudnn.flags(enabled=cudnn.enabled, benchmark=False, deterministic=True, allow_tf32=False),
    ):
        yield
