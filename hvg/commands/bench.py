"""``hvg bench``: what takes how long here. Medians over runs; where two things are compared, their ratio in one run."""

from __future__ import annotations

import json
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import product
from typing import NamedTuple
from unittest.mock import patch

import torch

from hvg.config.build import build_dataset
from hvg.config.composition import compose
from hvg.config.settings import RunConfig
from hvg.core import provenance
from hvg.core.errors import HvgError, did_you_mean
from hvg.core.random_keys import generator
from hvg.core.text_tables import table
from hvg.data.cache import open_clips, open_training_clips
from hvg.data.prepare import prepare
from hvg.data.signals import load_with_signals
from hvg.data.training_data import KEPT_BYTES, ClipDataModule, TrainingOrder
from hvg.geometry.ellipsoids import ellipsoids_from_bones, render
from hvg.geometry.skeleton import BONES, bone_radii
from hvg.model.load import build_system
from hvg.model.system import HumanVideoSystem
from hvg.parts import registry
from hvg.parts.context import Context
from hvg.train.run import run_folder, train
from hvg.values.cameras import orbit
from hvg.values.clip import ClipBatch
from hvg.values.grid import ViewGrid
from hvg.values.scored_clip import ScoredClip


def _seconds(function: Callable[[], object], runs: int) -> list[float]:
    """Wall time of ``runs`` calls, after one that is not counted."""
    function()
    times = []
    for _ in range(runs):
        started = time.perf_counter()
        function()
        times.append(time.perf_counter() - started)
    return times


@contextmanager
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _clip(config: RunConfig) -> ClipBatch:
    return build_dataset(config, "test").load(0)


def bone_map() -> Iterator[str]:
    """Bone maps of 24 bones at 576 x 576 on one core."""
    clip = _clip(compose(["scale=cpu"]))
    assert clip.body is not None
    joints = clip.body.joints[0, 0]
    index = {name: i for i, name in enumerate(clip.body.joint_names)}
    a, b = (torch.stack([joints[index[bone[end]]] for bone in BONES]) for end in (0, 1))
    ellipsoids = ellipsoids_from_bones(a, b, bone_radii(1.7))
    cameras = orbit(
        torch.tensor([20.0]),
        elevation_degrees=5.0,
        distance=3.0,
        target=joints[0],
        fov_degrees=37.0,
        image_size=(576, 576),
    )[0]
    with _one_thread(), torch.no_grad():
        times = _seconds(lambda: render(ellipsoids, cameras), 30)
    yield f"{1e3 * statistics.median(times):.1f} ms a frame, {len(BONES)} bones, 576 x 576, one core, median of 30"


def people() -> Iterator[str]:
    """Synthetic clips with all pose maps."""
    for pose in ("none", "bone_map", "skeleton", "smpl_normal"):
        config = compose(["scale=cpu", f"pose={pose}"])
        clips, signals = build_dataset(config, "train"), build_system(config).signals
        with _one_thread():
            numbers = iter(range(len(clips)))
            times = _seconds(lambda: load_with_signals(clips, next(numbers), signals), 8)  # noqa: B023
        _, views, frames = clips.load(0).grid
        median = statistics.median(times)
        yield f"{1 / median:.1f} clips/s of {views} x {frames} images with pose={pose}, one core, median of 8"


def training() -> Iterator[str]:
    """Steps per second, and what of a step is not the model; waiting for data, and saving."""
    with tempfile.TemporaryDirectory() as folder, _one_thread():
        # Rendered ahead, as in a study: a step then reads clips, it does not make them.
        small = ("dataset.num_subjects=8", "dataset.num_held_out_subjects=1", f"data.cache={folder}")
        every = ("training.steps=60", "training.checkpoint_every=20")
        config = compose(["scale=cpu", f"output={folder}", *every, *small])
        prepare([config], ("train", "val"), jobs=1)
        whole, model = _steps_in_alternation(config)
        total = json.loads((run_folder(config) / "run.json").read_text())["throughput"]["total"]
    yield f"{1 / statistics.median(step.wall for step in whole):.2f} steps/s, one core, median of {len(whole)}"
    rest = statistics.median(1 - bare.work / step.work for step, bare in zip(whole, model, strict=True))
    yield f"{100 * rest:.1f} % of a step's processor time is not forward, backward and optimiser, median of {len(whole)}"
    yield f"{1e3 * total['data_seconds'] / total['steps']:.1f} ms a step waiting for data, mean of {total['steps']}"
    yield f"{total['save_seconds'] / 3:.2f} s a checkpoint, mean of 3"


