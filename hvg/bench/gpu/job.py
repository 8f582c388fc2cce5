"""What the rows of ``hvg bench gpu`` share: a system with random weights on a device, and clips of random pictures."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from hvg.bench.steps import BareStep
from hvg.config import build
from hvg.config.composition import compose
from hvg.config.settings import RunConfig
from hvg.cost.forecast import Counts, count
from hvg.model.fake_step import fake_request, step_shape, with_features
from hvg.model.load import make_system
from hvg.model.system import HumanVideoSystem
from hvg.train.utilisation import Peak, peak_of
from hvg.values.clip import ClipBatch

# (views, frames) of a clip, or of a window.
Grid = tuple[int, int]


@dataclass(frozen=True, kw_only=True)
class Size:
    """What is measured at. words: of the configuration. training: views and frames of a clip of a step. batches: numbers of
    clips, the first one everywhere. attention, width, heads: views, and side of their latents, of attention over views, and its
    channels. sampled: views and frames of the video whose time is worked out. seconds: for how long a thing is repeated.
    """

    words: tuple[str, ...]
    training: Grid
    batches: tuple[int, ...]
    attention: Grid
    width: int
    heads: int
    sampled: Grid
    seconds: float


# As HVG trains its first phase (section 4), of which a step has 48 views x 1 frame of 2 clips; as it samples (section 3.3).
WHOLE = Size(
    words=("scale=paper", "backbone.weights=null", "strategy=single", "sampler=progressive"),
    training=(24, 1),
    batches=(1, 2, 4),
    attention=(8, 72),
    width=320,
    heads=5,
    sampled=(8, 100),
    seconds=3.0,
)
# The same rows, in seconds on a processor.
TINY = Size(
    words=(
        "scale=cpu",
        "sampler=progressive",
        "dataset.image_size=32",
        "backbone.widths=[32,32]",
        "backbone.heads=[1,1]",
    ),
    training=(2, 1),
    batches=(1, 2),
    attention=(2, 8),
    width=32,
    heads=2,
    sampled=(2, 4),
    seconds=0.0,
)
SIZES = {"whole": WHOLE, "tiny": TINY}


class Job:
    """A system of a size on a device. ``peak``: of its matrix units, in the arithmetic of training."""

    def __init__(self, size: Size, device: torch.device) -> None:
        self.size, self.device = size, device
        views, frames = size.training
        latents = () if "scale=cpu" in size.words else ("data.latents=cached",)
        grid = (f"data.views={views}", f"data.frames={frames}", f"data.batch_size={size.batches[0]}")
        training = ("training.precision=bf16", f"device={'cpu' if device.type == 'cpu' else 'cuda'}")
        self.config: RunConfig = compose([*size.words, *latents, *grid, *training])
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
        """Published for the device, else measured."""
        return peak_of(self.device, True, self.config.training.peak_tflops)

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

    def step(self, precision: str = "bf16") -> BareStep:
        """A training step in a precision; its optimiser is the only one that there is."""
        self.system.train()
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
    def arithmetic(self, bf16: bool = True) -> Iterator[None]:
        """bf16 autocast inside, or none."""
        with torch.autocast(self.device.type, torch.bfloat16, enabled=bf16):
            yield

    def seconds(self, function: Callable[[], object]) -> float:
        """Mean seconds of a call, of as many as the size says, after two that are not counted."""
        for _ in range(2):
            function()
        self.wait()
        started, calls = time.perf_counter(), 0
        while not calls or time.perf_counter() - started < self.size.seconds:
            function()
            calls += 1
            # The host would queue more than there is time for.
            self.wait()
        return (time.perf_counter() - started) / calls

    def wait(self) -> None:
        """Until the device has come this far."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

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
