"""Checks that kinds share: of what a part makes of its inputs, whatever the kind.

A check gives them ``run``: from the part's inputs, a tuple of values whose first axis is the clips, to its outputs by name.
"""

import math
from collections.abc import Callable, Mapping
from operator import itemgetter
from typing import Any

import torch
from torch import Tensor, nn

from hvg.testing.building import require
from hvg.testing.elsewhere import elsewhere, is_elsewhere
from hvg.values.clip import ClipBatch
from hvg.values.tensors import map_tensors, moved

Run = Callable[..., Mapping[str, Tensor]]


def check_device(run: Run, inputs: tuple[Any, ...], part: Any = None) -> None:
    """All outputs are on the device of the inputs; shown on one that is not the CPU, without a GPU.

    part: a network that moves with them.
    """
    with elsewhere() as device:
        if isinstance(part, nn.Module):
            part.to(device)
        outputs = run(*(moved(value, device) for value in inputs))
        astray = [name for name, x in outputs.items() if not is_elsewhere(x)]
        require(not astray, f"{', '.join(astray)}: comes back on another device")


def check_batch_independence(run: Run, inputs: tuple[Any, ...]) -> None:
    """A clip's outputs do not depend on the clips beside it."""
    together = run(*inputs)
    for clip in (slice(i, i + 1) for i in range(max(map(len, together.values()), default=0))):
        alone = run(*(x.clips(clip) if isinstance(x, ClipBatch) else map_tensors(x, itemgetter(clip)) for x in inputs))
        for name, whole in together.items():
            require(alike(whole[clip], alone[name]), f"{name} of a clip changes with the clips beside it")


def alike(a: Tensor, b: Tensor) -> bool:
    """Whether two outputs are the same up to rounding, of the largest number; whole numbers and flags to the last."""
    if a.shape != b.shape or not a.is_floating_point():
        return torch.equal(a, b)
    largest = float(b.detach().abs().max()) if b.numel() else 0.0
    return torch.allclose(a, b, rtol=1e-4, atol=1e-5 * max(1.0, largest if math.isfinite(largest) else 1.0))
