"""Distances between sets of features: which pieces of a clip are looked at, and what is made of them."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from hvg.parts import registry
from hvg.parts.context import Context
from hvg.parts.feature_metric import VIDEOS_PER_CALL, VideoFeatureConfig, VideoFeatureMetric, runs, video_items
from hvg.parts.metric import Score
from hvg.parts.network_files import NetworkFiles
from hvg.parts.set_distance import Frechet, FrechetConfig, Kernel, KernelConfig
from hvg.values.scored_clip import NotAvailable, ScoredClip

THROUGH_NETWORKS = ["fid", "fid_vid", "fvd", "kid", "kvd", "lpips"]
CONTEXT = Context(networks=NetworkFiles(Path("nowhere")))


class Config(VideoFeatureConfig, FrechetConfig):
    """Settings of the part below."""


class MeanColours(VideoFeatureMetric):
    """A part of a lab's own that needs no network: the mean colours of every frame are the features."""

    segments = True
    definition = "mean_colours/v1"
    networks = {}

    def __init__(self, **settings) -> None:
        super().__init__(Config(**settings), CONTEXT, Frechet(Config(**settings)))
        self.resized = 0

    def resize(self, frames: Tensor) -> Tensor:
        self.resized += len(frames)
        return frames.float().mean(dim=(2, 3), keepdim=True)

    def features(self, videos: Tensor) -> Tensor:
        pieces = videos.flatten(1).unflatten(1, (-1, 3 * self.config.clip_frames))
        return pieces.mean(dim=1)


def clip(views: int = 1, frames: int = 12, seed: int = 0, name: str = "clip") -> ScoredClip:
    random = torch.Generator().manual_seed(seed)
    shape = (2, views, frames, 3, 8, 8)
    prediction, truth = torch.randint(0, 256, shape, generator=random, dtype=torch.uint8)
    valid = torch.ones(views, frames, dtype=torch.bool)
    return ScoredClip(clip_id=name, subject=name, prediction=prediction, truth=truth, valid=valid)


def items(video: range, segments: bool = False, **settings) -> list[tuple[int, ...]]:
    return video_items(video, VideoFeatureConfig(**settings), segments)


def reduced(metric, clips) -> Score:
    kept = {one.clip_id: metric.measure(one) for one in clips}
    return metric.reduce({name: arrays for name, arrays in kept.items() if arrays})


def test_windows_start_at_every_stride():
    assert items(range(2, 8), clip_frames=4) == [(2, 3, 4, 5), (3, 4, 5, 6), (4, 5, 6, 7)]
    assert items(range(2, 8), clip_frames=4, stride=2) == [(2, 3, 4, 5), (4, 5, 6, 7)]
    assert items(range(2, 8), clip_frames=3, stride=3) == [(2, 3, 4), (5, 6, 7)]
    assert items(range(16)) == [tuple(range(16))]


def test_short_videos_are_left_out_or_their_last_frame_repeated():
    assert items(range(3), clip_frames=4) == []
    assert items(range(3), clip_frames=4, items="whole") == []
    assert items(range(3), clip_frames=4, short="repeat_last") == [(0, 1, 2, 2)]


def test_a_whole_video_is_one_item():
    assert items(range(1, 7), clip_frames=4, items="whole") == [(1, 2, 3, 4, 5, 6)]
    assert items(range(1, 7), True, clip_frames=4, items="whole") == [(1, 2, 3, 4, 5, 6, 6, 6)]


def test_runs_are_stretches_of_valid_frames():
    assert runs([True, True, False, True, False, False, True]) == [range(0, 2), range(3, 4), range(6, 7)]
    assert runs([False]) == []


def test_features_are_those_of_the_windows_and_every_frame_is_resized_once():
    metric, one = MeanColours(clip_frames=4), clip(views=2, frames=4 + 2 * VIDEOS_PER_CALL)
    kept = metric.measure(one)
    assert metric.resized == 2 * one.valid.numel()
    colours = one.truth.float().mean(dim=(3, 4)).numpy()
    expected = [colours[view, start : start + 4].ravel() for view in (0, 1) for start in range(2 * VIDEOS_PER_CALL + 1)]
    assert np.array_equal(kept["truth"], np.stack(expected))
    assert kept["prediction"].dtype == np.float32


def test_every_frame_of_a_clip_is_valid():
    metric, one = MeanColours(clip_frames=3), clip(frames=12)
    one.valid[0, [3, 9]] = False
    one.prediction[0, [3, 9]] = 0
    # Three, five and two frames in a row.
    kept = metric.measure(one)
    assert len(kept["truth"]) == 1 + 3
    assert kept["prediction"].min() > 0
    found = metric.reduce({"clip": kept})
    assert "1 stretches" in found.notes[0]


