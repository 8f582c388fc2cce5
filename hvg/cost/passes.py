"""How often the network looks at the pictures of a sample, counted before it does."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from hvg.config.build import build_part
from hvg.config.settings import RunConfig
from hvg.config.wiring import temporal_stride
from hvg.model.sampling import sample
from hvg.model.trained_levels import picture_pixels
from hvg.parts.plan import GuidedClips, Level, needed_branches
from hvg.values.grid import Window
from hvg.values.known import Known
from hvg.values.latent_time import latent_frames


def sampling_passes(config: RunConfig, views: int, frames: int) -> float:
    """Passes of the network over all of a clip of V x T before cameras around the person: through the plan's windows, the
    solver's steps and every branch that the guidance needs, where clips of both tasks are sampled together.
    """
    guidance, sampler = build_part(config.guidance), build_part(config.sampler)
    frames = latent_frames(frames, temporal_stride(config))
    branches = guidance.branches([*config.droppable])
    steps, clips, seen = config.evaluation.steps, GuidedClips.of_every_task(views, frames), list[int]()
    # The smallest pictures that the plan can shrink.
    side = math.lcm(*(sampler.stage(step, steps, frames).shrink for step in range(steps)))
    start = torch.zeros(*clips.grid, 1, side, side)

    def look(x: Tensor, sigma: Level, windows: Sequence[Window], scales: Tensor) -> Tensor:
        seen.append(x.numel() * (1 + len(needed_branches(branches, scales))))
        return x

    def resize(x: Tensor, size: tuple[int, int]) -> Tensor:
        return interpolate(x.flatten(0, 2), size=size, mode="nearest").unflatten(0, x.shape[:3])

    # Views that the clip has, of which some are left to be made.
    cells = torch.zeros(views, frames, dtype=torch.bool)
    cells[[view for view in config.evaluation.known_views if view < views]] = True
    known = Known(latents=start, cells=cells & ~cells.all())

    sample(
        look,
        start,
        build_part(config.prediction).sigma_schedule(steps, pixels=picture_pixels(config)),
        sampler,
        build_part(config.solver),
        guidance,
        clips=clips,
        step_noise=lambda step: start,
        resize=resize,
        known=known if bool(known.cells.any()) else None,
        # Windows that need different branches are counted apart.
        windows_per_call=1,
    )
    return sum(seen) / start.numel()
