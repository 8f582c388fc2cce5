"""No metric has a cheap optimum: what no arm should be praised for beats neither the truth nor a model that tries.

The table that this holds stands in hvg/decisions/0021; ``fault_table`` makes it.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import pytest
import torch
from planted_faults import SuitClips, faded, generated, noisy, still
from torch import Tensor

from components.bodies.anny import Anny
from components.renderers.warp import Warp
from hvg import registry
from hvg.anchors import blurred
from hvg.protocols import Context
from hvg.scored_clip import ScoredClip

CONTEXT = Context(body=Anny(), renderer=Warp())
# Every registered metric that looks through no network of the user's.
METRICS = (
    *("psnr", "psnr_foreground", "ssim", "l1", "mask_iou", "identity_colour", "joint_error", "mpjpe", "pck"),
    *("cross_view", "temporal_warp", "dtssd", "dvssd", "dtssd_disco", "drift"),
)
# Describe, and carry no verdict, because a fault improves them.
DESCRIBING = {"dtssd", "dtssd_disco", "drift"}
FADING = (0.75, 0.5, 0.25, 0.0)
# What of a metric's range, truth to blank, a fading model may gain by rounding and by what a rule's threshold passes over.
SLACK = 0.07


@cache
def people() -> tuple[ScoredClip, ScoredClip]:
    """Two people who dance and turn, so that a still video is wrong."""
    clips = SuitClips(CONTEXT, image_size=64, views=4, frames=4, frames_per_second=4, motions=("dance",))
    return clips.clip(0), clips.clip(1)


def predictions() -> dict[str, Tensor]:
    """Name -> what stands in for the prediction of the first clip."""
    clip, other = people()
    model = generated(clip)
    return {
        "truth": clip.truth,
        "model": model,
        **{f"model, {strength:.0%} of it": faded(model, strength) for strength in FADING[:-1]},
        "blank": faded(model, 0.0),
        "blurred": blurred(clip.truth, 2.5),
        "noisy": noisy(clip.truth, 25),
        "frozen": still(clip.truth),
        "another person": other.truth,
        "mirrored": clip.truth.flip(-1),
    }


@cache
def fault_table() -> dict[str, dict[str, float]]:
    """Prediction -> metric -> value."""
    clip = people()[0]
    parts = {name: registry.load("metric", name) for name in METRICS}
    metrics = {name: part(part.Config(), CONTEXT) for name, part in parts.items()}

    def value(metric, prediction: Tensor) -> float:
        return metric.reduce({"clip": metric.measure(replace(clip, prediction=prediction))}).value

    return {
        name: {label: value(metric, prediction) for label, metric in metrics.items()}
        for name, prediction in predictions().items()
    }


def loss(name: str, value: float) -> float:
    """The value as something that should be small."""
    return -value if registry.load("metric", name).higher_is_better else value


def test_every_metric_says_whether_it_carries_a_verdict():
    assert {name for name in registry.names("metric") if not registry.load("metric", name).verdict} == DESCRIBING


@pytest.mark.parametrize("name", sorted(set(METRICS) - DESCRIBING))
def test_nothing_beats_the_truth(name):
    table = fault_table()
    truth = loss(name, table["truth"][name])
    for fault, values in table.items():
        assert loss(name, values[name]) >= truth, (name, fault, values[name])
    assert loss(name, table["blank"][name]) > truth


@pytest.mark.parametrize("name", sorted(set(METRICS) - DESCRIBING))
def test_a_model_gains_nothing_by_fading_to_a_blank_picture(name):
    table = fault_table()
    truth, model, blank = (loss(name, table[prediction][name]) for prediction in ("truth", "model", "blank"))
    assert blank > model, "an empty picture is better than a model that tries"
    for strength in FADING[:-1]:
        gained = model - loss(name, table[f"model, {strength:.0%} of it"][name])
        assert gained < SLACK * (blank - truth), (name, strength)


@pytest.mark.parametrize(
    ("name", "fault"), [("temporal_warp", "frozen"), ("cross_view", "mirrored"), ("temporal_warp", "noisy")]
)
def test_a_consistency_sees_what_is_not_consistent(name, fault):
    assert fault_table()[fault][name] > 0.1


def test_what_carries_no_verdict_would_have_praised_the_wrong():
    """Why: each is improved by a fault, or is best at neither end."""
    table = fault_table()
    for name in ("dtssd", "dtssd_disco"):
        assert table["model, 50% of it"][name] < table["model"][name]
    assert table["another person"]["drift"] < table["truth"]["drift"] == 0


def test_a_picture_of_one_colour_is_not_consistent():
    """It agrees with itself from everywhere, and with everything else."""
    clip, _ = people()
    metric = registry.load("metric", "cross_view")
    metric = metric(metric.Config(), CONTEXT)
    flat = clip.truth.float().mean(dim=(-1, -2), keepdim=True).expand_as(clip.truth).round().to(torch.uint8)
    assert metric.reduce({"clip": metric.measure(replace(clip, prediction=flat))}).value == 1
