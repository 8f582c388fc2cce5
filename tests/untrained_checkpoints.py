"""Checkpoints of systems that nobody trained, whose weights are all other than at the start."""

from pathlib import Path

import torch

from hvg.config.settings import RunConfig
from hvg.model.checkpoint_writing import Entry, write_checkpoint
from hvg.model.load import start_system
from hvg.model.trained_system import TrainedSystem


def write_untrained(config: RunConfig, path: Path, spread: float, *, averaged: bool = False) -> TrainedSystem:
    """Writes one of a new run, and returns its system.

    spread: standard deviation of what is added to the weights that the run starts from; a function of their sizes. averaged:
    whether it has averages of its weights, too, other ones.
    """
    system = start_system(config, lambda line: None)
    with torch.no_grad():
        for weight in system.parameters():
            weight.add_(spread * torch.randn(weight.shape, generator=torch.Generator().manual_seed(weight.numel())))
    entries = [Entry.of(f"weights/{name}", weight) for name, weight in system.state_dict().items()]
    if averaged:
        entries += [Entry.of(f"average/{name}", 0.9 * weight.detach()) for name, weight in system.named_parameters()]
    path.parent.mkdir(parents=True, exist_ok=True)
    write_checkpoint(path, {"config": config.to_yaml()}, entries)
    return system
