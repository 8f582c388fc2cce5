"""Number of processes that train a run."""

from typing import Literal

from hvg.config.settings import RunConfig

Processes = tuple[int, int | Literal["auto"]]


def processes_of(config: RunConfig) -> Processes:
    """Nodes, and processes of each, that train a run."""
    strategy = config.strategy
    return (1, 1) if strategy.name == "single" else (strategy.nodes, strategy.devices)
