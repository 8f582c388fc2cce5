"""Several processes that work on one request, as ``torchrun`` or ``srun`` starts them."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import distributed

# Number of a process, its number on its machine, and how many there are: names that torchrun gives, then those of srun. What
# a batch script starts without srun has none of the last.
NAMES = (("RANK", "LOCAL_RANK", "WORLD_SIZE"), ("SLURM_PROCID", "SLURM_LOCALID", "SLURM_STEP_NUM_TASKS"))


def started_ranks() -> tuple[int, int, int]:
    """This process's number, its number on its machine, and how many were started, before they join; (0, 0, 1) for one alone."""
    for names in NAMES:
        if names[-1] in os.environ:
            rank, local, world = (int(os.environ.get(name, "0")) for name in names)
            return rank, local, world
    return 0, 0, 1


@contextmanager
def joined_ranks() -> Iterator[tuple[int, int]]:
    """This process's rank, and how many there are; joins those that were started together for as long as the context lasts.

    They meet at MASTER_ADDR and MASTER_PORT, as torchrun and the scripts of ``hvg launch`` set them.
    """
    rank, local, world = started_ranks()
    if world == 1:
        yield 0, 1
        return
    if torch.cuda.is_available():
        torch.cuda.set_device(local)
    # Without a name: gloo for tensors on the CPU, NCCL for those on a GPU.
    distributed.init_process_group(rank=rank, world_size=world)
    try:
        yield rank, world
    finally:
        distributed.destroy_process_group()


def rank_and_world() -> tuple[int, int]:
    """This process's number in the group, and how many there are; (0, 1) outside of one."""
    return (distributed.get_rank(), distributed.get_world_size()) if joined() else (0, 1)


def from_all_ranks(value: Any) -> list[Any]:
    """Every process's value, in the order of their numbers; every process gets all of them, and all have to ask."""
    if not joined():
        return [value]
    values: list[Any] = [None] * distributed.get_world_size()
    distributed.all_gather_object(values, value)
    return values


def joined() -> bool:
    """Whether this process is in a group."""
    return distributed.is_available() and distributed.is_initialized()
