"""What happens after a training step, in this order: log, notice signals, validate, save."""

from __future__ import annotations

import json
import math
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import CSVLogger, Logger, TensorBoardLogger, WandbLogger
from torch import Tensor

from hvg.checkpoint import checkpoint_path, keep_checkpoints
from hvg.config import RunConfig
from hvg.data import with_signals
from hvg.files import write_text
from hvg.protocols import Dataset
from hvg.required import required
from hvg.strategies import LogicalCheckpoints
from hvg.system import HumanVideoSystem
from hvg.video import tile_columns, write_video


class AfterStep(Callback):
    """A callback that acts after optimiser steps, not after each of the batches that one accumulates."""

    def on_train_batch_end(self, trainer, pl_module: Any, outputs: Any, batch, batch_idx: int) -> None:
        self.after_batch(trainer, outputs)
        if (batch_idx + 1) % trainer.accumulate_grad_batches == 0:
            self.after_step(trainer, pl_module)

    def after_batch(self, trainer, outputs: Mapping[str, Tensor]) -> None:
        """After the forward and backward pass of a batch; ``outputs`` as ``training_step`` returned."""

    def after_step(self, trainer, system: HumanVideoSystem) -> None:
        """After the optimiser's step number ``trainer.global_step``, counted from 1."""


class Progress(AfterStep):
    """Reports (step, steps, steps per second, loss) after each step, and logs the means of what the step returned.

    Lightning logs after its callbacks. A run killed between the two would have a checkpoint of a step that no log knows,
    so this one logs itself and stands before ``Checkpoints``.
    """

    def __init__(self, report: Callable[[int, int, float, float], None], log_every: int) -> None:
        self._report, self._log_every, self._last, self._speed = report, log_every, 0.0, 0.0
        self._batches: list[Mapping[str, Tensor]] = []

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx) -> None:
        self._last = self._last or time.perf_counter()

    def after_batch(self, trainer, outputs: Mapping[str, Tensor]) -> None:
        # Lightning has divided the loss, where the strategy does not do that itself.
        parts = 1 if trainer.strategy.handles_gradient_accumulation else trainer.accumulate_grad_batches
        means = {name: value.detach() for name, value in outputs.items()}
        self._batches.append({**means, "loss": means["loss"] * parts})

    def after_step(self, trainer, system: HumanVideoSystem) -> None:
        now = time.perf_counter()
        speed, self._last = 1 / max(1e-9, now - self._last), now
        self._speed = speed if not self._speed else 0.9 * self._speed + 0.1 * speed
        means = {name: torch.stack([b[name] for b in self._batches]).mean() for name in self._batches[0]}
        self._batches = []
        if trainer.global_step % self._log_every == 0:
            means = {name: trainer.strategy.reduce(value, reduce_op="mean") for name, value in means.items()}
            if trainer.is_global_zero:
                for logger in trainer.loggers:
                    logger.log_metrics({name: float(x) for name, x in means.items()}, trainer.global_step - 1)
        self._report(trainer.global_step, trainer.max_steps, self._speed, float(means["loss"]))


class Interruption(AfterStep):
    """Ends training after the step in which SIGTERM or SIGINT came to one of the processes.

    Handlers only take a note, and all processes compare notes after a step: so all stop at the same one, none waits for
    another, and ``Checkpoints``, which stands behind, saves that step. A second SIGINT interrupts at once.
    """

    def __init__(self) -> None:
        self.received = 0

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Takes the two signals inside; they do what they did before outside."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
        self._listen()
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _listen(self) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._note)

    def _note(self, number: int, frame: Any) -> None:
        if self.received == signal.SIGINT == number:
            raise KeyboardInterrupt
        self.received = number

    def on_train_start(self, trainer, pl_module) -> None:
        # Lightning has put its own handler in place: one that talks to the other processes whatever they are doing.
        if threading.current_thread() is threading.main_thread():
            self._listen()

    def after_step(self, trainer, system: HumanVideoSystem) -> None:
        notes = torch.tensor(float(self.received), device=system.device)
        self.received = int(trainer.strategy.reduce(notes, reduce_op="max"))
        if self.received:
            trainer.should_stop = True


