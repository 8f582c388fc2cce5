"""Distances between sets: how they move with the subjects, and what two samples of the truth would score."""

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import Tensor

from hvg.config.sections import ProtocolConfig
from hvg.config.settings import PartChoice
from hvg.parts.context import Context
from hvg.parts.feature_metric import FrameFeatureMetric
from hvg.parts.network_files import NetworkFiles
from hvg.parts.set_distance import Frechet, FrechetConfig, Kernel, KernelConfig
from hvg.score.evaluation import make_record
from hvg.score.evaluation_record import ClipRecord, write_record
from hvg.score.measured_clips import MeasuredClip, finished
from hvg.score.protocol import Protocol
from hvg.score.set_statistics import (
    SubjectFeatures,
    distance_of,
    left_out,
    left_out_of_run,
    same_distribution_floor,
    subject_features,
)
from hvg.score.statistics import jackknife_difference
from hvg.values.scored_clip import ScoredClip

FRECHET = Frechet(FrechetConfig())


def spread(width: int) -> np.ndarray:
    """Standard deviations of features whose variances fall as 1 / k and come to 400."""
    variances = 1 / np.arange(1, width + 1)
    return np.sqrt(400 * variances / variances.sum())


def people(random, subjects: int, clips: int, width: int) -> np.ndarray:
    """Features of unit variance, half of it what clips of one subject share."""
    shared = np.repeat(random.normal(size=(subjects, width)), clips, axis=0)
    return (shared + random.normal(size=(subjects * clips, width))) / 2**0.5


def owners(subjects: int, clips: int) -> np.ndarray:
    return np.repeat(np.arange(subjects), clips)


def features(prediction: np.ndarray, truth: np.ndarray, subject_of: np.ndarray) -> SubjectFeatures:
    return SubjectFeatures(prediction, truth, subject_of, subject_of, len(np.unique(subject_of)))


def without_each(distance, found: SubjectFeatures) -> list[float]:
    """By definition."""
    return [
        distance.between(
            found.prediction[found.subject_of_prediction != subject], found.truth[found.subject_of_truth != subject]
        )
        for subject in range(found.num_subjects)
    ]


@pytest.mark.parametrize(
    "settings", [{}, {"estimator": "biased", "degree": 2, "coef0": 0.0, "scale": 100.0}, {"gamma": 0.3}], ids=str
)
def test_a_kernel_distance_without_a_subject_is_exact(settings):
    random = np.random.default_rng(0)
    owner = np.array([0, 0, 0, 1, 2, 2, 3, 3, 3, 3])
    found = features(random.normal(size=(10, 5)), random.normal(size=(10, 5)) + 0.3, owner)
    kernel = Kernel(KernelConfig(**settings))
    assert left_out(kernel, found) == pytest.approx(without_each(kernel, found))


@pytest.mark.parametrize("covariance", ["unbiased", "biased"])
def test_a_frechet_distance_without_a_subject_is_right_to_first_order(covariance):
    """Of 400 subjects one changes little: what is left is of second order."""
    random, distance = np.random.default_rng(0), Frechet(FrechetConfig(covariance=covariance))
    truth = people(random, 400, 2, 12) * spread(12)
    found = features(0.8 * truth + people(random, 400, 2, 12) + 1, truth, owners(400, 2))
    exact, approximate = (np.array(x) for x in (without_each(distance, found), left_out(distance, found)))
    assert np.abs(exact - approximate).max() < 0.02 * np.ptp(exact)


def test_a_frechet_distance_of_few_vectors_spreads_as_the_exact_one():
    """48 vectors of 200 numbers: covariances are rank-deficient."""
    random = np.random.default_rng(1)
    ratios = []
    for _ in range(5):
        truth = people(random, 12, 4, 200)
        arms = [
            features((0.8 * truth + 0.6 * people(random, 12, 4, 200)) * spread(200), truth * spread(200), o)
            for o in [owners(12, 4)] * 2
        ]
        exact, approximate = (
            np.subtract(*(np.array(of(FRECHET, arm)) for arm in arms)).std() for of in (without_each, left_out)
        )
        ratios.append(approximate / exact)
    assert 0.8 < np.mean(ratios) < 1.25


