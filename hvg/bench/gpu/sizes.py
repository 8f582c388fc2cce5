"""The sizes at which ``hvg bench gpu`` measures."""

from dataclasses import dataclass

import torch

from hvg.bench.job import Grid, Job
from hvg.config.composition import compose
from hvg.config.precision import Precision


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


class GpuJob(Job):
    """The system of a size on a device. fast: the precision of its rows, bf16; of a CPU, which may emulate that, float32."""

    def __init__(self, size: Size, device: torch.device) -> None:
        views, frames = size.training
        latents = () if "scale=cpu" in size.words else ("data.latents=cached",)
        grid = (f"data.views={views}", f"data.frames={frames}", f"data.batch_size={size.batches[0]}")
        self.fast: Precision = "32" if device.type == "cpu" else "bf16"
        training = (f"training.precision='{self.fast}'", f"device={device.type}")
        super().__init__(compose([*size.words, *latents, *grid, *training]), device, size.seconds)
        self.size = size
