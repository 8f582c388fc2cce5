"""``hvg bench``: what takes how long here. Medians over runs; where two things are compared, their ratio in one run."""

import json
import statistics
import tempfile
import time
import timeit
from collections.abc import Callable, Iterator
from functools import partial
from itertools import product
from unittest.mock import patch

import numpy as np
import torch
from torch import Tensor

from hvg.commands.reading_bench import pictures, reading
from hvg.commands.reconstruction_bench import one_thread, reconstruction
from hvg.config.build import build_dataset
from hvg.config.composition import compose
from hvg.config.settings import RunConfig
from hvg.core import provenance
from hvg.core.errors import HvgError, did_you_mean
from hvg.core.random_keys import generator
from hvg.core.required import required
from hvg.core.text_tables import table
from hvg.data.prepare import prepare
from hvg.data.step_order import training_groups
from hvg.data.training_data import KEPT_BYTES, ClipDataModule, TrainingOrder
from hvg.geometry.ellipsoids import ellipsoids_from_bones, render
from hvg.geometry.skeleton import BONES, bone_index, bone_radii
from hvg.model.load import build_video_model
from hvg.model.system import HumanVideoSystem
from hvg.parts import registry
from hvg.parts.context import Context
from hvg.train.run import run_folder, train
from hvg.values.cameras import Cameras, orbit
from hvg.values.clip import ClipBatch
from hvg.values.grid import ViewGrid
from hvg.values.packed import unpacked
from hvg.values.scored_clip import ScoredClip


def _seconds(function: Callable[[], object], runs: int) -> float:
    """Median wall time of ``runs`` calls, after one that is not counted."""
    function()
    return statistics.median(timeit.repeat(function, number=1, repeat=runs))


def _cameras(azimuths_degrees: Tensor, side: int, target: Tensor) -> Cameras:
    """Cameras around a target, with pictures of ``side`` x ``side`` pixels."""
    size = (side, side)
    return orbit(
        azimuths_degrees, elevation_degrees=5.0, distance=3.0, target=target, fov_degrees=37.0, image_size=size
    )


def bone_map() -> Iterator[str]:
    """Bone maps of 24 bones at 576 x 576 on one core."""
    body = required(build_dataset(compose(["scale=cpu"]), "test").load(0).body, "ClipBatch.body")
    joints, (first, second) = body.joints[0, 0], bone_index(body.joint_names)
    ellipsoids = ellipsoids_from_bones(joints[first], joints[second], bone_radii(1.7))
    cameras = _cameras(torch.tensor([20.0]), 576, joints[0])[0]
    with one_thread(), torch.no_grad():
        seconds = _seconds(lambda: render(ellipsoids, cameras), 30)
    yield f"{1e3 * seconds:.1f} ms a frame, {len(BONES)} bones, 576 x 576, one core, median of 30"


def people() -> Iterator[str]:
    """Synthetic clips with all pose maps."""
    for pose in ("none", "bone_map", "part_map", "skeleton", "smpl_normal", "smpl_depth", "semantic_map"):
        config = compose(["scale=cpu", f"pose={pose}"])
        clips, signals = build_dataset(config, "train"), build_video_model(config).signals
        with one_thread():
            numbers = iter(range(len(clips)))
            seconds = _seconds(lambda: signals.load(clips, next(numbers)), 8)  # noqa: B023
        _, views, frames = clips.load(0).grid
        yield f"{1 / seconds:.1f} clips/s of {views} x {frames} images with pose={pose}, one core, median of 8"


def training() -> Iterator[str]:
    """Steps per second, and what of a step is not the model; waiting for data, and saving."""
    with tempfile.TemporaryDirectory() as folder, one_thread():
        # Rendered ahead, as in a study: a step then reads clips, it does not make them.
        small = ("dataset.num_subjects=8", "dataset.num_held_out_subjects=1", f"data.cache={folder}")
        every = ("training.steps=60", "training.checkpoint_every=20")
        config = compose(["scale=cpu", f"output={folder}", *every, *small])
        prepare([config], ("train", "val"), jobs=1)
        whole, model = _steps_in_alternation(config)
        total = json.loads((run_folder(config) / "run.json").read_text())["throughput"]["total"]
    yield f"{1 / np.median(whole[:, 0]):.2f} steps/s, one core, median of {len(whole)}"
    rest = np.median(1 - model[:, 1] / whole[:, 1])
    yield f"{100 * rest:.1f} % of a step's processor time is not forward, backward and optimiser, median of {len(whole)}"
    yield f"{1e3 * total['data_seconds'] / total['steps']:.1f} ms a step waiting for data, mean of {total['steps']}"
    yield f"{total['save_seconds'] / 3:.2f} s a checkpoint, mean of 3"


