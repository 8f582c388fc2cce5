"""Distances between sets, end to end, against the scripts that published numbers come from (tests/data/metrics/README.md)."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from golden_networks import write_network_files
from torch import Tensor

from hvg.parts import registry
from hvg.parts.context import Context
from hvg.parts.feature_metric import VideoFeatureConfig, runs, video_items
from hvg.parts.network_files import NetworkFiles
from hvg.parts.set_distance import frechet_distance
from hvg.values.scored_clip import ScoredClip

DATA = Path(__file__).parents[1] / "data" / "metrics"
CASES = json.loads((DATA / "frechet.json").read_text(encoding="utf-8"))
DEBIASED = {"network": "i3d_content_debiased", "resize": "torch_bilinear", "covariance": "biased"}
# Metric, settings, its features and its distance among the goldens.
VIDEO_DISTANCES = [
    pytest.param("fid_vid", {}, "r3d", "FID-VID", id="fid_vid", marks=pytest.mark.long),
    pytest.param("fvd", {}, "i3d", "FVD", id="fvd", marks=pytest.mark.long),
    pytest.param("fvd", DEBIASED, "cdfvd_i3d", "FVD_cdfvd", id="fvd-content-debiased", marks=pytest.mark.long),
]


def read(name: str):
    path = DATA / name
    return json.loads(path.read_text(encoding="utf-8")) if path.suffix == ".json" else dict(np.load(path))


@pytest.mark.parametrize("case", CASES)
def test_frechet_distance(case):
    stored, golden = read("frechet_inputs.npz"), CASES[case]
    a, b = (stored[f"{case}_{side}"] for side in "ab")
    if case == "single_sample":
        with pytest.raises(ValueError, match="two are the least"):
            frechet_distance(a, b)
        return
    assert frechet_distance(a, b) == pytest.approx(golden["gram_float64"], rel=1e-12, abs=1e-12)
    # Their square root of a singular matrix is only this good, and fails for one dimension.
    for covariance, references in (("unbiased", ("disco", "pytorch_fid")), ("biased", ("biased_covariance_cdfvd",))):
        for reference in references:
            expected = golden[reference].get("value")
            if expected is not None:
                found = frechet_distance(a, b, covariance)
                assert found == pytest.approx(expected, rel=1e-5, abs=2e-6), reference


@pytest.mark.parametrize(
    ("features", "distance", "covariance"),
    [
        ("r3d", "FID-VID", "unbiased"),
        ("i3d", "FVD", "unbiased"),
        ("cdfvd_i3d", "FVD_cdfvd", "biased"),
        ("fid", "FID", "unbiased"),
    ],
)
def test_frechet_distance_of_the_references_features(features, distance, covariance):
    stored, golden = read("features.npz"), read("distances.json")["distances"][distance]
    found = frechet_distance(stored[f"{features}_gen"], stored[f"{features}_gt"], covariance)
    assert found == pytest.approx(golden["gram_float64"], rel=1e-12)
    assert found == pytest.approx(golden["reference"]["value"], rel=2e-5)


def test_clips_are_those_of_the_reference():
    names = [str(name) for name in read("inputs_frames.npz")["names"]]
    found = []
    for places in sequences(names):
        assert runs([True] * len(places)) == [range(len(places))]
        found += [
            [names[places[i]] for i in item] for item in video_items(range(len(places)), VideoFeatureConfig(), False)
        ]
    assert found == read("clips.json")["frames"]


def sequences(names) -> list[list[int]]:
    """Places of every sequence of consecutive file numbers."""
    found: dict[tuple[str, int], list[int]] = {}
    for place, name in enumerate(names):
        prefix, number = str(name).removesuffix(".png").rsplit("_", 1)
        found.setdefault((prefix, int(number) - place), []).append(place)
    return list(found.values())


def clip(name: str, generated: np.ndarray, truth: np.ndarray) -> ScoredClip:
    """One view of (T, H, W, 3)."""
    prediction, true = (torch.from_numpy(x).movedim(-1, -3)[None] for x in (generated, truth))
    valid = torch.ones(1, len(truth), dtype=torch.bool)
    return ScoredClip(clip_id=name, subject=name, prediction=prediction, truth=true, valid=valid)


@pytest.fixture(scope="module")
def frames() -> dict[str, np.ndarray]:
    return read("inputs_frames.npz")


@pytest.fixture(scope="module")
def videos(frames) -> list[ScoredClip]:
    """Every sequence of consecutive file numbers as a clip."""
    places = sequences(frames["names"])
    return [clip(f"{i}", frames["gen"][index], frames["gt"][index]) for i, index in enumerate(places)]


@pytest.fixture(scope="module")
def make(tmp_path_factory):
    """Builds a metric whose networks are filled by the goldens' formula."""
    folder = write_network_files(tmp_path_factory.mktemp("networks"), ["i3d", "resnet3d50", "inception"])
    context = Context(networks=NetworkFiles(folder, any_file=True))

    def build(name: str, **settings):
        part = registry.load("metric", name)
        return part(part.Config(**settings), context)

    return build


