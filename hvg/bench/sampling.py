"""The benchmarks ``sampling`` and ``progressive`` of ``hvg bench``: sampling over the bare calls of the networks."""

import statistics
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

from hvg.bench.timing import Setting, one_setting, one_thread, watched
from hvg.config.build import build_dataset
from hvg.config.composition import compose
from hvg.config.settings import RunConfig
from hvg.model.load import build_video_model
from hvg.model.system import HumanVideoSystem
from hvg.parts.backbone import Backbone
from hvg.values.clip import ClipBatch


def sampling() -> Iterator[str]:
    """Sampling time over the bare calls of the denoiser, and of what encodes its conditioning."""
    config = compose(["scale=cpu"])
    with one_thread():
        system, clip = a_test_clip(config)
        yield from _sampled(system, clip, config.evaluation.steps, 9, f" of {clip.grid[1]} x {clip.grid[2]} images")


def progressive() -> Iterator[str]:
    """HVG's progressive sampling of a long multi-view clip: its declared cost, and its time over the bare calls."""
    views, frames = 6, 24
    config = compose(["scale=cpu", "sampler=progressive", f"dataset.views={views}", f"dataset.frames={frames}"])
    # Conditioning is encoded once a video, which weighs most in few steps.
    steps = 3
    with one_thread():
        system, clip = a_test_clip(config)
        calls, cells = _denoised(system, clip, steps)
        declared = system.sampler.cost(steps, views, frames)
        yield f"{views} views x {frames} frames, {steps} steps: {calls} calls of the denoiser, {cells} images"
        yield f"{cells / (views * frames):.2f} passes over the whole grid, {declared:.2f} declared"
        yield from _sampled(system, clip, steps, 3)


def a_test_clip(config: RunConfig) -> tuple[HumanVideoSystem, ClipBatch]:
    """A new system, and a clip for it to sample."""
    system = build_video_model(config).eval()
    return system, system.signals.load(build_dataset(config, "test"), 0)


@dataclass(frozen=True)
class Sampled:
    """Seconds of one sampling run: in all, inside the denoiser's calls, and inside those of the conditioners.

    Both sides of their ratios are one run: one process, model, precision and number of threads, the ``setting``.
    """

    whole: float
    denoiser: float
    conditioners: float
    setting: Setting

    @property
    def over_denoiser(self) -> float:
        """The whole over the bare calls of the denoiser."""
        return self.whole / self.denoiser

    @property
    def over_networks(self) -> float:
        """The whole over the bare calls of all networks: what the sampling loop itself takes."""
        return self.whole / (self.denoiser + self.conditioners)


def sampled(system: HumanVideoSystem, clip: ClipBatch, steps: int) -> Sampled:
    """Samples a clip, and takes the time. Raises: HvgError where the denoiser ran under several settings."""
    spent = {"denoiser": 0.0, "conditioners": 0.0}

    def timed(kind: str, function: Any) -> Any:
        def run(*arguments: Any, **words: Any) -> Any:
            started = time.perf_counter()
            result = function(*arguments, **words)
            spent[kind] += time.perf_counter() - started
            return result

        return run

    with ExitStack() as patches:
        parts = [(system.backbone, "denoiser"), *((part, "conditioners") for part in system.conditioners.values())]
        for part, kind in parts:
            patches.enter_context(patch.object(part, "forward", timed(kind, part.forward)))
        found = patches.enter_context(watched(Backbone))
        started = time.perf_counter()
        system.generate(clip, num_steps=steps)
        whole = time.perf_counter() - started
    return Sampled(whole, spent["denoiser"], spent["conditioners"], one_setting("sampling", found, found))


def _sampled(system: HumanVideoSystem, clip: ClipBatch, steps: int, runs: int, what: str = "") -> Iterator[str]:
    """Lines on how long sampling a clip takes, and how much of that is not the networks. what: words on the clip."""
    sampled(system, clip, steps)
    found = [sampled(system, clip, steps) for _ in range(runs)]
    yield f"{statistics.median(x.whole for x in found):.2f} s a clip{what}, {found[0].setting.words}, median of {runs}"
    ratios = {
        "the denoiser": [x.over_denoiser for x in found],
        "the denoiser and of what encodes its conditioning": [x.over_networks for x in found],
    }
    for networks, values in ratios.items():
        yield f"{100 * (statistics.median(values) - 1):.1f} % over the bare calls of {networks}, median of {runs}"


def _denoised(system: HumanVideoSystem, clip: ClipBatch, steps: int) -> tuple[int, int]:
    """Calls of the denoiser, and images (clips x views x latent frames) in them."""
    grids: list[int] = []
    handle = system.backbone.register_forward_pre_hook(lambda _, inputs: grids.append(inputs[0].shape[:3].numel()))
    system.sample_latents(clip, num_steps=steps)
    handle.remove()
    return len(grids), sum(grids)
