"""Several processes that work on one request, as ``torchrun`` starts them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import distributed


@contextmanager
def joined_ranks() -> Iterator[tuple[int, int]]:
    """This process's rank, and how many there are; joins them for as long as the context lasts. (0, 1) without torchrun."""
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if world == 1:
        yield 0, 1
        return
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    # Without a name: gloo for tensors on the CPU, NCCL for those on a GPU.
    distributed.init_process_group()
    try:
        yield distributed.get_rank(), world
    finally:
        distributed.destroy_process_group()
