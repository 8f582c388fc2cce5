"""No metric has a cheap optimum: what no arm should be praised for beats neither the truth nor a model that tries.

The tables that this holds stand in docs/decisions/0021; ``fault_table`` and ``faults_through_a_network`` make them.
"""

from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
import torch
from golden_networks import write_network_files
from planted_faults import SuitClips, faded, generated, noisy, still
from tiny_transformers import write_transformers
from torch import Tensor

from components.bodies.anny import Anny
from components.renderers.warp import Warp
from hvg.parts import registry
from hvg.parts.context import Context
from hvg.parts.feature_metric import FeatureMetric
from hvg.parts.metric import Measurement
from hvg.parts.network_files import NetworkFiles
from hvg.score.anchors import blurred
from hvg.values.scored_clip import ScoredClip

CONTEXT = Context(body=Anny(), renderer=Warp())
# Every registered metric that looks through no pretrained network.
METRICS = (
    *("psnr", "psnr_foreground", "ssim", "l1", "mask_iou", "identity_colour", "joint_error", "mpjpe", "pck"),
    *("cross_view", "temporal_warp", "dtssd", "dvssd", "dtssd_disco", "dtssd_foreground", "drift"),
)
# Say of a region, or of some clips, what another metric says of the person.
HOLD_ANOTHER = ("of_task", "within")
# Look at no picture, and carry no verdict: they say what a model was told.
OF_SIGNALS = {"probe"}
# Row of the second table -> network, metric, and its settings for people of four frames. Networks have their true shapes and
# weights of no value, or, of transformers, are small: the order of faults says nothing, that the truth is best does.
THROUGH_NETWORKS = {
    "lpips, squeeze": ("squeezenet", "lpips", {"network": "squeeze"}),
    "lpips, alex": ("alexnet", "lpips", {"network": "alex"}),
    "lpips, vgg": ("vgg16", "lpips", {"network": "vgg"}),
    "identity_clip": ("transformers", "identity_clip", {}),
    "jedi": ("transformers", "jedi", {"clip_frames": 4, "stride": 4}),
    "fid": ("inception", "fid", {}),
    "kid": ("inception", "kid", {}),
    "fid_vid": ("resnet3d50", "fid_vid", {"short": "repeat_last"}),
    "fvd": ("i3d", "fvd", {"clip_frames": 4}),
    "kvd": ("i3d", "kvd", {"clip_frames": 4}),
}
LARGE = {"vgg16", "inception", "resnet3d50", "i3d"}
# Describe, and carry no verdict, because a fault improves them.
DESCRIBING = {"dtssd", "dtssd_disco", "dtssd_foreground", "drift"}
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


@cache
def metric_through_a_network(row: str, folder: Path):
    """The metric of a row of the second table."""
    network, name, settings = THROUGH_NETWORKS[row]
    path = folder / network
    if not path.exists():
        write_transformers(path) if network == "transformers" else write_network_files(path, [network])
    part = registry.load("metric", name)
    return part(part.Config(**settings), Context(networks=NetworkFiles(path, any_file=True)))


@cache
def measurements_through_a_network(row: str, folder: Path) -> dict[str, Measurement]:
    """Prediction -> what the metric keeps of it. Features do not depend on what they are compared with: each is made once."""
    clip, metric = people()[0], metric_through_a_network(row, folder)
    if not isinstance(metric, FeatureMetric):
        return {name: metric.measure(replace(clip, prediction=made)) for name, made in predictions().items()}
    # Of metrics that keep the same, the first measures for all.
    first = next(other for other, spec in THROUGH_NETWORKS.items() if spec[0] == THROUGH_NETWORKS[row][0])
    if first != row and metric.measurement is not None:
        return measurements_through_a_network(first, folder)
    own = {name: metric.measure(replace(clip, prediction=made, truth=made)) for name, made in predictions().items()}
    return {name: {**kept, "truth": own["truth"]["truth"]} for name, kept in own.items()}


def faults_through_a_network(row: str, folder: Path) -> dict[str, float]:
    """Prediction -> value of the metric of a row."""
    metric = metric_through_a_network(row, folder)
    return {
        name: metric.reduce({"clip": kept}).value for name, kept in measurements_through_a_network(row, folder).items()
    }


def loss(name: str, value: float) -> float:
    """The value as something that should be small."""
    return -value if registry.load("metric", name).higher_is_better else value


def test_every_metric_says_whether_it_carries_a_verdict():
    assert {
        name for name in registry.names("metric") if not registry.load("metric", name).verdict
    } == DESCRIBING | OF_SIGNALS


@pytest.mark.parametrize("name", sorted(set(METRICS) - DESCRIBING))
def test_nothing_beats_the_truth(name):
    table = fault_table()
    truth = loss(name, table["truth"][name])
    for fault, values in table.items():
        assert loss(name, values[name]) >= truth, (name, fault, values[name])
    assert loss(name, table["blank"][name]) > truth


@pytest.fixture(scope="module")
def networks(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("networks")


def test_no_metric_is_in_neither_table():
    through_networks = (name for _, name, _ in THROUGH_NETWORKS.values())
    assert {*METRICS, *through_networks, *HOLD_ANOTHER, *OF_SIGNALS} == set(registry.names("metric"))


@pytest.mark.parametrize(
    "row",
    [
        pytest.param(row, marks=pytest.mark.long if network in LARGE else ())
        for row, (network, _, _) in THROUGH_NETWORKS.items()
    ],
)
def test_nothing_beats_the_truth_through_a_network(row, networks):
    values, name = faults_through_a_network(row, networks), THROUGH_NETWORKS[row][1]
    truth = loss(name, values.pop("truth"))
    for fault, value in values.items():
        assert loss(name, value) > truth, (fault, value, truth)


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
