"""Does sampling ask of the network what training showed it: windows of the same sizes, frames at the same places, signals?

``hvg check``, ``hvg evaluate`` and ``hvg sample`` say where it does not.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from hvg.config.buckets import padding_notes
from hvg.config.checks import asked_branches
from hvg.config.wiring import makes_single_pictures, path_of_slot, sees_time, temporal_stride
from hvg.core.errors import DataError
from hvg.model.planned_steps import PlannedStep, planned_steps
from hvg.model.trained_levels import level_notes
from hvg.parts.plan import Sampler
from hvg.values.latent_time import latent_frames

if TYPE_CHECKING:
    from hvg.config.settings import RunConfig

# Windows that a line lists before it only counts them.
LISTED = 6
# (V, T) of a clip or request.
Grid = tuple[int, int]


class WindowShape(NamedTuple):
    """Size of a window that is denoised together: views, latent frames, and the ``shrink`` by which sides are divided."""

    views: int
    frames: int
    shrink: int = 1

    def __str__(self) -> str:
        return f"{self.views} x {self.frames}" + (f" at 1/{self.shrink} size" if self.shrink > 1 else "")


def window_shapes(sampler: Sampler, num_steps: int, grid: Grid, known: Sequence[int] = ()) -> set[WindowShape]:
    """Shapes of all windows that the plan makes of a clip of V x t latent frames, over all steps. known: places of views that
    are given.
    """
    steps = _steps(sampler, num_steps, grid, known)
    return {WindowShape(len(w.views), len(w.frames), step.stage.shrink) for step in steps for w in step.windows}


def untrained_shapes(
    config: RunConfig,
    sampler: Sampler,
    num_steps: int,
    grids: Collection[Grid],
    known: Sequence[int] | None = None,
) -> set[WindowShape]:
    """Shapes of windows of clips of these V x T that no training step of the configuration has. known: as of
    ``sampling_notes``.
    """
    known = config.evaluation.known_views if known is None else known
    sampled = (window_shapes(sampler, num_steps, grid, known) for grid in latent_grids(config, grids))
    untrained = set().union(*sampled) - {WindowShape(*grid) for grid in _trained_grids(config)}
    # Pictures that are made one by one do not know what else is in their window.
    return {shape for shape in untrained if shape.shrink > 1} if makes_single_pictures(config) else untrained


def _steps(sampler: Sampler, num_steps: int, grid: Grid, known: Sequence[int]) -> list[PlannedStep]:
    """The steps of the plan, whose levels are numbered; none where no view is left to be made."""
    views, frames = grid
    cells = torch.zeros(grid, dtype=torch.bool)
    cells[[view for view in known if view < views]] = True
    if bool(cells.all()):
        return []
    levels = [float(level) for level in range(num_steps, -1, -1)]
    return planned_steps(sampler, levels, frames, cells, torch.zeros(views, views))


def latent_grids(config: RunConfig, grids: Iterable[Grid]) -> set[Grid]:
    """(V, t) of clips of these V x T: what samplers and guidances count in."""
    stride = temporal_stride(config)
    return {(views, latent_frames(frames, stride)) for views, frames in grids}


def _trained_grids(config: RunConfig) -> list[Grid]:
    """(V, t) of training steps, each once."""
    buckets = [(bucket.views, bucket.frames) for bucket in config.data.trained_buckets]
    return [*dict.fromkeys(grid for bucket in buckets for grid in latent_grids(config, [bucket]))]


def clip_grids(config: RunConfig, split: str) -> set[Grid]:
    """(V, T) of the clips of a split, as the dataset's settings or its files here say; empty where neither does."""
    from hvg.config.build import split_config

    settings = split_config(config.dataset, split)
    views, frames = getattr(settings, "views", None), getattr(settings, "frames", None)
    if views is not None and frames is not None:
        return {(views, frames)}
    try:
        sizes = config.dataset.cls.holdings(settings).sizes
    except DataError:
        # Whoever reads the clips says what is wrong with them; a trained model may be far from those that it learnt from.
        return set()
    return {(views, frames) for views, frames, *_ in sizes.values()}


def sampling_notes(
    config: RunConfig,
    sampler: Sampler | None,
    num_steps: int,
    grids: Collection[Grid],
    known: Sequence[int] | None = None,
) -> list[str]:
    """Notes for the user where clips of these V x T are sampled in a way that training did not show, a line each.

    sampler: None for a system that has none, and is told nothing of windows and places. known: places of views that are given;
    None: as ``evaluation.known_views`` says.
    """
    if sampler is None:
        return []
    known = config.evaluation.known_views if known is None else known
    notes = [
        _about_windows(config, untrained_shapes(config, sampler, num_steps, grids, known)),
        *_about_levels(config, sampler, num_steps, grids, known),
        _about_places(config, max((frames for _, frames in grids), default=0)),
        *padding_notes(config, (frames for _, frames in grids)),
    ]
    notes += [*_about_strengths(config), *_about_guidance(config), *level_notes(config, num_steps)]
    notes += _about_reuse(config, sampler, num_steps, grids, known)
    return [note for note in notes if note]


