"""The callback that saves: when, and how what is saved beside training is followed to its end."""

from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, cast

from hvg.config.settings import RunConfig
from hvg.core.checkpoint import checkpoint_path, keep_checkpoints
from hvg.core.exit_codes import Stopped
from hvg.model.trained_system import TrainedSystem
from hvg.model.writing_beside import WritingBeside
from hvg.train.callbacks import AfterStep, finish_work
from hvg.train.lightning_system import LightningSystem
from hvg.train.logical_checkpoints import LogicalCheckpoints
from hvg.train.throughput import Meter

# By what name processes tell each other that one of them could not write.
UNWRITTEN = "unwritten"


class Checkpoints(AfterStep):
    """Saves every so many steps, at the end and where the run is stopped; keeps the newest. Runs after all others.

    With ``training.saving=beside`` what is saved is written while training goes on: an error of the writer ends all processes
    after the next step, and training ends when the last checkpoint is whole.
    """

    def __init__(self, folder: Path, config: RunConfig, meter: Meter, precision: str) -> None:
        """config: of the whole run. precision: what it is trained in, as of ``hvg.config.precision.trained_in``."""
        self.folder, self.config, self._meter, self._precision = folder, config, meter, precision
        self._beside = WritingBeside()

    def on_save_checkpoint(self, trainer, pl_module, checkpoint: dict[str, Any]) -> None:
        checkpoint["config"] = self.config.to_yaml()
        checkpoint["precision"] = self._precision
        checkpoint["global_step"] = self.run_step(trainer)
        if self.stage is not None and self.stage.label:
            checkpoint["stage"] = self.stage.label
        base = cast(LightningSystem, pl_module).system.base
        if base is not None:
            checkpoint["base"] = asdict(base)

    def on_before_backward(self, trainer, pl_module, loss) -> None:
        cast(LogicalCheckpoints, trainer.strategy).told[UNWRITTEN] = float(self._beside.failed)

    def after_step(self, trainer, system: TrainedSystem) -> None:
        strategy, step = cast(LogicalCheckpoints, trainer.strategy), self.run_step(trainer)
        if strategy.heard.get(UNWRITTEN):
            self._beside.join(hopeless=True)
        training = (self.stage or self).config.training
        due = training.checkpoint_every and step % training.checkpoint_every == 0
        last = trainer.should_stop or trainer.global_step == trainer.max_steps
        if not (due or last):
            return
        finish_work(system.device)
        # Later stages start from where one ends, and name it for what they leave out.
        ends = self.stage.ends if self.stage else ()
        keep = partial(keep_checkpoints, self.folder, training.keep_last, training.keep_every, ends)
        strategy.beside = self._beside if training.saving == "beside" else None
        self._beside.then = keep
        with self._meter.during("save"):
            trainer.save_checkpoint(checkpoint_path(self.folder, step), weights_only=False)
            if strategy.beside is None and trainer.is_global_zero:
                keep()
            if last:
                self._beside.join()

    def on_exception(self, trainer, pl_module, exception: BaseException) -> None:
        # What was begun is finished, unless the user wants to see nothing but the end.
        self._beside.leave(at_once=isinstance(exception, Stopped))
