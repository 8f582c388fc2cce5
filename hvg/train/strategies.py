"""Strategies: on how many devices a run trains, and how they share its state."""

import os
import sys

import torch
from torch import distributed

from hvg.config.settings import RunConfig
from hvg.core.errors import HvgError
from hvg.train.fully_shard import FullyShard
from hvg.train.logical_checkpoints import DataParallel, LogicalCheckpoints, SingleDevice
from hvg.train.zero import Zero


def make_strategy(config: RunConfig, device: torch.device, bf16: bool) -> LogicalCheckpoints:
    """Lightning's strategy for a run. Raises: HvgError where the device cannot do it."""
    name, offload = config.strategy.name, config.strategy.offload
    if name == "single":
        return SingleDevice(config, device=torch.device("cuda", 0) if device.type == "cuda" else device)
    backend = "nccl" if device.type == "cuda" else "gloo"
    if name == "ddp":
        # So that gradients keep their first grouping for the exchange. Else they would be grouped anew after a first step, a
        # resumed run's too, and of three processes and more their sums would be taken in another order.
        return DataParallel(config, process_group_backend=backend, find_unused_parameters=True)
    if name == "fsdp":
        return FullyShard(config, process_group_backend=backend)
    if device.type == "cpu":
        if offload != "none":
            raise HvgError(
                f"strategy.offload={offload} needs a GPU to offload from; on a CPU set strategy.offload=none"
            )
        os.environ["DS_ACCELERATOR"] = "cpu"
    return Zero(config, stage=int(name[-1]), bf16=bf16, process_group_backend=backend)


def leave_group() -> None:
    """Processes that have joined a group leave it together; one that ended in it could abort after success."""
    distributed.barrier()
    # DeepSpeed, where it took part, would keep groups of a world that is gone, and give them to the next run of the process.
    used = sys.modules.get("deepspeed.comm.comm")
    leave = (
        used.destroy_process_group if used is not None and used.cdb is not None else distributed.destroy_process_group
    )
    leave()
