"""``hvg bench pictures`` and ``hvg bench reading``: what frames in shards take, on the disk and to read."""

import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from unittest.mock import patch

import numpy as np
import torch
from torch import Tensor

from hvg.config.build import build_dataset
from hvg.config.composition import compose
from hvg.config.settings import RunConfig
from hvg.core.eight_bit import frames_to_uint8
from hvg.core.random_keys import numpy_generator
from hvg.core.required import required
from hvg.core.text_tables import table
from hvg.data.cache import RenderedClips
from hvg.data.picture_files import PictureFormat, decode_picture, encode_picture
from hvg.data.shard_writing import write_shards
from hvg.data.signals import NO_SIGNALS, without_mesh
from hvg.data.training_data import ClipDataModule, TrainingOrder
from hvg.model.counted_step import model_flops
from hvg.train.utilisation import published_peak
from hvg.values.buckets import alike
from hvg.values.clip import ClipBatch

FORMATS = (
    PictureFormat(),
    PictureFormat("webp"),
    *(PictureFormat(kind, quality) for kind in ("webp", "jpeg") for quality in (95, 90)),
)
# Standard deviation of a camera's noise in good light, of 255.
NOISE = 2.0
# Workers that a GPU's process has, and how much of its peak a step reaches, where speeds are compared.
WORKERS, UTILISATION = 8, 0.4


def pictures() -> Iterator[str]:
    """Sizes and times to decode of frames in every format, clean and with a camera's noise, in turns in one process."""
    words = ("dataset.image_size=512", "dataset.views=2", "dataset.frames=2", "data.views=1", "data.frames=1")
    clips = build_dataset(compose(["scale=cpu", *words]), "train")
    clean = [x for index in range(3) for x in _pixels(required(clips.load(index).frames, "ClipBatch.frames"))]
    random = numpy_generator("bench", "noise")
    noisy = [(x + random.normal(0, NOISE, x.shape)).round().clip(0, 255).astype(np.uint8) for x in clean]
    for what, images in (("synthetic", clean), ("with noise", noisy)):
        yield f"{len(images)} frames of {images[0].shape[0]} x {images[0].shape[1]}, {what}, processor time, median of 7"
        yield from table([("kept as", "kB", "of PNG", "ms to decode", "of PNG's", "ms to encode"), *_costs(images)])


def _pixels(frames: Tensor) -> Iterator[np.ndarray]:
    """(..., 3, H, W) in [-1, 1] -> H W 3 uint8 of each."""
    yield from frames_to_uint8(frames).flatten(0, -4).movedim(1, -1).numpy()


def _costs(images: Sequence[np.ndarray]) -> Iterator[tuple[str, ...]]:
    """A row a format: kilobytes and milliseconds a frame, and their ratios to PNG's."""
    files = {form: [encode_picture(x, form) for x in images] for form in FORMATS}
    decoding: dict[PictureFormat, list[float]] = {form: [] for form in FORMATS}
    for _ in range(7):
        for form in FORMATS:
            decoding[form].append(_processor_time(lambda: [decode_picture(x) for x in files[form]]))  # noqa: B023
    sizes = {form: sum(map(len, files[form])) / len(images) for form in FORMATS}
    times = {form: statistics.median(decoding[form]) / len(images) for form in FORMATS}
    for form in FORMATS:
        encoding = _processor_time(lambda: [encode_picture(x, form) for x in images]) / len(images)  # noqa: B023
        of_png = sizes[form] / sizes[FORMATS[0]], times[form] / times[FORMATS[0]]
        numbers = sizes[form] / 1e3, of_png[0], 1e3 * times[form], of_png[1], 1e3 * encoding
        yield str(form), *(f"{number:.2f}" for number in numbers)


def _processor_time(function: Callable[[], object]) -> float:
    started = time.process_time()
    function()
    return time.process_time() - started


def reading() -> Iterator[str]:
    """Frames read a second by one and two workers, beside those that a step of scale=gpu consumes on an H100."""
    config = compose(["scale=gpu"])
    needed, clips = consumed(config), first_clips(config)
    rows = [("kept as", "1 worker", "2 workers", f"{WORKERS} at the speed of those", "of what a step consumes")]
    with tempfile.TemporaryDirectory() as folder:
        for form in (FORMATS[0], FORMATS[1], FORMATS[4]):
            shards = written(clips, Path(folder) / str(form).replace(" ", ""), form)
            one, two = (read(config, shards, workers) for workers in (1, 2))
            many = WORKERS * two / 2
            rows.append((str(form), f"{one:.0f}", f"{two:.0f}", f"{many:.0f}", f"{many / needed:.1f} x"))
    data = config.data
    yield f"frames/s of {' x '.join(map(str, (data.views, data.frames)))} frames a clip, from the disk's cache, none kept decoded"
    yield f"a step of scale=gpu consumes {needed:.0f} frames/s on an H100 at {UTILISATION:.0%} of its peak"
    yield from table(rows)


def consumed(config: RunConfig) -> float:
    """Frames a second that training takes on an H100 SXM: its FLOPs at ``UTILISATION`` of the published peak."""
    data = config.data
    flops = model_flops(config, (data.views, data.frames))
    peak = 1e12 * required(published_peak("NVIDIA H100 80GB HBM3", "bf16"), "the peak of an H100")
    return data.batch_size * data.views * data.frames * UTILISATION * peak / flops


def first_clips(config: RunConfig, count: int = 2) -> list[ClipBatch]:
    """The first training clips of a configuration."""
    source = build_dataset(config, "train")
    return [without_mesh(source.load(index)) for index in range(count)]


def written(clips: Sequence[ClipBatch], folder: Path, form: PictureFormat) -> list[Path]:
    """Shards of one clip each."""
    return write_shards(folder, "train", len(clips), clips.__getitem__, pictures=form, per_shard=1)


def read(config: RunConfig, shards: Sequence[Path], workers: int, batches: int = 14) -> float:
    """Frames a second in the batches of a run, after the first ones, of which nothing is kept in memory."""
    clips = RenderedClips(shards, build_dataset(config, "train"), frozenset())
    groups = alike(len(clips), *config.data.trained_buckets)
    order = partial(TrainingOrder, clips, NO_SIGNALS, seed=0, groups=groups)
    data = ClipDataModule(order, batch_size=config.data.batch_size, num_steps=batches, workers=workers)
    with patch("hvg.data.training_data.KEPT_BYTES", 0):
        loader, warm = iter(data.train_dataloader()), 2 * max(1, workers) + 2
        seen, started = 0, time.perf_counter()
        for number, batch in enumerate(loader):
            if number == warm:
                seen, started = 0, time.perf_counter()
            seen += torch.Size(batch.grid).numel()
    return seen / (time.perf_counter() - started)
