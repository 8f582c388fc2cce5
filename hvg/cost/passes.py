"""How often the network looks at the pictures of a sample, counted before it does."""

import math
from collections import Counter
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


def sampling_calls(config: RunConfig, views: int, frames: int) -> Counter[tuple[int, int, int]]:
    """How often the network is called for such a clip, one window at a time, by the window's views, latent frames, and how many
    times smaller its pictures are.
    """
    looks = _looks(config, config.evaluation.steps, views, frames)
    side, calls = max(look.side for look in looks), Counter[tuple[int, int, int]]()
    for look in looks:
        calls[look.views, look.frames, side // look.side] += look.branches
    return calls


def _passes(config: RunConfig, steps: int, views: int, frames: int, refiner: Refiner | None = None) -> Passes:
    looks = _looks(config, steps, views, frames, refiner)
    whole = views * latent_frames(frames, temporal_stride(config)) * max(look.side for look in looks) ** 2

    def seen(look: _Look) -> float:
        return look.views * look.frames * look.side**2 * (1.0 if refiner is None else refiner.looks(look.frames))

    return Passes(
        sum(look.branches * seen(look) for look in looks) / whole,
        sum(look.outer * seen(look) for look in looks) / whole,
    )


class _Look(NamedTuple):
    """A look at a window of a clip, of latents (side x side): by so many branches of the guidance in all, and by so many of them
    with the outer layers alone.
    """

    views: int
    frames: int
    side: int
    branches: int
    outer: int


def _looks(config: RunConfig, steps: int, views: int, frames: int, refiner: Refiner | None = None) -> Sequence[_Look]:
    """Every look at a clip, counted before it is taken, where clips of both tasks are sampled together."""
    guidance, sampler = build_part(config.guidance), build_part(config.sampler)
    frames = latent_frames(frames, temporal_stride(config))
    branches = guidance.branches([*config.droppable])
    clips, deep = GuidedClips.of_every_task(views, frames), DeepSteps(config.evaluation.reuse)
    found = list[_Look]()
    # The smallest pictures that the plan can shrink.
    side = math.lcm(*(sampler.stage(step, steps, frames).shrink for step in range(steps)))
    start = torch.zeros(*clips.grid, 1, side, side)

    def look(x: Tensor, sigma: Level, windows: Sequence[Window], scales: Tensor) -> Tensor:
        needed, outer = needed_branches(branches, scales), 0
        for branch in (None, *needed):
            with deep.of((windows[0].views, windows[0].frames, x.shape[-1], branch)) as features:
                if features is not None and features.tensors:
                    outer += 1
                elif features is not None:
                    features.tensors = (x[:0],)
        found.append(_Look(x.shape[1], x.shape[2], x.shape[-1], 1 + len(needed), outer))
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
    return found
