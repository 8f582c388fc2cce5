"""A system as Lightning trains it."""

from collections.abc import Callable
from typing import Any, Self

import lightning
from torch import Tensor
from torch.optim.lr_scheduler import LambdaLR

from hvg.model.trained_system import TrainedSystem
from hvg.values.clip import ClipBatch


class LightningSystem(lightning.LightningModule):
    """The LightningModule of a system: it trains the system's own modules, under the system's names.

    Systems are no LightningModules themselves, so that who samples, scores or checks does not import Lightning: five seconds.
    steps_before: steps of the run before those that Lightning counts, as of an earlier stage.
    """

    system: TrainedSystem

    def __init__(self, system: TrainedSystem, steps_before: int = 0) -> None:
        super().__init__()
        # Not a module of this one: names of weights in checkpoints would begin with its own.
        vars(self)["system"] = system
        self._modules, self._parameters, self._buffers = system._modules, system._parameters, system._buffers
        self._non_persistent_buffers_set = system._non_persistent_buffers_set
        self._steps_before = steps_before

    def training_step(self, batch: ClipBatch, batch_idx: int) -> dict[str, Tensor]:
        self.system.steps_done = self._steps_before + self.global_step
        return self.system.training_step(batch, batch_idx)

    def configure_optimizers(self) -> Any:
        optimizer, schedule = self.system.make_optimizer()
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": LambdaLR(optimizer, schedule), "interval": "step"},
        }

    def train(self, mode: bool = True) -> Self:
        self.system.train(mode)
        return super().train(mode)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        self.system._apply(fn, recurse)
        return self