class _Spent(NamedTuple):
    """Seconds on the wall, and of work of this process: what other processes do changes those little."""

    wall: float
    work: float

    @classmethod
    def now(cls) -> _Spent:
        return cls(time.perf_counter(), time.process_time())

    def since(self, before: _Spent) -> _Spent:
        return _Spent(self.wall - before.wall, self.work - before.work)


def _steps_in_alternation(config: RunConfig) -> tuple[list[_Spent], list[_Spent]]:
    """Costs of a run's steps, and of bare steps that take turns with them, so that a busy moment hits both."""
    bare_step, ended = _bare_step(config), _Spent.now()
    whole, model = [], []

    def report(*_: object) -> None:
        nonlocal ended
        reached = _Spent.now()
        bare_step()
        whole.append(reached.since(ended))
        ended = _Spent.now()
        model.append(ended.since(reached))

    train(config, report)
    # The first ones warm up.
    return whole[10:], model[10:]


def _bare_step(config: RunConfig) -> Callable[[], None]:
    """Does forward, loss, backward, clipping and optimiser on one batch that is ready."""
    system = build_system(config)
    order = TrainingOrder(
        open_clips(config, "train", system.signals, system.needs_mesh),
        system.signals,
        seed=0,
        grids=[(config.data.views, config.data.frames)],
        clips_per_step=config.data.batch_size,
        mesh=system.needs_mesh,
        first_view=config.data.first_view,
    )
    batch = ClipBatch.stack([order[i] for i in range(config.data.batch_size)])
    optimizer = system.configure_optimizers()["optimizer"]

    def step() -> None:
        optimizer.zero_grad()
        system.training_step(batch, 0)["loss"].backward()
        torch.nn.utils.clip_grad_norm_(system.parameters(), 1.0)
        optimizer.step()

    return step


def sampling() -> Iterator[str]:
    """Sampling time over the bare calls of the denoiser."""
    config = compose(["scale=cpu"])
    with _one_thread():
        system = build_system(config).eval()
        clip = load_with_signals(build_dataset(config, "test"), 0, system.signals)
        spent: list[float] = []
        ratios = [_overhead(system, clip, config.evaluation.steps, spent) for _ in range(9)]
    yield f"{statistics.median(spent):.2f} s a clip of {clip.grid[1]} x {clip.grid[2]} images, one core, median of 9"
    yield f"{100 * (statistics.median(ratios) - 1):.1f} % over the bare calls of the denoiser, median of 9"


def _overhead(system: HumanVideoSystem, clip: ClipBatch, steps: int, spent: list[float]) -> float:
    """Time of a whole sampling run over the time of its calls of the denoiser within the same run."""
    inside, denoise = 0.0, system.backbone.forward

    def timed(*arguments):
        nonlocal inside
        started = time.perf_counter()
        estimate = denoise(*arguments)
        inside += time.perf_counter() - started
        return estimate

    with patch.object(system.backbone, "forward", timed):
        started = time.perf_counter()
        system.generate(clip, num_steps=steps)
        spent.append(time.perf_counter() - started)
    return spent[-1] / inside


def progressive() -> Iterator[str]:
    """HVG's progressive sampling of a long multi-view clip: its declared cost, and its time over the bare calls."""
    views, frames = 6, 24
    config = compose(["scale=cpu", "sampler=progressive", f"dataset.views={views}", f"dataset.frames={frames}"])
    # Pose maps are encoded once a video: in the tiny scale's three steps that weighs more than in the 25 of SVD.
    steps = 8
    with _one_thread():
        system = build_system(config).eval()
        clip = load_with_signals(build_dataset(config, "test"), 0, system.signals)
        calls, cells = _denoised(system, clip, steps)
        spent: list[float] = []
        ratios = [_overhead(system, clip, steps, spent) for _ in range(3)]
    declared = system.sampler.cost(steps, views, frames)
    yield f"{views} views x {frames} frames, {steps} steps: {calls} calls of the denoiser, {cells} images"
    yield f"{cells / (views * frames):.2f} passes over the whole grid, {declared:.2f} declared"
    yield f"{statistics.median(spent):.2f} s a clip, one core, median of {len(spent)}"
    yield f"{100 * (statistics.median(ratios) - 1):.1f} % over the bare calls of the denoiser, median of {len(ratios)}"