def test_a_video_goes_along_time_or_around_the_circle():
    one = clip(views=5, frames=4)
    assert len(MeanColours(clip_frames=4).measure(one)["truth"]) == 5
    around = MeanColours(clip_frames=4, along="views").measure(one)
    assert len(around["truth"]) == 4 * 2
    still = clip(views=5, frames=1)
    assert len(MeanColours(clip_frames=4).measure(still)["truth"]) == 2
    assert MeanColours(clip_frames=4, along="time").measure(still) == {}
    colours = one.truth.float().mean(dim=(3, 4)).numpy()
    assert np.array_equal(around["truth"][1], colours[1:5, 0].ravel())


def test_a_whole_video_has_the_mean_of_its_segments():
    kept = MeanColours(clip_frames=4, items="whole").measure(clip(frames=6))
    colours = clip(frames=6).truth[0, [0, 1, 2, 3, 4, 5, 5, 5]].float().mean(dim=(2, 3)).numpy()
    assert kept["truth"] == pytest.approx(colours.reshape(2, 12).mean(axis=0)[None], rel=1e-6)


def test_how_clips_are_grouped_does_not_matter():
    metric, whole = MeanColours(clip_frames=4), clip(views=3)
    parts = [
        ScoredClip(
            clip_id=f"{view}",
            subject="one",
            prediction=whole.prediction[view : view + 1],
            truth=whole.truth[view : view + 1],
            valid=whole.valid[view : view + 1],
        )
        for view in range(3)
    ]
    assert reduced(metric, parts).value == reduced(metric, [whole]).value


def test_the_order_of_clips_does_not_matter():
    metric = MeanColours(clip_frames=4)
    clips = [clip(seed=seed, name=f"{seed}") for seed in range(4)]
    assert reduced(metric, clips).value == pytest.approx(reduced(metric, clips[::-1]).value, rel=1e-10)


def test_the_truth_is_at_no_distance_and_noise_is_far():
    metric = MeanColours(clip_frames=2)
    clips = [clip(seed=seed, name=f"{seed}") for seed in range(4)]
    truth = [
        ScoredClip(clip_id=c.clip_id, subject="s", prediction=c.truth, truth=c.truth, valid=c.valid) for c in clips
    ]
    assert reduced(metric, truth).value == pytest.approx(0, abs=1e-9)
    assert reduced(metric, clips).value > 1
    assert not metric.higher_is_better


def test_what_is_counted_and_cautions():
    metric = MeanColours(clip_frames=2)
    found = reduced(metric, [clip()])
    assert (found.count, found.counted) == (11, "2-frame clips")
    assert found.per_clip == {}
    assert "below 2048" in found.notes[0]
    few = reduced(MeanColours(clip_frames=4), [clip()])
    assert "rank-deficient" in few.notes[0] and "N = 9" in few.notes[0]
    assert Frechet(FrechetConfig()).cautions(5000, 400) == ()
    assert Kernel(KernelConfig()).cautions(5, 400) == ()
    assert "biased" in Kernel(KernelConfig(estimator="biased")).cautions(5, 400)[0]


def test_too_little_has_no_distance():
    metric = MeanColours(clip_frames=12)
    assert metric.measure(clip(frames=11)) == {}
    with pytest.raises(NotAvailable, match="at least two 12-frame clips, there is 1"):
        reduced(metric, [clip()])


@pytest.mark.parametrize("distance", [Frechet(FrechetConfig()), Kernel(KernelConfig())])
def test_a_feature_that_is_not_finite_has_no_distance_and_is_named(distance):
    metric = MeanColours(clip_frames=4)
    metric.distance = distance
    kept = {name: dict(metric.measure(clip(name=name, seed=i))) for i, name in enumerate(("good", "bad"))}
    kept["bad"]["prediction"][2, 1] = np.nan
    with pytest.raises(NotAvailable, match=r"clip 'bad' \(prediction\) is not finite"):
        metric.reduce(kept)


@pytest.mark.parametrize("name", THROUGH_NETWORKS)
def test_without_its_network_a_metric_is_not_available(name, tmp_path):
    part = registry.load("metric", name)
    with pytest.raises(NotAvailable, match="pretrained network"):
        part(part.Config(), None)
    with pytest.raises(NotAvailable, match="hvg weights"):
        part(part.Config(), Context(networks=NetworkFiles(tmp_path)))


def test_impossible_settings_are_refused():
    with pytest.raises(ValueError, match="9 or more"):
        registry.load("metric", "fvd").Config(network="i3d_content_debiased", clip_frames=8)
    with pytest.raises(ValueError, match="clip_frames"):
        registry.load("metric", "fid_vid").Config(clip_frames=8)