def _clocks() -> np.ndarray:
    """Seconds on the wall, and of work of this process: what other processes do changes those little."""
    return np.array([time.perf_counter(), time.process_time()])


def _steps_in_alternation(config: RunConfig) -> tuple[np.ndarray, np.ndarray]:
    """Costs (N, 2) of a run's steps, and of bare steps that take turns with them, so that a busy moment hits both."""
    system = build_video_model(config)
    step, batch = _bare_step(system), next(_batches(config, system, num_steps=1, workers=0))
    ended = _clocks()
    whole, model = [], []

    def report(*_: object) -> None:
        nonlocal ended
        reached = _clocks()
        step(batch)
        whole.append(reached - ended)
        ended = _clocks()
        model.append(ended - reached)

    train(config, report)
    # The first ones warm up.
    return np.array(whole[10:]), np.array(model[10:])


def _bare_step(system: HumanVideoSystem) -> Callable[[ClipBatch], None]:
    """Does forward, loss, backward, clipping and optimiser on a batch that is ready."""
    optimizer = system.configure_optimizers()["optimizer"]

    def step(batch: ClipBatch) -> None:
        optimizer.zero_grad()
        system.training_step(batch, 0)["loss"].backward()
        torch.nn.utils.clip_grad_norm_(system.parameters(), 1.0)
        optimizer.step()

    return step


def _batches(config: RunConfig, system: HumanVideoSystem, num_steps: int, workers: int) -> Iterator[ClipBatch]:
    """Batches as a run of so many steps takes them, in their own colours."""
    clips = system.training_clips(config)
    groups = training_groups(config, len(clips))
    order = partial(TrainingOrder, clips, system.signals, seed=0, groups=groups, first_view=config.data.first_view)
    data = ClipDataModule(order, batch_size=config.data.batch_size, num_steps=num_steps, workers=workers)
    return map(unpacked, data.train_dataloader())


def sampling() -> Iterator[str]:
    """Sampling time over the bare calls of the denoiser."""
    config = compose(["scale=cpu"])
    with one_thread():
        system, clip = _test_clip(config)
        yield from _sampled(system, clip, config.evaluation.steps, 9, f" of {clip.grid[1]} x {clip.grid[2]} images")


def _test_clip(config: RunConfig) -> tuple[HumanVideoSystem, ClipBatch]:
    """A new system, and a clip for it to sample."""
    system = build_video_model(config).eval()
    return system, system.signals.load(build_dataset(config, "test"), 0)


def _sampled(system: HumanVideoSystem, clip: ClipBatch, steps: int, runs: int, what: str = "") -> Iterator[str]:
    """Lines on how long sampling a clip takes, and how much of that is not the denoiser. what: words on the clip."""
    seconds, ratios = zip(*(_overhead(system, clip, steps) for _ in range(runs)), strict=True)
    yield f"{statistics.median(seconds):.2f} s a clip{what}, one core, median of {runs}"
    yield f"{100 * (statistics.median(ratios) - 1):.1f} % over the bare calls of the denoiser, median of {runs}"


def _overhead(system: HumanVideoSystem, clip: ClipBatch, steps: int) -> tuple[float, float]:
    """Seconds of a whole sampling run, and they over those of its calls of the denoiser within the same run."""
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
        spent = time.perf_counter() - started
    return spent, spent / inside


def progressive() -> Iterator[str]:
    """HVG's progressive sampling of a long multi-view clip: its declared cost, and its time over the bare calls."""
    views, frames = 6, 24
    config = compose(["scale=cpu", "sampler=progressive", f"dataset.views={views}", f"dataset.frames={frames}"])
    # Pose maps are encoded once a video: in the tiny scale's three steps that weighs more than in the 25 of SVD.
    steps = 8
    with one_thread():
        system, clip = _test_clip(config)
        calls, cells = _denoised(system, clip, steps)
        declared = system.sampler.cost(steps, views, frames)
        yield f"{views} views x {frames} frames, {steps} steps: {calls} calls of the denoiser, {cells} images"
        yield f"{cells / (views * frames):.2f} passes over the whole grid, {declared:.2f} declared"
        yield from _sampled(system, clip, steps, 3)


def _denoised(system: HumanVideoSystem, clip: ClipBatch, steps: int) -> tuple[int, int]:
    """Calls of the denoiser, and images (clips x views x latent frames) in them."""
    grids: list[int] = []
    handle = system.backbone.register_forward_pre_hook(lambda _, inputs: grids.append(inputs[0].shape[:3].numel()))
    system.sample_latents(clip, num_steps=steps)
    handle.remove()
    return len(grids), sum(grids)


