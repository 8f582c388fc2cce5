"""Several processes that work on one request, as ``torchrun`` starts them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

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


def rank_and_world() -> tuple[int, int]:
    """This process's number in the group, and how many there are; (0, 1) outside of one."""
    return (distributed.get_rank(), distributed.get_world_size()) if _joined() else (0, 1)


def from_all_ranks(value: Any) -> list[Any]:
    """Every process's value, in the order of their numbers; every process gets all of them, and all have to ask."""
    if not _joined():
        return [value]
    values: list[Any] = [None] * distributed.get_world_size()
    distributed.all_gather_object(values, value)
    return values


def _joined() -> bool:
    return distributed.is_available() and distributed.is_initialized()
