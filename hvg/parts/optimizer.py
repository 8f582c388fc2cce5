"""Interface of optimisers: how weights follow their gradients, and what is kept of each of them for that."""

from abc import abstractmethod
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from hvg.core.bounds import Average
from hvg.parts.part import ConfigT, Part, PartConfig

# Weights of one learning rate, as torch's optimisers take them: ``params``, and ``lr`` where it is not the training's.
Group = dict[str, Any]
# Sections that checkpoints have besides.
TAKEN = ("weights", "average", "state")


class Optimizer(Part[ConfigT]):
    """How weights follow their gradients.

    What it moves are weights, or flat pieces of several where a strategy has cut them up; so how a number moves depends on what
    is kept at its place alone, or, where that is rounded, near it.

    moments: names of what it keeps of every weight, in the weight's shape. A checkpoint holds each as a section of its own, whole
    float32 tensors by the names of weights, in whatever form they are kept: so another strategy, and another optimiser that
    keeps the same, can go on with them. None is called as one of ``TAKEN``.
    whole_weights: whether it has to see every weight in its own shape; strategies that cut them up are refused then.
    """

    moments: ClassVar[tuple[str, ...]] = ()
    whole_weights: ClassVar[bool] = False

    @classmethod
    def missing(cls) -> str | None:
        """What keeps this machine from it, in a line: a library that is not here; None: nothing does."""
        return None

    @abstractmethod
    def make(self, groups: list[Group], learning_rate: float) -> torch.optim.Optimizer:
        """torch's optimiser of these weights. learning_rate: of groups that have no ``lr``."""

    def begin(self, weight: Tensor) -> dict[str, Any]:
        """What is known of a weight before its first step, by the names that the optimiser looks for in its ``state``; a count
        of steps, a tensor or a whole number, is called ``step``.
        """
        return {moment: torch.zeros_like(weight) for moment in self.moments}

    def read(self, state: Mapping[str, Any], moment: str, place: slice) -> Tensor:
        """A part of a moment, float32 (N), out of the ``state`` of a weight. place: of the flattened weight."""
        return state[moment].flatten()[place].float()

    def write(self, state: dict[str, Any], moment: str, parts: Iterable[tuple[slice, Tensor]]) -> None:
        """Sets parts of a moment, given as places of the flattened weight and what comes there; the rest stays as it is.

        What ``read`` gave, written into ``begin`` of an equal weight, goes on to the same bits.
        """
        kept = state[moment]
        # A view of it, unless it lies in memory in another order than its axes'.
        flat = kept.flatten()
        for place, value in parts:
            flat[place].copy_(value)
        if flat.data_ptr() != kept.data_ptr():
            kept.copy_(flat.view_as(kept))

    @classmethod
    def kept_bytes(cls, config: ConfigT, count: int) -> int:
        """Bytes that it keeps of a weight, or a flat piece, of so many numbers: for forecasts."""
        return 4 * count * len(cls.moments)


class AdamWConfig(PartConfig):
    """Settings of AdamW, in whatever form its averages are kept."""

    betas: tuple[Average, Average] = Field((0.9, 0.98), description="AdamW's two averaging coefficients.")
    weight_decay: float = Field(0.01, ge=0, le=1e3, description="AdamW's decoupled weight decay.")
    eps: float = Field(1e-8, gt=0, le=1, description="What is added to the root of the second average.")


class AdamW(Optimizer[AdamWConfig]):
    """AdamW with two averages in float32. Source: arXiv 1711.05101, algorithm 2."""

    moments: ClassVar[tuple[str, ...]] = ("exp_avg", "exp_avg_sq")

    def begin(self, weight: Tensor) -> dict[str, Any]:
        # On the host: what is asked of it there waits for no device.
        return {"step": torch.zeros((), dtype=torch.float32), **super().begin(weight)}

    @classmethod
    def kept_bytes(cls, config: AdamWConfig, count: int) -> int:
        return super().kept_bytes(config, count) + 4
