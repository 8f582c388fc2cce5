"""Handling of clips that cannot be read, and of losses and gradients that cannot be used.

Both are listed in the run folder, both have a limit, and both lists are part of a checkpoint: a resumed run has them as if it
had never stopped. All processes hold the same lists, so all reach a limit at the same step.
"""

import json
import math
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any, cast

import torch
from torch import Tensor

from hvg.config.settings import RunConfig
from hvg.core.checkpoint import Checkpoint
from hvg.core.errors import DataError, HvgError
from hvg.core.files import write_text
from hvg.core.ranks import from_all_ranks
from hvg.data.step_order import place_at
from hvg.model.trained_system import TrainedSystem
from hvg.train.callbacks import AfterStep
from hvg.train.logical_checkpoints import LogicalCheckpoints
from hvg.values.buckets import Group
from hvg.values.clip import ClipBatch


class FaultList(AfterStep):
    """Keeps a list of faults: in the checkpoint, in a file of the run folder with one JSON line each, and counted for loggers.

    log: takes a line about each new fault. noun: what loggers call their number.
    """

    def __init__(self, path: Path, noun: str, log: Callable[[str], None]) -> None:
        self.path = path
        self._noun, self._log = noun, log
        self.records: list[dict[str, Any]] = []

    def state_dict(self) -> dict[str, Any]:
        return {"records": self.records}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.records = state_dict["records"]

    def follow(self, before: Checkpoint) -> None:
        """Goes on with the list of the stage before, as its last checkpoint has it."""
        self.records = [*before.state["callbacks"].get(self.state_key, {}).get("records", ())]

    def on_train_start(self, trainer, pl_module) -> None:
        # What a killed run found after its last checkpoint will be found again.
        if trainer.is_global_zero and (self.records or self.path.exists()):
            self._write()

    def add(self, trainer, record: dict[str, Any], line: str) -> None:
        """Lists a fault; all processes do."""
        self.records.append(record)
        if trainer.is_global_zero:
            self._write()
            self._log(f"warning: {line}")
            for logger in trainer.loggers:
                logger.log_metrics({self._noun: float(len(self.records))}, self.run_step(trainer) - 1)

    def on_train_end(self, trainer, pl_module) -> None:
        if trainer.is_global_zero and self.records:
            self._log(f"{self._noun.replace('_', ' ')}: {len(self.records)}, listed in {self.path}")

    def _write(self) -> None:
        write_text(self.path, "".join(json.dumps(record) + "\n" for record in self.records))


class Quarantine(FaultList):
    """Lists every training clip that cannot be read, once. Ends the run when there are more than ``data.max_bad``."""

    def __init__(self, folder: Path, config: RunConfig, groups: Sequence[Group], log: Callable[[str], None]) -> None:
        super().__init__(folder / "quarantine.jsonl", "unreadable_clips", log)
        self._max_bad, self._seed, self._groups = config.data.max_bad, config.seed, groups
        self._clips_per_process = config.data.batch_size * config.training.accumulate
        self._met: list[tuple[int, str]] = []

    @property
    def clips(self) -> set[int]:
        """Indices of the clips that are listed, of this stage's data set."""
        first = self.stage.first if self.stage else 0
        return {record["clip"] for record in self.records if record["step"] >= first}

    def on_train_batch_start(self, trainer, pl_module, batch: ClipBatch, batch_idx: int) -> None:
        unreadable = any(batch.unreadable or ())
        if unreadable and batch.sample_index is not None and batch.unreadable is not None:
            places = zip(batch.sample_index.tolist(), batch.unreadable, strict=True)
            self._met += [
                (position, reason)
                for position, reason in places
                if reason and self._clip(trainer, position) not in self.clips
            ]
        cast(LogicalCheckpoints, trainer.strategy).told["unreadable"] = float(len(self._met))

    def after_step(self, trainer, system: TrainedSystem) -> None:
        if not cast(LogicalCheckpoints, trainer.strategy).heard["unreadable"]:
            return
        for rank, found in enumerate(from_all_ranks(self._met)):
            for position, reason in found:
                self._list(trainer, rank, position, reason)
        self._met = []
        if len(self.records) > self._max_bad:
            raise DataError(
                f"{self.records[-1]['reason']}; unreadable training clips: {len(self.records)}, more than "
                f"data.max_bad={self._max_bad} allows; mend what {self.path} lists, or allow more, and continue with resume=auto"
            )

    def _list(self, trainer, rank: int, position: int, reason: str) -> None:
        clip = self._clip(trainer, position)
        if clip in self.clips:
            return
        step = self.run_step(trainer) - 1
        record = {"step": step, "position": position, "clip": clip, "rank": rank, "reason": reason}
        self.add(trainer, record, f"clip {clip} is left out: {reason}")

    def _clip(self, trainer, position: int) -> int:
        return place_at(self._seed, self._groups, position, self._clips_per_process * trainer.world_size).clip


