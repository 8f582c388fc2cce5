"""Checks of what every metric promises."""

from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from math import isfinite
from typing import Any

import numpy as np

from hvg.core.errors import HvgError, did_you_mean
from hvg.parts.context import Context
from hvg.parts.metric import Measurement, Metric, Score
from hvg.testing.building import make, require
from hvg.testing.scene import tiny_scored_clips
from hvg.values.scored_clip import NotAvailable, ScoredClip


def check_metric(
    cls: type[Metric], config: Any, context: Context | None = None, clips: Sequence[ScoredClip] | None = None
) -> None:
    """Runs every check below. clips: several of one shape; None: dark people on white.

    Raises: AssertionError that says which promise is broken. NotAvailable where the metric needs what is not there.
    """
    try:
        _check(cls, config, context, tiny_scored_clips() if clips is None else clips)
    except NotAvailable:
        raise
    except HvgError as error:
        raise AssertionError(str(error)) from error


def _check(cls: type[Metric], config: Any, context: Context | None, clips: Sequence[ScoredClip]) -> None:
    check_definition(cls, config, context)
    held = [field.name for field in fields(ScoredClip)]
    for field in sorted(cls.requires - {*held}):
        require(
            hasattr(ScoredClip, field), f"requires names '{field}', which no clip holds. {did_you_mean(field, held)}"
        )
    metric = make(cls, config, context)
    kept = {clip.clip_id: metric.measure(clip) for clip in clips}
    check_measurements(make(cls, config, context), kept, clips)
    check_score(metric, kept)
    check_direction(metric, kept, clips)


def check_definition(cls: type[Metric], config: Any, context: Context | None) -> None:
    """Its id says how the number is computed, and is the same whenever it is built."""
    parts = [make(cls, config, context) for _ in range(2)]
    require(all(hasattr(part, "definition") for part in parts), f"{cls.__name__} does not say its definition")
    first, second = (part.definition for part in parts)
    require(isinstance(first, str) and bool(first), "definition has to be an id, such as 'psnr/float/v1'")
    require("{" not in first, f"definition {first!r} has braces left: settings are named as {{config.NAME}}")
    require(first == second, f"two metrics of the same settings are called {first!r} and {second!r}")


def check_measurements(metric: Metric, kept: Mapping[str, Measurement], clips: Sequence[ScoredClip]) -> None:
    """Checks that measurements depend on the clip alone, and are named arrays, no pictures among them.

    metric: another one of the same settings; it measures the clips in another order.
    """
    for clip in reversed(clips):
        found = kept[clip.clip_id]
        require(
            bool(found), f"nothing is kept of clip '{clip.clip_id}': give clips that the metric can score, as clips="
        )
        again = metric.measure(clip)
        same = found.keys() == again.keys() and all(np.array_equal(found[k], again[k], equal_nan=True) for k in found)
        require(same, "a measurement depends on what was measured before")
        for name, array in found.items():
            require(isinstance(array, np.ndarray), f"'{name}' is kept as {type(array).__name__}, not as a numpy array")
            require(array.shape[-2:] != clip.truth.shape[-2:], f"'{name}' keeps pictures: it is {array.shape}")


def check_score(metric: Metric, kept: Mapping[str, Measurement]) -> None:
    """The score is a finite number of the clips that were measured, whatever their order."""
    score = metric.reduce(kept)
    require(isinstance(score, Score), f"reduce has to give a Score, and gives {type(score).__name__}")
    turned = metric.reduce(dict(reversed(list(kept.items()))))
    require(isfinite(score.value) and score.count > 0, f"the score is {score.value} of {score.count} {score.counted}")
    require(
        abs(score.value - turned.value) <= 1e-6 * abs(score.value) + 1e-9, "the score depends on the order of clips"
    )
    unknown = (score.per_clip.keys() | score.cells.keys()) - kept.keys()
    require(not unknown, f"the score knows clips that were not measured: {sorted(unknown)}")
    for name, cells in score.cells.items():
        require(cells.ndim == 2, f"the cells of clip '{name}' are {cells.shape}, not (V, T)")


def check_direction(metric: Metric, kept: Mapping[str, Measurement], clips: Sequence[ScoredClip]) -> None:
    """The truth itself scores no worse than the clips' noisy predictions, by ``higher_is_better``."""
    noisy = metric.reduce(kept).value
    perfect = {clip.clip_id: metric.measure(replace(clip, prediction=clip.truth.clone())) for clip in clips}
    ideal = metric.reduce(perfect).value
    better = ideal >= noisy if metric.higher_is_better else ideal <= noisy
    direction = "higher" if metric.higher_is_better else "lower"
    require(better, f"{direction} is better, but the truth scores {ideal}, a noisy prediction {noisy}")
