"""Callbacks after a training step, in this order: log, notice signals, validate (``hvg.train.validation``), save."""

import math
import signal
import socket
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, cast

import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.profilers import PassThroughProfiler
from torch import Tensor

from hvg.config.stages import TrainingStage
from hvg.core.exit_codes import PATIENCE, Stopped, end_process
from hvg.model.trained_system import TrainedSystem
from hvg.train.counting import Shape
from hvg.train.lightning_system import LightningSystem
from hvg.train.logical_checkpoints import LogicalCheckpoints
from hvg.train.metric_rows import OPTIMIZER
from hvg.train.throughput import PREFIX, Meter, StepReport, Throughput
from hvg.train.utilisation import StepFlops
from hvg.values.clip import ClipBatch

# Lightning's name, for profilers, of fetching the loader's next batch.
NEXT_BATCH = "[_TrainingEpochLoop].train_dataloader_next"
# Steps whose mean speed is reported.
RECENT_STEPS = 10


class AfterStep(Callback):
    """A callback that acts after optimiser steps, not after each of the batches that one accumulates.

    stage: that is trained; None: a training by itself.
    """

    stage: TrainingStage | None = None

    def run_step(self, trainer) -> int:
        """Steps of the run that are done, those of earlier stages included."""
        return trainer.global_step + (self.stage.first if self.stage else 0)

    def on_train_batch_end(self, trainer, pl_module: Any, outputs: Any, batch, batch_idx: int) -> None:
        self.after_batch(trainer, outputs, batch)
        if (batch_idx + 1) % trainer.accumulate_grad_batches == 0:
            self.after_step(trainer, cast(LightningSystem, pl_module).system)

    def after_batch(self, trainer, outputs: Mapping[str, Tensor], batch: ClipBatch) -> None:
        """After the forward and backward pass of a batch; ``outputs`` as ``training_step`` returned."""

    def after_step(self, trainer, system: TrainedSystem) -> None:
        """After the optimiser's step number ``run_step`` of the run, counted from 1."""


class DataWait(PassThroughProfiler):
    """Takes the time in which training waits for the loader's next batch: Lightning marks it for profilers."""

    def __init__(self, meter: Meter) -> None:
        super().__init__()
        self._meter = meter

    def start(self, action_name: str) -> None:
        if action_name == NEXT_BATCH:
            self._meter.begin("data")

    def stop(self, action_name: str) -> None:
        if action_name == NEXT_BATCH:
            self._meter.end("data")


class Progress(AfterStep):
    """Reports each step and how fast training is; at every ``log_every``-th logs that, and the means of what it returned.

    Lightning logs after its callbacks. A run killed between the two would have a checkpoint of a step that no log knows,
    so this one logs itself and stands before ``Checkpoints``. What saving takes is therefore part of the next row.
    """

    def __init__(
        self, report: Callable[[StepReport], None], log_every: int, meter: Meter, work: StepFlops, count_after: float
    ) -> None:
        """count_after: seconds of training after which ``work`` begins to count its FLOPs."""
        self._report, self._log_every = report, log_every
        self._meter, self._work, self._count_after = meter, work, count_after
        self._losses: list[Mapping[str, Tensor]] = []
        self._shapes: list[Shape] = []
        self._images = 0
        self._loss: float | None = None
        self._rate: float = 0.0
        self._recent: deque[Throughput] = deque(maxlen=RECENT_STEPS)
        self._row = self._total = Throughput()
        self._seen: Counter[Shape] = Counter()

    def on_train_start(self, trainer, pl_module) -> None:
        if trainer.is_global_zero:
            self._work.start()
        self._meter.start()

    def on_train_batch_start(self, trainer, pl_module, batch: ClipBatch, batch_idx) -> None:
        # Of the first group of weights; when the step is done, it is the next one's.
        self._rate = trainer.optimizers[0].param_groups[0]["lr"]
        self._shapes.append((*batch.grid, *batch.cameras.image_size))
        self._images += math.prod(batch.grid) if batch.num_valid is None else sum(batch.num_valid)

    def after_batch(self, trainer, outputs: Mapping[str, Tensor], batch: ClipBatch) -> None:
        # Lightning has divided the loss by the number of batches that a step accumulates.
        means = {name: value.detach() for name, value in outputs.items()}
        self._losses.append({**means, "loss": means["loss"] * trainer.accumulate_grad_batches})

    def after_step(self, trainer, system: TrainedSystem) -> None:
        logged = self.run_step(trainer) % self._log_every == 0
        if logged:
            # Before the time is taken: to read a number waits for a GPU's queue of work, which belongs to these steps.
            means = self._means(trainer)
            self._loss = means["loss"]
        done = self._lap(trainer, steps=1)
        self._recent.append(done)
        self._row += done
        if logged:
            self._log(trainer, means)
        self._report(
            StepReport(
                step=self.run_step(trainer),
                steps=self.stage.ends[-1] if self.stage else trainer.max_steps,
                stage=self.stage.label if self.stage else "",
                loss=self._loss,
                recent=sum(self._recent, Throughput()),
                total=self._total,
                peak=self._work.peak,
            )
        )
        if trainer.is_global_zero:
            self._work.look(self._shapes, begin=self._total.seconds >= self._count_after)
        self._seen.update(self._shapes)
        self._losses, self._shapes, self._images = [], [], 0

    def _means(self, trainer) -> dict[str, float]:
        """Means of what the step returned, over its batches and all processes."""
        means = {name: torch.stack([x[name] for x in self._losses]).mean() for name in self._losses[0]}
        shared = trainer.strategy.reduce(torch.stack(list(means.values())), reduce_op="mean")
        return dict(zip(means, shared.cpu().tolist(), strict=True))

    def _lap(self, trainer, steps: int) -> Throughput:
        """Throughput since the last lap; images are taken to be as many in the other processes."""
        done = self._meter.lap(steps=steps, images=self._images * trainer.world_size, flops=self._work.of(self._shapes))
        self._total += done
        return done

    def _log(self, trainer, means: Mapping[str, float]) -> None:
        """Hands the means and the speed since the last row to the loggers."""
        row, self._row = self._row, Throughput()
        if trainer.world_size > 1:
            images, wait = (
                torch.tensor(x, device=trainer.strategy.root_device) for x in (row.images, row.data_seconds)
            )
            # All wait for the one that waits longest for its data.
            images = float(trainer.strategy.reduce(images, reduce_op="mean"))
            wait = float(trainer.strategy.reduce(wait, reduce_op="max"))
            row = replace(row, images=images, data_seconds=wait)
        rates = {f"{PREFIX}{name}": value for name, value in row.rates(self._work.peak).items()}
        for logger in trainer.loggers if trainer.is_global_zero else ():
            logger.log_metrics({**means, **self._optimizer(trainer), **rates}, self.run_step(trainer) - 1)

    def _optimizer(self, trainer) -> dict[str, float]:
        """What the optimiser did in the last step; one that was left out, whose gradient is not finite, has no norm."""
        norm = cast(LogicalCheckpoints, trainer.strategy).gradient_norm()
        found = {"learning_rate": self._rate, **({"gradient_norm": norm} if math.isfinite(norm) else {})}
        return {f"{OPTIMIZER}{name}": value for name, value in found.items()}

    def on_train_end(self, trainer, pl_module) -> None:
        # What came after the last step: its checkpoint.
        self._lap(trainer, steps=0)
        if trainer.is_global_zero:
            self._work.stop()
            # Those of the first steps were not known then.
            self._work.note_total(replace(self._total, flops=self._work.of(self._seen.elements())))

    def on_exception(self, trainer, pl_module, exception: BaseException) -> None:
        self._work.stop()