@pytest.mark.parametrize("subjects", [3, 4, 8, 16])
@pytest.mark.parametrize("width", [16, 200])
def test_a_frechet_distance_of_few_subjects_spreads_as_the_exact_one(subjects, width):
    """Leaving out one person of J moves the distance by J / (J - 1) of that person's influence, not by the influence."""
    random, ratios = np.random.default_rng(0), []
    for _ in range(20):
        truth, owner = people(random, subjects, 4, width), owners(subjects, 4)
        found = features(
            (0.8 * truth + 0.6 * people(random, subjects, 4, width) + 0.2) * spread(width), truth * spread(width), owner
        )
        exact, approximate = (np.std(of(FRECHET, found)) for of in (without_each, left_out))
        ratios.append(approximate / exact)
    assert np.mean(ratios) == pytest.approx(1, abs=0.13)


@dataclass(frozen=True)
class MeanDistance:
    """A distance of somebody else's."""

    id = "mean"

    def between(self, a: np.ndarray, b: np.ndarray) -> float:
        return float(np.linalg.norm(a.mean(axis=0) - b.mean(axis=0)))

    def cautions(self, count: int, width: int) -> tuple[str, ...]:
        return ()


def test_any_other_distance_is_taken_without_groups_of_subjects():
    random = np.random.default_rng(0)
    few, many = (features(random.normal(size=(n, 3)), random.normal(size=(n, 3)), np.arange(n)) for n in (6, 50))
    assert left_out(MeanDistance(), few) == pytest.approx(without_each(MeanDistance(), few))
    assert len(left_out(MeanDistance(), many)) == 20
    one = features(random.normal(size=(4, 3)), random.normal(size=(4, 3)), np.zeros(4, dtype=int))
    assert left_out(FRECHET, one) == []


def intervals(distance, kind: str, trials: int, random):
    """Estimated differences of two arms with their intervals: 16 subjects of 3 clips, 60 numbers each."""
    subject_of = owners(16, 3)
    for _ in range(trials):
        truth = people(random, 16, 3, 60)
        weights = (0.8, 0.8) if kind == "equal" else (0.9, 0.7)
        arms = [
            features((w * truth + 0.4 * people(random, 16, 3, 60)) * spread(60), truth * spread(60), subject_of)
            for w in weights
        ]
        values = [distance.between(arm.prediction, arm.truth) for arm in arms]
        without = [left_out(distance, arm) for arm in arms]
        yield jackknife_difference(values[:1], without[:1], values[1:], without[1:], num_subjects=16)


@pytest.mark.long
@pytest.mark.parametrize(
    ("distance", "least_coverage", "least_power"),
    [(FRECHET, 0.89, 0.9), (Kernel(KernelConfig()), 0.81, 0.7)],
    ids=["frechet", "kernel"],
)
def test_intervals_of_set_distances_cover(distance, least_coverage, least_power):
    """Of equal arms too often, so that they are rarely called different. Of arms that differ, 600 trials gave 97 % for the
    Frechet distance and 86.5 % for the cubic kernel, whose values are skewed: it falls short, and this holds it there."""
    random = np.random.default_rng(0)
    differ = list(intervals(distance, "different", 200, random))
    true = np.mean([found.mean for found in differ])
    assert np.mean([found.low <= true <= found.high for found in differ]) >= least_coverage
    assert np.mean([found.p < 0.05 for found in differ]) >= least_power
    equal = list(intervals(distance, "equal", 200, random))
    assert np.mean([found.p < 0.05 for found in equal]) <= 0.08


@pytest.mark.parametrize("width", [50, 400])
@pytest.mark.parametrize(("subjects", "clips"), [(12, 4), (40, 2)])
def test_the_floor_is_what_two_samples_score(width, subjects, clips):
    random = np.random.default_rng(0)

    def sample() -> np.ndarray:
        return people(random, subjects, clips, width) * spread(width)

    true = np.mean([FRECHET.between(sample(), sample()) for _ in range(4)])
    floors = [same_distribution_floor(FRECHET, sample(), owners(subjects, clips)) for _ in range(4)]
    assert np.mean(floors) == pytest.approx(true, rel=0.12)


