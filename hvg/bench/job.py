"""A system with random weights on a device, and clips of random pictures: what is timed where nobody has data or weights."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from hvg.bench.steps import BareStep
from hvg.config import build
from hvg.config.precision import precision_here
from hvg.config.settings import RunConfig
from hvg.cost.forecast import Counts, count
from hvg.model.counted_step import LiveBytes, Watch, tensors_of
from hvg.model.fake_step import fake_request, step_shape, with_features
from hvg.model.load import make_system
from hvg.model.system import HumanVideoSystem
from hvg.train.utilisation import Peak, measured_peak, told_peak
from hvg.values.clip import ClipBatch

# (views, frames) of a clip, or of a window.
Grid = tuple[int, int]


class Job:
    """The system of a configuration on a device, with random weights. repeat: seconds for which a thing is repeated."""

    def __init__(self, config: RunConfig, device: torch.device, repeat: float) -> None:
        self.config, self.device, self._repeat = config, device, repeat
        self._steps: dict[str, BareStep] = {}

    @cached_property
    def system(self) -> HumanVideoSystem:
        """Built where it runs, with random weights; of networks that are read from files the sizes alone are those."""
        with torch.device(self.device):
            codec = build.build_codec(self.config, blank=True)
            networks = build.build_networks(self.config, codec, blank=True)
        parts = build.complete_parts(self.config, codec, *networks)
        return make_system(self.config, parts).to(self.device)

    @cached_property
    def peak(self) -> Peak:
        """Of its matrix units in the arithmetic of training: published for the device, else measured."""
        bf16 = precision_here(self.config) == "bf16"
        told = told_peak(self.device, bf16, self.config.training.peak_tflops)
        return told or measured_peak(self.device, torch.bfloat16 if bf16 else torch.float32)

    @cached_property
    def counts(self) -> Counts:
        """Counts of a training step on shapes, which takes seconds of the host."""
        return count(self.config)

    def batch(self, grid: Grid, clips: int = 1, latents: bool = True) -> ClipBatch:
        """Clips of random pictures, for products of zeros are faster than others. latents: in place of the frames, and what
        frozen networks make of the photo, as training reads them.
        """
        height, width = self.picture
        request = fake_request(self.config, (clips, *grid, height, width))
        batch = replace(
            request.batch,
            frames=_random(request.batch.frames),
            signals={key: _random(x) for key, x in request.batch.signals.items()},
            reference=request.batch.reference
            and replace(request.batch.reference, frames=_random(request.batch.reference.frames)),
            num_valid=(grid[0] * grid[1],) * clips,
            unreadable=("",) * clips,
        ).to(self.device)
        if not latents:
            return batch
        with torch.no_grad():
            batch = with_features(batch, self.system.conditioners)
        return replace(batch, latents=_random(request.noisy).to(self.device), frames=None)

    @property
    def picture(self) -> tuple[int, int]:
        """Height and width of the pictures."""
        shape = step_shape(self.config)
        if shape is None:
            raise ValueError("the sizes of this benchmark say how large pictures are")
        return shape[3], shape[4]

    def step(self, precision: str | None = None) -> BareStep:
        """A training step in a precision, None: the configuration's; its optimiser is the only one that there is."""
        self.system.train()
        precision = precision or precision_here(self.config)
        if precision not in self._steps:
            self._steps.clear()
            training = self.config.training.model_copy(update={"precision": precision})
            self._steps[precision] = BareStep(self.system, self.config.model_copy(update={"training": training}))
        return self._steps[precision]

    @contextmanager
    def backbone(self, **settings: Any) -> Iterator[None]:
        """The backbone with other settings of how its blocks are run, inside."""
        network: Any = self.system.backbone
        before = network.config
        network.config = before.model_copy(update={k: v for k, v in settings.items() if hasattr(before, k)})
        try:
            yield
        finally:
            network.config = before

    @contextmanager
    def arithmetic(self, bf16: bool) -> Iterator[None]:
        """bf16 autocast inside, or none."""
        with torch.autocast(self.device.type, torch.bfloat16, enabled=bf16):
            yield

    def seconds(self, function: Callable[[], object]) -> float:
        """Mean seconds of a call, of as many as there is time for, after two that are not counted."""
        for _ in range(2):
            function()
        self.wait()
        started, calls = time.perf_counter(), 0
        while not calls or time.perf_counter() - started < self._repeat:
            function()
            calls += 1
            # The host would queue more than there is time for.
            self.wait()
        return (time.perf_counter() - started) / calls

    def wait(self) -> None:
        """Until the device has come this far."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def alive(self, batch: ClipBatch) -> int:
        """Most bytes of tensors alive in a training step, weights and the optimiser's state included; none is left out."""
        step, alive = self.step(), LiveBytes()
        # Its first one makes the optimiser's state.
        step(batch)
        states = [x for x in tree_leaves(step.optimizer.state_dict()) if isinstance(x, Tensor)]
        for x in (*tensors_of([self.system]), *states):
            alive.follow(x)
        with Watch(alive.watch):
            step(batch)
        return alive.peak

    def tidy(self) -> None:
        """Gives memory back that nothing holds."""
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats(self.device)


def _random(like: Tensor | None) -> Tensor:
    """A tensor of this form in [-1, 1]; the same each time."""
    if like is None:
        raise ValueError("a clip of the benchmark has frames and a photo")
    return torch.rand(like.shape, generator=torch.Generator().manual_seed(0)) * 2 - 1
