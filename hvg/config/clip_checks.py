"""Do a dataset's clips fit a run? They are looked at as the indices on the disk say; no picture is read."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from typing import TYPE_CHECKING

from hvg.config.buckets import asked, shortened_clips, trained_pictures, unfit_clips, unfit_pictures, unmixed
from hvg.config.wiring import image_cell, needed_fields
from hvg.core.errors import DataError, Problem

if TYPE_CHECKING:
    from hvg.config.settings import RunConfig


def check_files(config: RunConfig, failed: Set[str] = frozenset()) -> list[Problem]:
    """Problems of a dataset's clips that do not fit a new run. failed: as of ``hvg.config.checks.check``.

    Not for the configuration of a trained model, which need not be where its clips are, and is past drawing from them.
    """
    if "dataset" in failed:
        return []
    try:
        held = config.dataset.cls.holdings(config.dataset.config)
        problems = [] if "evaluation" in failed else [*_shared_people(config)]
    except DataError as error:
        return [Problem("dataset", str(error))]
    if not {"system", "data", "fit"} & failed:
        problems += [*_copied_driving(config)]
    if "data" not in failed:
        problems += [*_check_grid(config), *unfit_clips(config, held.sizes), *unmixed(config, held)]
    if not {"codec", "backbone", "data"} & failed:
        pictures = trained_pictures(config, held.sizes)
        problems += [*_uneven_pictures(config, pictures), *shortened_clips(config, held.sizes.values())]
        problems += [] if {"sampler", "evaluation"} & failed else shrunk_pictures(config, pictures)
    return problems


def _copied_driving(config: RunConfig) -> Iterator[Problem]:
    """A network that is shown what it shall make learns to copy it, and never looks at the photo."""
    if config.data.copied_driving == "allow" or not config.dataset.cls.drives_itself(config.dataset.config):
        return
    readers = [place for place, (_, fields) in needed_fields(config).items() if "driving" in fields]
    if readers:
        yield Problem(
            "dataset",
            f"a clip's driving video, which {readers[0]} reads, is the target itself from the same camera: training would learn "
            "to copy it, whatever the photo shows. Take another view or person, or say data.copied_driving=allow.",
        )


def _shared_people(config: RunConfig) -> Iterator[Problem]:
    from hvg.config.overlap import overlap

    found = overlap(config.dataset)
    if found.shared and config.evaluation.overlap == "refuse":
        yield Problem("dataset", f"{found.refusal}.")


def _uneven_pictures(config: RunConfig, pictures: Mapping[tuple[int, int], str]) -> Iterator[Problem]:
    """Pictures that no network takes; those of buckets that say their size are judged by ``hvg.config.checks``."""
    latent, coarsest = image_cell(config)
    told = {bucket.size for bucket in config.data.trained_buckets}
    uneven = {size: clip for size, clip in pictures.items() if size not in told and is_uneven(config, size)}
    if uneven:
        (height, width), clip = next(iter(uneven.items()))
        yield Problem(
            "dataset",
            f"there are clips with sides that are not divisible by {latent * coarsest}, the codec's stride {latent} times the "
            f"backbone's {coarsest}; '{clip}' is {height}x{width}. data.buckets=[[views,frames,height,width],...] brings "
            "them to another size.",
        )


def is_uneven(config: RunConfig, picture: Iterable[int]) -> bool:
    """Whether a picture's sides are no whole cells of the backbone's coarsest level."""
    return any(side % math.prod(image_cell(config)) for side in picture)


def shrunk_pictures(config: RunConfig, pictures: Iterable[Sequence[int]]) -> Iterator[Problem]:
    """Pictures, (height, width), that a sampler shrinks still have to be whole cells of the backbone's coarsest level."""
    from hvg.config.build import build_part

    sampler, steps, cell = build_part(config.sampler), config.evaluation.steps, math.prod(image_cell(config))
    shrinks = sorted({sampler.stage(step, steps, 1).shrink for step in range(steps)}, reverse=True)
    for height, width in dict.fromkeys(map(tuple, pictures)):
        wrong = next((s for s in shrinks if s > 1 and (height % (cell * s) or width % (cell * s))), None)
        if wrong is not None:
            yield Problem(
                "sampler",
                f"{config.sampler.name} shrinks pictures {wrong} times, which {height}x{width} does not survive: sides must be "
                f"divisible by {cell * wrong}, the codec's stride times the backbone's coarsest times {wrong}.",
            )
            return


def _check_grid(config: RunConfig) -> Iterator[Problem]:
    """A dataset whose settings say the size of its clips has to hold what every step draws."""
    yield from unfit_pictures(config)
    for place, axis, count in asked(config):
        word = ("views", "frames")[axis]
        limit = getattr(config.dataset.config, word, None)
        if limit is not None and count > limit:
            yield Problem(place, f"{count} {word} are asked for, the dataset's clips hold {limit} (dataset.{word}).")