class Interruption(AfterStep):
    """Ends training after the step in which SIGTERM or SIGINT came to one of the processes.

    Handlers only take a note, and all processes compare notes in a step: so all stop after the same one, none waits for
    another, and ``Checkpoints``, which stands behind, saves that step. Before training has started a signal ends the run at
    once, as a second SIGINT does.
    """

    def __init__(self) -> None:
        # agreed: what all processes had received when a training ended.
        self.received = self.agreed = 0
        self._training = False

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Takes the two signals inside; they do what they did before outside.

        Raises: Stopped for one that ends the run at once.
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
        # Python calls handlers between two steps of its own; native code that waits for another process takes none. To this
        # socket the number of a signal is written whatever the main thread does.
        told, tell = socket.socketpair()
        tell.setblocking(False)
        earlier = signal.set_wakeup_fd(tell.fileno(), warn_on_full_buffer=False)
        left = threading.Event()
        watch = threading.Thread(target=self._watch, args=(told, left), daemon=True)
        watch.start()
        self._training = False
        self._listen()
        try:
            yield
        finally:
            signal.set_wakeup_fd(earlier)
            for number, handler in before.items():
                signal.signal(number, handler)
            left.set()
            tell.send(bytes([0]))
            watch.join()
            told.close()
            tell.close()

    def _listen(self) -> None:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, self._note)

    def _note(self, number: int, frame: Any) -> None:
        again = self.received == signal.SIGINT == number
        self.received = number
        if again or not self._training:
            raise Stopped(number)

    def _watch(self, told: socket.socket, left: threading.Event) -> None:
        """Ends this process when a signal should have ended the run at once, and the main thread takes none."""
        before = 0
        while number := told.recv(1)[0]:
            if number not in (signal.SIGTERM, signal.SIGINT):
                continue
            at_once = not self._training or before == signal.SIGINT == number
            before = number
            if at_once and not left.wait(PATIENCE):
                end_process(
                    128 + number, f"stopped by {signal.Signals(number).name}; resume=auto continues what is saved"
                )

    def setup(self, trainer, pl_module, stage: str) -> None:
        # Lightning has put its own handler in place: one that talks to the other processes whatever they are doing.
        self._listen()

    def on_train_start(self, trainer, pl_module) -> None:
        self._listen()
        self._training = True

    def on_before_backward(self, trainer, pl_module, loss: Tensor) -> None:
        told = cast(LogicalCheckpoints, trainer.strategy).told
        told |= {str(number): float(self.received == number) for number in (signal.SIGTERM, signal.SIGINT)}

    def after_step(self, trainer, system: TrainedSystem) -> None:
        stop = self.received
        if trainer.world_size > 1:
            # What came to this process since it told the others is told in the next step.
            heard = cast(LogicalCheckpoints, trainer.strategy).heard
            stop = next((number for number in (signal.SIGTERM, signal.SIGINT) if heard[str(number)]), 0)
            self.received = stop or self.received
        if stop:
            trainer.should_stop = True

    def on_train_end(self, trainer, pl_module) -> None:
        if trainer.world_size > 1:
            note = torch.tensor(float(self.received), device=trainer.strategy.root_device)
            self.received = int(trainer.strategy.reduce(note, reduce_op="max"))
        self.agreed = self.received


def finish_work(device: torch.device) -> None:
    """Waits for a GPU's queue of work, so that what is timed next does not pay for it."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