CHANNELS, HEADS = 64, 2
VIEWS, SIDES = (2, 4, 8, 16), (8, 16, 32)
# The part, and in which groups of tokens it attends where it has several.
VIEW_ATTENTIONS = ("aligned_2d pixel", "aligned_2d row", "full_3d", "epipolar", "neighbours")


def view_attention() -> Iterator[str]:
    """Attention over views against the number of views and cells: measured and as declared; then few tokens, many cells."""
    # Milliseconds, and millions of FLOPs as declared.
    costs: dict[tuple[str, int, int], np.ndarray] = {}
    rows: list[tuple[str, ...]] = [("", "views", "cells", "ms", "MFLOP", "x views", "ms / pixel's", "(declared)")]
    for name in VIEW_ATTENTIONS:
        part, *group = name.split()
        cls = registry.load("view_attention", part)
        module = cls(cls.Config(group=group[0]) if group else cls.Config(), CHANNELS, HEADS)
        for views, side in product(VIEWS, SIDES):
            cameras = _cameras(torch.arange(views) * (360.0 / views), side, torch.zeros(3))
            x, grid = torch.randn(1, views, 1, side, side, CHANNELS), ViewGrid.whole(cameras[None, :, None])
            with one_thread(), torch.no_grad():
                seconds = _seconds(partial(module, x, grid), 5)
            cost = np.array([1e3 * seconds, cls.flops(module.config, views, side, side, CHANNELS) / 1e6])
            costs[name, views, side] = cost
            half = costs.get((name, views // 2, side))
            growth = "" if half is None else "{:.1f} ({:.1f})".format(*cost / half)
            over = "{:.1f} ({:.1f})".format(*cost / costs["aligned_2d pixel", views, side]).split()
            rows.append((name, str(views), f"{side} x {side}", f"{cost[0]:.2f}", f"{cost[1]:.1f}", growth, *over))
    yield f"forward pass of one latent frame, {CHANNELS} channels, {HEADS} heads, one core, median of 5"
    yield "x: growth from the row with half as many views, measured and (declared)"
    yield from table(rows)
    yield ""
    yield "aligned_2d pixel: time of attention over that of its four projections, forward; forward and backward, median of 9"
    few = [("views", "cells", "forward", "both")]
    for views, side in product(VIEWS, SIDES):
        forward, both = (f"{_products_over_projections(views, side, backward):.2f}" for backward in (False, True))
        few.append((str(views), f"{side} x {side}", forward, both))
    yield from table(few)


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

    with one_thread(), torch.set_grad_enabled(backward):
        # One after the other, so that a busy moment hits both.
        pairs = [(_seconds(mix, 1), _seconds(project, 1)) for _ in range(9)]
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
                rows.append((f"{protocol} {label}", f"{4 * seconds:.2f}"))
    yield f"median of 3 times 250 frames, {provenance.usable_cores()} cores"
    yield from table(rows)


def data() -> Iterator[str]:
    """How long a step waits for its clips: from memory, as small datasets train, and from the disk, as large ones do."""
    rows = [("latents", "clips", "workers", "ms waiting", "ms a step", "share")]
    with tempfile.TemporaryDirectory() as folder, one_thread():
        small = ("dataset.num_subjects=8", "dataset.num_held_out_subjects=1", f"data.cache={folder}", "data.recolour=0")
        configs = {kind: compose(["scale=cpu", f"data.latents={kind}", *small]) for kind in ("encode", "cached")}
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
    step, num_steps, waits, whole = _bare_step(system), 24, [], []
    batches = _batches(config, system, num_steps, workers)
    for _ in range(num_steps):
        started = time.perf_counter()
        batch = next(batches)
        waits.append(time.perf_counter() - started)
        step(batch)
        whole.append(time.perf_counter() - started)
    # The first ones warm up, and fill the memory.
    return statistics.median(waits[8:]), statistics.median(whole[8:])


_OF_MODELS = (bone_map, reconstruction, training, sampling, progressive, view_attention)
_OF_DATA = (people, scoring, data, pictures, reading)
BENCHMARKS: dict[str, Callable[[], Iterator[str]]] = {
    benchmark.__name__: benchmark for benchmark in (*_OF_MODELS, *_OF_DATA)
}


def run(words: list[str]) -> int:
    """``hvg bench``; 0. Raises: HvgError for an unknown name, with the nearest one."""
    unknown = [name for name in words if name not in BENCHMARKS]
    if unknown:
        raise HvgError(f"no benchmark is named '{unknown[0]}'. {did_you_mean(unknown[0], BENCHMARKS)}")
    for name in words or BENCHMARKS:
        for line in BENCHMARKS[name]():
            print(f"{name:<14} {line}", flush=True)
    return 0