def assert_close(found: np.ndarray, golden: np.ndarray) -> None:
    assert found.shape == golden.shape
    assert np.linalg.norm(found - golden) <= 5e-6 * np.linalg.norm(golden)


def check_end_to_end(metric, clips, features: str, distance: str) -> None:
    kept = {one.clip_id: arrays for one in clips if (arrays := metric.measure(one))}
    stored, golden = read("features.npz"), read("distances.json")["distances"][distance]
    for side, name in (("prediction", "gen"), ("truth", "gt")):
        assert_close(np.concatenate([arrays[side] for arrays in kept.values()]), stored[f"{features}_{name}"])
    found = metric.reduce(kept)
    assert found.count == golden["n"]
    assert found.value == pytest.approx(golden["reference"]["value"], rel=2e-5)
    assert found.value == pytest.approx(golden["gram_float64"], rel=1e-5)


@pytest.mark.parametrize(("name", "settings", "features", "distance"), VIDEO_DISTANCES)
def test_from_videos_to_the_distance(make, videos, name, settings, features, distance):
    check_end_to_end(make(name, **settings), videos, features, distance)


def test_from_pictures_to_the_distance(make, frames):
    # The reference took every sixth picture of the whole folder.
    check_end_to_end(make("fid", every=6), [clip("all", frames["gen"], frames["gt"])], "fid", "FID")


@pytest.mark.parametrize(("name", "features"), [("fid_vid", "r3d"), ("fvd", "i3d")])
def test_whole_videos(make, frames, name, features):
    whole = clip("gif", frames["video_gif"], frames["video_gif"])
    assert_close(make(name, items="whole").measure(whole)["prediction"], read("features.npz")[f"{features}_video_gif"])


def test_pictures_larger_than_the_network(make, frames):
    large = frames["fid_big"][None]
    assert_close(make("fid").measure(clip("large", large, large))["truth"], read("features.npz")["fid_big"])


@pytest.mark.parametrize(("name", "network", "size"), [("fid_vid", "r3d", 112), ("fvd", "i3d", 224)])
def test_what_networks_are_given(make, videos, name, network, size):
    given: Tensor = make(name).resize(videos[0].prediction[0, :16]).transpose(0, 1)
    assert given.shape == (3, 16, size, size)
    probe = read("features.npz")[f"{network}_input_probe"]
    assert given[:, ::5, ::16, ::16].numpy() == pytest.approx(probe, rel=1e-6, abs=1e-6)


KERNEL = [{}, {"degree": 2}, {"gamma": 1.0}, {"coef0": 0.0}, {"estimator": "biased"}, {"scale": 100.0}]
VIDEO = [{"stride": 2}, {"items": "whole"}, {"along": "time"}, {"along": "views"}, {"short": "repeat_last"}]
I3D = [*VIDEO, {"clip_frames": 9}, {"network": "i3d_content_debiased"}, {"resize": "torch_bilinear"}]
SETTINGS = {
    "fid": [{}, {"every": 2}, {"covariance": "biased"}],
    "kid": [*KERNEL, {"every": 2}],
    "fid_vid": [{}, *VIDEO, {"covariance": "biased"}],
    "fvd": [{}, *I3D, {"covariance": "biased"}],
    "kvd": [*KERNEL, *I3D],
}


@pytest.mark.long
@pytest.mark.parametrize("name", SETTINGS)
def test_every_setting_is_part_of_the_definition(make, name):
    metrics = [make(name, **settings) for settings in SETTINGS[name]]
    varied = {key for settings in SETTINGS[name] for key in settings} | {"clip_frames"}
    assert varied >= set(metrics[0].Config.model_fields)
    assert len({metric.definition for metric in metrics}) == len(metrics)
    assert all(value.startswith("sha256:") for metric in metrics for value in metric.networks.values())


def test_kernel_distances_come_from_the_same_features(make, frames):
    clips = [clip("all", frames["gen"][:9], frames["gt"][:9])]
    kernel, gaussian = (make(name, every=3).measure(clips[0]) for name in ("kid", "fid"))
    assert np.array_equal(kernel["prediction"], gaussian["prediction"])
    assert make("kid").reduce({"all": kernel}).count == 3
