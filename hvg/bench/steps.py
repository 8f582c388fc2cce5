"""The benchmarks ``training`` and ``data`` of ``hvg bench``: steps of a run beside those of a bare loop; waiting for clips."""

import json
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from itertools import product
from typing import Any
from unittest.mock import patch

import torch

from hvg.bench.timing import Ratio, Setting, clock_for, one_setting, one_thread, threads, watched
from hvg.config.composition import compose
from hvg.config.precision import precision_here
from hvg.config.settings import RunConfig
from hvg.core.text_tables import table
from hvg.data.prepare import prepare
from hvg.data.step_order import training_groups
from hvg.data.training_data import KEPT_BYTES, ClipDataModule, TrainingOrder
from hvg.model.load import build_video_model
from hvg.model.system import HumanVideoSystem
from hvg.parts.backbone import Backbone
from hvg.train.run import run_folder, train
from hvg.values.clip import ClipBatch
from hvg.values.packed import unpacked

# Steps of a run that are not counted: kernels are chosen, and clips read for the first time.
WARM = 10
# Few people, which are rendered ahead, as in a study: a step then reads clips, it does not make them.
SMALL = ("dataset.num_subjects=8", "dataset.num_held_out_subjects=1")


@dataclass
class Steps:
    """Seconds of steps that took turns: of a run, and of a bare loop, where forward, backward and optimiser are told apart.

    run, loop: of all of a step, its data included. model: the part of the bare loop's that is not its data.
    """

    setting: Setting
    clock: str
    run: list[float] = field(default_factory=list)
    loop: list[float] = field(default_factory=list)
    model: list[float] = field(default_factory=list)

    def over(self, other: Sequence[float]) -> Ratio:
        """The run's over the ``loop``'s, or the ``model``'s, without those that warmed up."""
        return Ratio.of(self.run[WARM:], other[WARM:], self.clock, self.setting)


def training() -> Iterator[str]:
    """Steps per second, and what of a step is not the model, nor a bare loop's; waiting for data, and saving."""
    with tempfile.TemporaryDirectory() as folder:
        words = (f"data.cache={folder}", f"output={folder}", "training.steps=60", "training.checkpoint_every=20")
        config = compose(["scale=cpu", *words, *SMALL])
        steps = steps_in_turns(config)
        total = json.loads((run_folder(config) / "run.json").read_text())["throughput"]["total"]
    of_model, of_loop = steps.over(steps.model), steps.over(steps.loop)
    yield f"both sides: {steps.setting.words}, one model, one loader's clips; {steps.clock}, median of {of_loop.pairs}"
    yield f"{1 / of_loop.ours:.2f} steps/s"
    yield f"{100 * (1 - 1 / of_model.ratio):.1f} % of a step is not forward, backward and optimiser"
    yield f"{100 * (of_loop.ratio - 1):.1f} % over the steps of a bare loop that reads the same clips"
    yield f"{1e3 * total['data_seconds'] / total['steps']:.1f} ms a step waiting for data, mean of {total['steps']}"
    yield f"{total['save_seconds'] / 3:.2f} s a checkpoint, mean of 3"


def steps_in_turns(config: RunConfig, log: Callable[[str], None] = print) -> Steps:
    """Times the steps of a run, and those of a bare loop that take turns with them, so that a busy moment hits both.

    log: takes what the run says. Raises: HvgError where the two do not compute alike.
    """
    with threads(config.training.threads or 1):
        prepare([config], ("train", "val"), jobs=1)
        system = build_video_model(config)
        step, batches = BareStep(system, config), batches_of(config, system, config.training.steps, workers=0)
        seen: list[list[Setting]] = []
        found: list[Steps] = []
        with ExitStack() as watching:
            seen.append(watching.enter_context(watched(Backbone)))
            ended = 0.0

            def begin() -> Steps:
                """After the run's first step: what that was, and what the bare loop's first one is."""
                watching.close()
                with watched(Backbone) as bare:
                    step(next(batches))
                seen.append(bare)
                setting = one_setting("training", *seen)
                return Steps(setting, clock_for(setting)[0])

            def report(*_: object) -> None:
                nonlocal ended
                if not found:
                    found.append(begin())
                    ended = clock_for(found[0].setting)[1]()
                    return
                times, now = found[0], clock_for(found[0].setting)[1]
                reached = now()
                batch = next(batches)
                read = now()
                step(batch)
                times.run.append(reached - ended)
                ended = now()
                times.loop.append(ended - reached)
                times.model.append(ended - read)

            train(config, report, log)
    return found[0]


class BareStep:
    """Does forward, loss, backward, clipping and optimiser on a batch that is ready, in the run's precision."""

    def __init__(self, system: HumanVideoSystem, config: RunConfig) -> None:
        self._system, self._bf16 = system, precision_here(config) == "bf16"
        self._device = next(system.parameters()).device.type
        self.optimizer: Any = system.make_optimizer()[0]

    def __call__(self, batch: ClipBatch) -> None:
        self.optimizer.zero_grad()
        with torch.autocast(self._device, torch.bfloat16, enabled=self._bf16):
            loss = self._system.training_step(batch, 0)["loss"]
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self._system.parameters(), 1.0)
        self.optimizer.step()


def batches_of(config: RunConfig, system: HumanVideoSystem, num_steps: int, workers: int) -> Iterator[ClipBatch]:
    """Batches as a run of so many steps takes them."""
    clips = system.training_clips(config)
    groups, recolour = training_groups(config, len(clips)), config.data.recolour
    order = partial(
        TrainingOrder,
        clips,
        system.signals,
        seed=0,
        groups=groups,
        recolour=recolour,
        first_view=config.data.first_view,
    )
    data = ClipDataModule(order, batch_size=config.data.batch_size, num_steps=num_steps, workers=workers)
    return map(unpacked, data.train_dataloader())


def data() -> Iterator[str]:
    """How long a step waits for its clips: from memory, as small datasets train, and from the disk, as large ones do."""
    rows = [("latents", "clips", "workers", "ms waiting", "ms a step", "share")]
    with tempfile.TemporaryDirectory() as folder, one_thread():
        words = (*SMALL, f"data.cache={folder}", "data.recolour=0")
        configs = {kind: compose(["scale=cpu", f"data.latents={kind}", *words]) for kind in ("encode", "cached")}
        prepare([configs["cached"]], ("train",), jobs=1)
        for (kind, config), room, workers in product(configs.items(), (KEPT_BYTES, 0), (0, 1)):
            with patch("hvg.data.training_data.KEPT_BYTES", room):
                waiting, whole = _waiting(config, workers)
            shown = f"{1e3 * waiting:.1f}", f"{1e3 * whole:.0f}", f"{waiting / whole:.1%}"
            rows.append((kind, "in memory" if room else "on the disk", str(workers), *shown))
    yield "wall time, one core for the model, median of 16 steps; pixels folded by 4, so that encoding costs nothing"
    yield from table(rows)


def _waiting(config: RunConfig, workers: int) -> tuple[float, float]:
    """Median seconds that a step waits for its batch, and that it takes in all."""
    system = build_video_model(config)
    step, num_steps, waits, whole = BareStep(system, config), 24, [], []
    batches = batches_of(config, system, num_steps, workers)
    for _ in range(num_steps):
        started = time.perf_counter()
        batch = next(batches)
        waits.append(time.perf_counter() - started)
        step(batch)
        whole.append(time.perf_counter() - started)
    # The first ones warm up, and fill the memory.
    return statistics.median(waits[8:]), statistics.median(whole[8:])