class ValidationSamples(AfterStep):
    """Generates a few validation clips with the averaged weights, writes them as videos and shows them to the logger."""

    def __init__(self, folder: Path, clips: Dataset, config: RunConfig) -> None:
        self._folder, self._clips, self._config = folder, clips, config

    def after_step(self, trainer, system: HumanVideoSystem) -> None:
        step, strategy = trainer.global_step, trainer.strategy
        if step % self._config.training.validate_every and step != trainer.max_steps:
            return
        assert isinstance(strategy, LogicalCheckpoints)
        with strategy.averaged_weights():
            if trainer.is_global_zero:
                self.sample(trainer, system, step)

    def sample(self, trainer, system: HumanVideoSystem, step: int) -> None:
        errors = []
        system.eval()
        try:
            for index in range(min(self._config.training.validation_clips, len(self._clips))):
                clip = with_signals(self._clips.load(index), system.signals).to(system.device)
                frames = system.generate(
                    clip, num_steps=self._config.evaluation.steps, seed=self._config.evaluation.seed
                )
                truth = required(clip.frames, "ClipBatch.frames")
                errors.append(float(((frames - truth) / 2).square().mean()))
                path = self._folder / f"step-{step:07d}-{clip.clip_id[0]}.mp4"
                write_video(path, tile_columns({"truth": truth[0], "generated": frames[0]}), fps=4)
                _show(trainer.loggers, path, step)
        finally:
            system.train()
        if errors:
            psnr = -10 * math.log10(max(1e-10, sum(errors) / len(errors)))
            for logger in trainer.loggers:
                logger.log_metrics({"validation_psnr": psnr}, step)


def _show(loggers: list[Logger], path: Path, step: int) -> None:
    """Hands a video to the loggers that can show one."""
    for logger in loggers:
        if isinstance(logger, WandbLogger):
            import wandb

            logger.experiment.log({"samples": wandb.Video(str(path), format="mp4")}, step=step)


class Checkpoints(AfterStep):
    """Saves every so many steps, at the end and where the run is stopped; keeps the newest. Runs after all others."""

    def __init__(self, folder: Path, config: RunConfig) -> None:
        self.folder, self.config = folder, config

    def on_save_checkpoint(self, trainer, pl_module, checkpoint: dict[str, Any]) -> None:
        checkpoint["config"] = self.config.to_yaml()

    def after_step(self, trainer, system: HumanVideoSystem) -> None:
        step, training = trainer.global_step, self.config.training
        due = training.checkpoint_every and step % training.checkpoint_every == 0
        if due or trainer.should_stop or step == trainer.max_steps:
            trainer.save_checkpoint(checkpoint_path(self.folder, step), weights_only=False)
            if trainer.is_global_zero:
                keep_checkpoints(self.folder, training.keep_last, training.keep_every)


class MetricsFile(Logger):
    """Appends one JSON line a logged step to ``metrics.jsonl``; a resumed run first drops the lines it will redo."""

    def __init__(self, path: Path, first_step: int) -> None:
        super().__init__()
        self._path = path
        # A killed run may have left half a line at the end: only what a newline closes was written.
        lines = path.read_text().split("\n")[:-1] if path.exists() and first_step else []
        write_text(path, "".join(f"{line}\n" for line in lines if json.loads(line)["step"] < first_step))

    @property
    def name(self) -> str:
        return "metrics"

    @property
    def version(self) -> int:
        return 0

    def log_hyperparams(self, params, *args, **kwargs) -> None:
        """The configuration is in config.yaml."""

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        with self._path.open("a") as stream:
            stream.write(json.dumps({"step": step, **metrics}) + "\n")


def make_loggers(config: RunConfig, folder: Path, first_step: int) -> list[Logger]:
    """metrics.jsonl always; and the chosen one. Lightning's CSV starts anew, so every start of a run has its own."""
    loggers: list[Logger] = [MetricsFile(folder / "metrics.jsonl", first_step)]
    if config.logger.name == "csv":
        loggers.append(CSVLogger(folder, name="csv", version=f"from-step-{first_step}"))
    if config.logger.name == "tensorboard":
        loggers.append(TensorBoardLogger(folder, name="tensorboard", version=""))
    if config.logger.name == "wandb":
        loggers.append(
            WandbLogger(project=config.logger.project, name=config.name, save_dir=folder, offline=config.logger.offline)
        )
    return loggers