def _about_windows(config: RunConfig, untrained: set[WindowShape]) -> str | None:
    if not untrained:
        return None
    trained, frames = _trained_grids(config), "frames" if temporal_stride(config) == 1 else "latent frames"
    larger = [
        word
        for axis, word in enumerate(("views", frames))
        if max(shape[axis] for shape in untrained) > max(grid[axis] for grid in trained)
    ]
    listed = ", ".join(map(str, sorted(untrained)[:LISTED])) + (
        f" and {len(untrained) - LISTED} more" if len(untrained) > LISTED else ""
    )
    return (
        f"sampler={config.sampler.name} denoises windows of {listed} (views x {frames}), and no training step has that: they "
        f"have {' or '.join(f'{v} x {t}' for v, t in trained)}"
        + (f", fewer {' and fewer '.join(larger)}" if larger else "")
        + ". data.buckets says what steps have, the sampler what windows hold (`hvg list sampler --verbose`)"
    )


def _about_levels(
    config: RunConfig, sampler: Sampler, num_steps: int, grids: Collection[Grid], known: Sequence[int]
) -> Iterator[str]:
    """Cells of a window whose levels differ, or that are clean, where training shows none such."""
    training, name = config.training, f"sampler={config.sampler.name}"
    if known and not training.known_views[1]:
        yield (
            f"{len(known)} view(s) are known, and no training step has such; a model that is trained with "
            "training.known_views=[1,2] and known=mask makes the others from them"
        )
    if training.known_views[0] and not known:
        yield (
            f"no view is known, and every training clip has {training.known_views[0]} at least: give evaluation.known_views, or "
            "`hvg sample known=FOLDER`"
        )
    mixed = clean = False
    for grid in latent_grids(config, grids):
        for step in _steps(sampler, num_steps, grid, known):
            for levels in _levels_to_be_made(step, known):
                mixed = mixed or int((levels > 0).sum()) > 1
                clean = clean or bool((levels == 0).any() and (levels > 0).any())
    if mixed and training.noise_levels == "clip":
        yield (
            f"{name} denoises cells of several noise levels together, and every training clip has one; "
            "training.noise_levels=view, frame or cell trains with several"
        )
    if clean and not (training.known_frames[1] or training.known_views[1]) and training.noise_levels == "clip":
        yield (
            f"{name} denoises windows with frames that are finished, and no training step has such; training.known_frames "
            "trains with them"
        )


def _levels_to_be_made(step: PlannedStep, known: Sequence[int]) -> Iterator[Tensor]:
    """The different levels in each window of a step, without its known views."""
    if not isinstance(step.level, Tensor):
        return
    level = step.level[0, ..., 0, 0, 0]
    for window in step.windows:
        yield level[[view for view in window.views if view not in known]][:, list(window.frames)].unique()


def _about_reuse(
    config: RunConfig, sampler: Sampler, num_steps: int, grids: Collection[Grid], known: Sequence[int]
) -> Iterator[str]:
    """Plans whose windows change from step to step leave nothing to share."""
    reuse = config.evaluation.reuse
    for grid in latent_grids(config, grids) if reuse > 1 else ():
        windows = [
            {(window.views, window.frames) for window in step.windows}
            for step in _steps(sampler, num_steps, grid, known)
        ]
        if len(windows) > 1 and not any(
            windows[step] & windows[before]
            for step in range(len(windows))
            for before in range(step - step % reuse, step)
        ):
            who = f"neighbouring steps of sampler={config.sampler.name}"
            yield f"evaluation.reuse={reuse}: {who} have other windows, and share nothing"
            return


def _about_strengths(config: RunConfig) -> Iterator[str]:
    dropped = config.droppable
    for slot, choice in config.conditioners.items():
        path, strength = path_of_slot(config, slot), choice.config.strength
        others = [path_of_slot(config, other) for other in dropped if other != slot]
        if strength != 1 and slot not in dropped:
            yield f"{path}.strength={strength:g}, and no training step lacked {choice.name} ({path}.dropout=0)"
        elif strength < 1 and choice.config.drops == "together" and others:
            yield (
                f"{path}.strength={strength:g}, and clips that trained without it trained without {', '.join(others)}, too; "
                f"{path}.drops=alone trains with the others"
            )


def _about_guidance(config: RunConfig) -> Iterator[str]:
    """Slots that share one draw are dropped from those with the highest dropout on; other choices of them are never trained."""
    together = {
        slot: choice.config.dropout for slot, choice in config.droppable.items() if choice.config.drops == "together"
    }
    for branch in asked_branches(config):
        dropped = branch & together.keys()
        least = min((together[slot] for slot in dropped), default=1.0)
        others = [path_of_slot(config, slot) for slot in together.keys() - branch if together[slot] >= least]
        if dropped and others:
            left_out = ", ".join(path_of_slot(config, slot) for slot in config.conditioners if slot in dropped)
            yield (
                f"guidance={config.guidance.name} leaves out {left_out}, and clips that trained so trained without "
                f"{', '.join(sorted(others))}, too; drops=alone of a slot trains it with the others"
            )


def _about_places(config: RunConfig, frames: int) -> str | None:
    if config.data.frame_index == "window" or not sees_time(config):
        # Places within windows depend on the windows' sizes, which another note tells.
        return None
    longest = max((frames for _, frames in clip_grids(config, "train")), default=None)
    if longest is None:
        return None
    stride = temporal_stride(config)
    # Steps begin anywhere in a clip.
    steps = [bucket.frames for bucket in config.data.trained_buckets if bucket.frames <= longest] or [longest]
    trained = max((longest - step) // stride + latent_frames(step, stride) for step in steps)
    sampled = latent_frames(frames, stride)
    if sampled <= trained:
        return None
    return (
        f"frames are told their places in the video, 0 to {sampled - 1}, and training told 0 to {trained - 1}; a model that "
        "is trained with data.frame_index=window is told places within a window"
    )
