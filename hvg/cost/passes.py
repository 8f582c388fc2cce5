"""How often the network looks at the pictures of a sample, counted before it does."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from hvg.config.build import build_part
from hvg.config.settings import RunConfig
from hvg.config.wiring import temporal_stride
from hvg.model.deep_steps import DeepSteps
from hvg.model.sampling import sample
from hvg.model.trained_levels import picture_pixels
from hvg.parts.plan import GuidedClips, Level, needed_branches
from hvg.parts.refiner import Refined, Refiner, started_levels
from hvg.values.grid import Window
from hvg.values.known import Known
from hvg.values.latent_time import latent_frames


class Passes(NamedTuple):
    """How often a network looks at all of a clip, and how many of these passes are of its outer layers alone."""

    all: float
    outer: float = 0.0


def sampling_passes(config: RunConfig, views: int, frames: int) -> Passes:
    """Passes of the network over all of a clip of V x T before cameras around the person: through the plan's windows, the
    solver's steps and every branch that the guidance needs, where clips of both tasks are sampled together.
    """
    return _passes(config, config.evaluation.steps, views, frames)


def refining_passes(config: RunConfig, refiner: Refiner, views: int, frames: int) -> Passes:
    """The same of the network of the model that refines such a clip's frames, whose configuration this is; 0 at strength 0."""
    if not refiner.config.strength:
        return Passes(0.0)
    return _passes(config, refiner.config.steps or config.evaluation.steps, views, frames, refiner)


def _passes(config: RunConfig, steps: int, views: int, frames: int, refiner: Refiner | None = None) -> Passes:
    guidance, sampler = build_part(config.guidance), build_part(config.sampler)
    frames = latent_frames(frames, temporal_stride(config))
    branches = guidance.branches([*config.droppable])
    clips, deep = GuidedClips.of_every_task(views, frames), DeepSteps(config.evaluation.reuse)
    seen, outer = list[float](), list[float]()
    # The smallest pictures that the plan can shrink.
    side = math.lcm(*(sampler.stage(step, steps, frames).shrink for step in range(steps)))
    start = torch.zeros(*clips.grid, 1, side, side)

    def look(x: Tensor, sigma: Level, windows: Sequence[Window], scales: Tensor) -> Tensor:
        looks = 1.0 if refiner is None else refiner.looks(x.shape[2])
        needed = needed_branches(branches, scales)
        seen.append(looks * x.numel() * (1 + len(needed)))
        for branch in (None, *needed):
            with deep.of((windows[0].views, windows[0].frames, x.shape[-1], branch)) as features:
                if features is not None and features.tensors:
                    outer.append(x.numel())
                elif features is not None:
                    features.tensors = (x[:0],)
        return x

    def resize(x: Tensor, size: tuple[int, int]) -> Tensor:
        return interpolate(x.flatten(0, 2), size=size, mode="nearest").unflatten(0, x.shape[:3])

    # Views that the clip has, of which some are left to be made.
    cells = torch.zeros(views, frames, dtype=torch.bool)
    cells[[view for view in config.evaluation.known_views if view < views]] = True
    known = Known(latents=start, cells=cells & ~cells.all())
    refined = None if refiner is None else Refined(latents=start, refiner=refiner)

    sample(
        look,
        start,
        started_levels(build_part(config.prediction), steps, refined, pixels=picture_pixels(config)),
        sampler,
        build_part(config.solver),
        guidance,
        clips=clips,
        step_noise=lambda step: start,
        resize=resize,
        known=known if bool(known.cells.any()) else None,
        refined=refined,
        # Windows that need different branches are counted apart.
        windows_per_call=1,
        begin=deep.begin,
    )
    return Passes(sum(seen) / start.numel(), sum(outer) / start.numel())