def test_the_floor_of_a_kernel_distance():
    random = np.random.default_rng(0)
    subject_of, biased = owners(30, 2), Kernel(KernelConfig(degree=2, coef0=0.0, estimator="biased", scale=100.0))

    def sample() -> np.ndarray:
        return people(random, 30, 2, 20) * spread(20)

    true = np.mean([biased.between(sample(), sample()) for _ in range(10)])
    floors = [same_distribution_floor(biased, sample(), subject_of) for _ in range(10)]
    assert np.mean(floors) == pytest.approx(true, rel=0.15)
    assert same_distribution_floor(Kernel(KernelConfig()), sample(), subject_of) == 0


def test_few_subjects_have_no_floor():
    random = np.random.default_rng(0)
    assert same_distribution_floor(FRECHET, random.normal(size=(70, 4)), owners(7, 10)) is None
    assert same_distribution_floor(FRECHET, random.normal(size=(8, 4)), owners(8, 1)) is not None


def test_the_distance_follows_from_the_settings():
    assert distance_of(FrechetConfig(covariance="biased")) == Frechet(FrechetConfig(covariance="biased"))
    assert distance_of(KernelConfig(degree=2)) == Kernel(KernelConfig(degree=2))
    assert distance_of(object()) is None


class ColourDistance(FrameFeatureMetric):
    """Frechet distance between mean colours."""

    class Config(FrechetConfig):
        """Settings of the distance."""

        every: int = 1

    definition = "colour/v1"

    def __init__(self, config: Config, context: Context | None = None) -> None:
        super().__init__(config, context, Frechet(config))

    def features(self, frames: Tensor) -> Tensor:
        return frames.float().mean(dim=(-2, -1))


def measured(protocol: Protocol) -> dict[int, MeasuredClip]:
    """Index -> clip and what the protocol keeps of it, of 20 clips of 10 people."""
    generator, own = torch.Generator().manual_seed(0), {}
    for index in range(20):
        frames = torch.randint(0, 256, (2, 1, 3, 3, 2, 2), generator=generator).to(torch.uint8)
        clip = ScoredClip(
            clip_id=f"clip{index}",
            subject=f"person{index // 2}",
            prediction=frames[0],
            truth=frames[1],
            valid=torch.ones(1, 3, dtype=torch.bool),
        )
        described = ClipRecord(clip_id=clip.clip_id, subject=clip.subject, azimuths=None)
        own[index] = MeasuredClip(described, protocol.measure(clip))
    return own


def test_an_evaluation_knows_its_floor_and_what_a_subject_contributes(tmp_path):
    choice = PartChoice("metric", "colour", ColourDistance, ColourDistance.Config())
    metric = ColourDistance(choice.config, Context(networks=NetworkFiles(tmp_path)))
    protocol = Protocol(ProtocolConfig(name="mine", metrics={"colour": choice}), {"colour": metric}, {})
    own = measured(protocol)
    found = finished(protocol, own)
    score = found.values["colour"]
    assert score["floor"] is not None and 0 < score["floor"] < score["value"] * 3
    record = make_record(found, protocol.settings, "mine", None, None)
    write_record(tmp_path / "mine", record, found.measurements)
    without = left_out_of_run(tmp_path / "mine", record, {"colour": FRECHET})
    kept = {clip: of_clip["colour"] for clip, of_clip in found.measurements.items()}
    arrays = subject_features(kept, {clip["clip_id"]: clip["subject"] for clip in found.clips})
    assert arrays.num_subjects == 10 and arrays.prediction.shape == (60, 3)
    assert np.corrcoef(without["colour"], without_each(FRECHET, arrays))[0, 1] > 0.9
    few = finished(protocol, dict(list(own.items())[:8]))
    assert few.values["colour"]["floor"] is None


class NoSmallSets(Frechet):
    """A distance whose author did not think of small sets."""

    def between(self, a, b):
        if len(b) < 60:
            raise IndexError("few")
        return super().between(a, b)


def test_a_floor_that_fails_leaves_the_value(tmp_path):
    choice = PartChoice("metric", "colour", ColourDistance, ColourDistance.Config())
    metric = ColourDistance(choice.config, Context(networks=NetworkFiles(tmp_path)))
    metric.distance = NoSmallSets(choice.config)
    protocol = Protocol(ProtocolConfig(name="mine", metrics={"colour": choice}), {"colour": metric}, {})
    found = finished(protocol, measured(protocol)).values["colour"]
    assert found["value"] is not None and found["floor"] is None
    assert "its floor failed with IndexError: few" in found["notes"] and found.get("traceback")