class SkippedSteps(FaultList):
    """Judges every optimiser step before it is taken, and lists those that are left out with the clips they saw.

    A step is left out, by all processes together, where a loss or the gradient is not finite, or with
    ``training.max_loss_ratio`` where the loss is a spike. The learning rate and the order of clips go on. Stops the run when
    there are more than ``training.max_skipped``; ``Checkpoints``, which stands behind, then saves the step.
    """

    def __init__(self, folder: Path, config: RunConfig, log: Callable[[str], None]) -> None:
        super().__init__(folder / "skipped.jsonl", "skipped_steps", log)
        self._max_skipped, self._ratio = config.training.max_skipped, config.training.max_loss_ratio
        self._window: deque[float] = deque(maxlen=config.training.loss_window)
        self._losses: list[Tensor] = []
        self._seen: list[tuple[Tensor | None, tuple[str, ...]]] = []
        # stopped: whether this ended the run, having left out more steps than it may.
        self._mean, self.stopped = 0.0, False

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "window": list(self._window)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict(state_dict)
        self._window.extend(state_dict["window"])

    def on_before_backward(self, trainer, pl_module, loss: Tensor) -> None:
        # Lightning has divided it by the number of batches that a step accumulates.
        self._losses.append(loss.detach())

    def on_before_optimizer_step(self, trainer, pl_module, optimizer) -> None:
        # Under ZeRO it is called after every batch that a step accumulates.
        if len(self._losses) == trainer.accumulate_grad_batches:
            strategy = cast(LogicalCheckpoints, trainer.strategy)
            self._mean = strategy.judge_step(torch.stack(self._losses).sum(), self._limit())

    def _limit(self) -> float:
        """The largest mean loss over all processes that is not too far above those before."""
        full = len(self._window) == self._window.maxlen
        # A loss that is not finite shows in the gradient.
        return self._ratio * median(self._window) if self._ratio is not None and full else math.inf

    def after_batch(self, trainer, outputs: Mapping[str, Tensor], batch: ClipBatch) -> None:
        self._seen.append((batch.sample_index, batch.clip_id))

    def after_step(self, trainer, system: TrainedSystem) -> None:
        strategy = cast(LogicalCheckpoints, trainer.strategy)
        if not strategy.step_taken():
            self._list(trainer, strategy.gradient_norm())
        elif self._ratio is not None:
            self._window.append(self._mean)
        self._losses, self._seen = [], []

    def _list(self, trainer, norm: float) -> None:
        parts = trainer.accumulate_grad_batches
        seen = {
            "losses": [_plain(float(loss) * parts) for loss in self._losses],
            "positions": [[] if places is None else places.tolist() for places, _ in self._seen],
            "clips": [list(names) for _, names in self._seen],
        }
        ranks = from_all_ranks(seen)
        batches = [batch for rank in ranks for batch in zip(rank["losses"], rank["clips"], strict=True)]
        clips = [clip for loss, names in batches if isinstance(loss, str) for clip in names]
        reason = "loss" if clips else "gradient" if not math.isfinite(norm) else "spike"
        step = self.run_step(trainer) - 1
        record = {"step": step, "reason": reason, "gradient_norm": _plain(norm), "ranks": ranks}
        why = {
            "loss": f"the loss is not finite for {', '.join(clips)}",
            "gradient": f"the gradient's norm is {norm}",
            "spike": f"the loss {self._mean:.4g} is over {self._ratio} times the median of the last {len(self._window)}",
        }
        self.add(trainer, record, f"step {step} is left out: {why[reason]}")
        if len(self.records) > self._max_skipped:
            self.stopped = trainer.should_stop = True

    def check(self) -> None:
        """Raises: HvgError when this ended the run."""
        if self.stopped:
            raise HvgError(
                f"{self.path}: steps left out: {len(self.records)}, more than training.max_skipped={self._max_skipped} allows; "
                "the state is saved, a larger training.max_skipped with resume=auto continues"
            )


def _plain(value: float) -> float | str:
    """JSON has no word for a number that is not finite."""
    return value if math.isfinite(value) else str(value)