def _denoised(system: HumanVideoSystem, clip: ClipBatch, steps: int) -> tuple[int, int]:
    """Calls of the denoiser, and images (clips x views x latent frames) in them."""
    grids: list[int] = []
    handle = system.backbone.register_forward_pre_hook(lambda _, inputs: grids.append(inputs[0].shape[:3].numel()))
    system.sample_latents(clip, num_steps=steps)
    handle.remove()
    return len(grids), sum(grids)


CHANNELS, HEADS = 64, 2
VIEWS, SIDES = (2, 4, 8, 16), (8, 16, 32)
VIEW_ATTENTIONS: dict[str, tuple[str, dict[str, str]]] = {
    "aligned_2d pixel": ("aligned_2d", {"group": "pixel"}),
    "aligned_2d row": ("aligned_2d", {"group": "row"}),
    "full_3d": ("full_3d", {}),
    "epipolar": ("epipolar", {}),
    "neighbours": ("neighbours", {}),
}


def view_attention() -> Iterator[str]:
    """Attention over views against the number of views and cells: measured and as declared; then few tokens, many cells."""
    milliseconds: dict[tuple[str, int, int], float] = {}
    declared: dict[tuple[str, int, int], int] = {}
    for name, (part, settings) in VIEW_ATTENTIONS.items():
        cls = registry.load("view_attention", part)
        module = cls(cls.Config(**settings), CHANNELS, HEADS)
        for views, side in product(VIEWS, SIDES):
            x, grid = torch.randn(1, views, 1, side, side, CHANNELS), _orbit(views, side)
            with _one_thread(), torch.no_grad():
                milliseconds[name, views, side] = 1e3 * statistics.median(_seconds(partial(module, x, grid), 5))
            declared[name, views, side] = cls.flops(module.config, views, side, side, CHANNELS)
    yield f"forward pass of one latent frame, {CHANNELS} channels, {HEADS} heads, one core, median of 5"
    yield "x: growth from the row with half as many views, measured and (declared)"
    rows = [("", "views", "cells", "ms", "MFLOP", "x views", "ms / pixel's", "(declared)")]
    for (name, views, side), time_ in milliseconds.items():
        half, pixel = (name, views // 2, side), ("aligned_2d pixel", views, side)
        growth = ""
        if half in milliseconds:
            times, costs = time_ / milliseconds[half], declared[name, views, side] / declared[half]
            growth = f"{times:.1f} ({costs:.1f})"
        over = f"{time_ / milliseconds[pixel]:.1f}", f"({declared[name, views, side] / declared[pixel]:.1f})"
        cost = f"{declared[name, views, side] / 1e6:.1f}"
        rows.append((name, str(views), f"{side} x {side}", f"{time_:.2f}", cost, growth, *over))
    yield from table(rows)
    yield ""
    yield "aligned_2d pixel: time of attention over that of its four projections, forward; forward and backward, median of 9"
    few = [("views", "cells", "forward", "both")]
    for views, side in product(VIEWS, SIDES):
        forward, both = (f"{_products_over_projections(views, side, backward):.2f}" for backward in (False, True))
        few.append((str(views), f"{side} x {side}", forward, both))
    yield from table(few)


def _orbit(views: int, side: int) -> ViewGrid:
    """Cameras evenly around a person, with pictures of ``side`` x ``side`` cells."""
    cameras = orbit(
        torch.arange(views) * (360.0 / views),
        elevation_degrees=5.0,
        distance=3.0,
        target=torch.zeros(3),
        fov_degrees=40.0,
        image_size=(side, side),
    )
    return ViewGrid.whole(cameras[None, :, None])


def _products_over_projections(views: int, side: int, backward: bool) -> float:
    """Time of attending (moving axes included) over that of the four projections, at many cells of few tokens."""
    cls = registry.load("view_attention", "aligned_2d")
    attention = cls(cls.Config(), CHANNELS, HEADS).attention
    x = torch.randn(1, views, 1, side, side, CHANNELS, requires_grad=backward)
    projected = attention.query_key_value(x).detach().requires_grad_(backward)

    def project() -> None:
        for layer in (attention.query_key_value, attention.out):
            result = layer(x)
            if backward:
                torch.autograd.grad(result, [x, layer.weight], torch.empty_like(result))

    def mix() -> None:
        result = attention.mix(projected)
        if backward:
            torch.autograd.grad(result, projected, torch.empty_like(result))

    with _one_thread(), torch.set_grad_enabled(backward):
        # One after the other, so that a busy moment hits both.
        pairs = [(_seconds(mix, 1)[0], _seconds(project, 1)[0]) for _ in range(9)]
    return statistics.median(a for a, _ in pairs) / statistics.median(b for _, b in pairs)


def scoring() -> Iterator[str]:
    """Metrics of single pictures over 1,000 frames of 256 x 256, on all cores."""
    random = generator("bench", "scoring")
    truth = torch.randint(0, 256, (1, 250, 3, 256, 256), generator=random, dtype=torch.uint8)
    noise = torch.randint(0, 40, truth.shape, generator=random, dtype=torch.uint8)
    clip = ScoredClip(
        clip_id="clip",
        subject="subject",
        prediction=truth.clamp(max=215) + noise,
        truth=truth,
        valid=torch.ones(1, 250, dtype=torch.bool),
    )
    rows = [("metric", "s for 1,000 frames")]
    for protocol in ("disco_2023", "disco_fixed", "modern"):
        for label in ("psnr", "ssim", "l1"):
            choice = compose([f"protocol={protocol}"]).protocol.metrics.get(label)
            if choice is not None:
                seconds = _seconds(partial(choice.cls(choice.config, Context()).measure, clip), 3)
                rows.append((f"{protocol} {label}", f"{4 * statistics.median(seconds):.2f}"))
    yield f"median of 3 times 250 frames, {provenance.usable_cores()} cores"
    yield from table(rows)


def data() -> Iterator[str]:
    """How long a step waits for its clips: from memory, as small datasets train, and from the disk, as large ones do."""
    rows = [("latents", "clips", "workers", "ms waiting", "ms a step", "share")]
    with tempfile.TemporaryDirectory() as folder, _one_thread():
        small = ("dataset.num_subjects=8", "dataset.num_held_out_subjects=1", f"data.cache={folder}", "data.recolour=0")
        configs = {kind: compose(["scale=cpu", f"data.latents={kind}", *small]) for kind in ("encode", "cached")}
        prepare([configs["cached"]], ("train",), jobs=1)
        for (kind, config), room, workers in product(configs.items(), (KEPT_BYTES, 0), (0, 1)):
            with patch("hvg.data.training_data.KEPT_BYTES", room):
                waiting, whole = _waiting(config, workers)
            place = "in memory" if room else "on the disk"
            rows.append(
                (kind, place, str(workers), f"{1e3 * waiting:.1f}", f"{1e3 * whole:.0f}", f"{waiting / whole:.1%}")
            )
    yield "wall time, one core for the model, median of 16 steps; pixels folded by 4, so that encoding costs nothing"
    yield from table(rows)


def _waiting(config: RunConfig, workers: int) -> tuple[float, float]:
    """Median seconds that a step waits for its batch, and that it takes in all."""
    system = build_system(config)
    optimizer = system.configure_optimizers()["optimizer"]
    loader = ClipDataModule(
        open_training_clips(config, system.codec, system.conditioners),
        system.signals,
        seed=0,
        grids=[(config.data.views, config.data.frames)],
        batch_size=config.data.batch_size,
        num_steps=24,
        workers=workers,
        mesh=system.needs_mesh,
    ).train_dataloader()
    waits, whole, batches = [], [], iter(loader)
    for _ in range(len(loader)):
        started = time.perf_counter()
        batch = next(batches)
        waits.append(time.perf_counter() - started)
        optimizer.zero_grad()
        system.training_step(batch, 0)["loss"].backward()
        optimizer.step()
        whole.append(time.perf_counter() - started)
    # The first ones warm up, and fill the memory.
    return statistics.median(waits[8:]), statistics.median(whole[8:])


BENCHMARKS: dict[str, Callable[[], Iterator[str]]] = {
    "bone_map": bone_map,
    "people": people,
    "training": training,
    "sampling": sampling,
    "progressive": progressive,
    "view_attention": view_attention,
    "scoring": scoring,
    "data": data,
}


def run(words: list[str]) -> int:
    """``hvg bench``; 0. Raises: HvgError for an unknown name, with the nearest one."""
    unknown = [name for name in words if name not in BENCHMARKS]
    if unknown:
        raise HvgError(f"no benchmark is named '{unknown[0]}'. {did_you_mean(unknown[0], BENCHMARKS)}")
    for name in words or BENCHMARKS:
        for line in BENCHMARKS[name]():
            print(f"{name:<12} {line}", flush=True)
    return 0
