"""``hvg check``: what a run would be made of, or why it cannot be."""

from __future__ import annotations

import atexit
import gc
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from hvg.commands.words import options_and_overrides
from hvg.config.command_options import CheckOptions
from hvg.config.composition import compose, judge_words
from hvg.config.stages import TrainingStage, stages_of
from hvg.core.errors import ConfigError
from hvg.core.text_tables import table
from hvg.cost.table import print_forecast

if TYPE_CHECKING:
    from hvg.config.settings import RunConfig
    from hvg.values.conditioning import ConditioningSpec


def check_command(words: Sequence[str]) -> int:
    """``hvg check [overrides] [devices= nodes= memory= bandwidth=]``: what fits where, what it will cost, whether it fits a GPU.

    0, after "No problems."; 1 for a configuration with problems, all of which it prints, and for a run that does not fit.
    Raises: HvgError for several devices of a strategy that has one.
    """
    with _no_search_for_garbage():
        try:
            options, words = options_and_overrides(words, CheckOptions, judge=judge_words)
            config = compose([*words, *options.overrides])
        except ConfigError as error:
            print(error)
            return 1
        fits = [_print_stage(stage, options) for stage in stages_of(config)]
        if not all(fits):
            return 1
        # Last: counting what a step and a sample cost asks parts what they do, which may show that one of them cannot do it.
        print("No problems.")
        return 0


def _print_stage(stage: TrainingStage, options: CheckOptions) -> bool:
    """Prints what a stage of a run is made of and its cost; whether it fits, or nobody knows."""
    said = [f"note: {note}" for note in notes(stage.config)]
    title = [f"stage {stage.label}: steps {stage.first + 1} to {stage.last}", ""] if stage.label else []
    gap = [""] if stage.first else []
    # The parts of a run that composes are known in seconds; counting a step's cost takes longer the larger the model is.
    print("\n".join([*gap, *title, *summary(stage.config), *said]), flush=True)
    return print_forecast(stage.config, options)


@contextmanager
def _no_search_for_garbage() -> Iterator[None]:
    """Without Python's search for cycles, again and again, and once more at its end, through all that imports have made."""
    gc.disable()
    atexit.register(gc.freeze)
    try:
        yield
    finally:
        gc.enable()


def notes(config: RunConfig) -> list[str]:
    """Notes for the user on the dataset's files and on how test clips are sampled, a line each."""
    from hvg.config.buckets import bucket_notes
    from hvg.config.build import build_sampler
    from hvg.config.overlap import dataset_notes
    from hvg.config.wiring import backbone_notes, slot_notes
    from hvg.model.trained_windows import clip_grids, sampling_notes

    sampler, grids = build_sampler(config), clip_grids(config, "test")
    found = [
        *dataset_notes(config.dataset),
        *bucket_notes(config),
        *backbone_notes(config),
        *slot_notes(config),
        *sampling_notes(config, sampler, config.evaluation.steps, grids),
        *uncounted(config),
    ]
    # Steps and test clips may be padded alike.
    return [*dict.fromkeys(found)]


def uncounted(config: RunConfig) -> Iterator[str]:
    """A note where what a step does is not known before it does it."""
    if "backbone" not in config.parts:
        yield (
            f"activations of system={config.system.name} are not counted, and FLOPs are at most those that it says: what its "
            "reconstructor computes depends on where people are in the pictures"
        )


def summary(config: RunConfig) -> list[str]:
    """Lines that list a run's parts, and which slot fills which port."""
    from hvg.config import wiring

    protocol = config.protocol
    rows = [(key, choice.name) for key, choice in config.parts.items()]
    parts = ["parts", *table([*rows, ("protocol", f"{protocol.id}: {', '.join(protocol.metrics) or 'nothing'}")])]
    if "backbone" not in config.parts:
        return parts
    ports = [
        (slot, config.conditioners[slot].name, port)
        for slot, spec in wiring.specs(config).items()
        for port in _filled(spec) or ["nothing"]
    ]
    return [*parts, "", "ports", *table([("slot", "conditioner", "fills"), *ports])]


def _filled(spec: ConditioningSpec) -> list[str]:
    sites = [(port, site, width) for port in ("residuals", "memory") for site, width in getattr(spec, port).items()]
    widths = [
        (port, width)
        for port in ("tokens", "text", "pooled", "channels", "embedding", "pictures", "base")
        if (width := getattr(spec, port))
    ]
    return [
        *(f"{port}[{site}] x {width}" for port, site, width in sites),
        *(f"{port} x {width}" for port, width in widths),
    ]
