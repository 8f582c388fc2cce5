"""Does the run fit its strategy?"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from hvg.core.errors import Problem

if TYPE_CHECKING:
    from hvg.config.settings import RunConfig, Settings


def check_strategy(settings: Settings) -> Iterator[Problem]:
    """Problems of settings that a strategy cannot do, whatever the parts."""
    strategy, every = settings.strategy, settings.training.validate_every
    if strategy.divides_weights and every:
        yield Problem(
            "training.validate_every",
            f"{every} is asked for, but {strategy.name} cannot sample while it trains, because no device has all weights; set "
            "training.validate_every=0, or choose zero2.",
        )


def check_optimizer(config: RunConfig) -> Iterator[Problem]:
    """Problems of an optimiser that has to see weights in their own shapes."""
    if config.optimizer.cls.whole_weights and config.strategy.cuts_weights:
        yield Problem(
            "optimizer",
            f"{config.optimizer.name} has to see weights whole, strategy={config.strategy.name} cuts them up; choose ddp, or an "
            "optimiser that moves every number by itself.",
        )
