"""How often the 95 % interval of a difference holds the true one, over random protocols; the table is in docs/decisions/0022."""

from collections import defaultdict
from dataclasses import dataclass

import numpy as np
import pytest

from hvg.parts.set_distance import Frechet, FrechetConfig
from hvg.score.set_statistics import SubjectFeatures, left_out
from hvg.score.statistics import jackknife_difference, paired_difference

FRECHET = Frechet(FrechetConfig())
WIDTH = 16
SPREAD = 1 / np.sqrt(np.arange(1, WIDTH + 1))
# Draws of a protocol over which the true difference of its Frechet distances is averaged: it depends on N.
REPEATS = 60


@dataclass(frozen=True)
class Arm:
    """A model whose features are ``weight`` times the true ones plus a bias and noise. luck: (seeds, WIDTH) of its trainings."""

    weight: float
    noise: float
    bias: np.ndarray
    luck: np.ndarray


@dataclass(frozen=True)
class Study:
    """A protocol: its people, the clips of each, and two arms. fortune: standard deviation of a training's luck."""

    people: int
    clips: int
    seeds: int
    fortune: float
    arms: tuple[Arm, Arm]

    @property
    def owner(self) -> np.ndarray:
        """Whose every clip is."""
        return np.repeat(np.arange(self.people), self.clips)

    def trained_anew(self, random) -> "Study":
        """The same with other luck; with one seed the interval speaks of that one training, so that it keeps its luck."""
        if self.seeds == 1:
            return self
        arms = [Arm(a.weight, a.noise, a.bias, self.fortune * random.normal(size=a.luck.shape)) for a in self.arms]
        return Study(self.people, self.clips, self.seeds, self.fortune, (arms[0], arms[1]))

    def features(self, random) -> tuple[np.ndarray, list[list[np.ndarray]]]:
        """True features (N, WIDTH) of new people, and for both arms those of every seed."""
        owner = self.owner
        persons = random.normal(size=(self.people, WIDTH))[owner]
        truth = SPREAD * (persons + random.normal(size=(len(owner), WIDTH))) / 2**0.5
        return truth, [
            [arm.weight * truth + arm.bias + luck + arm.noise * random.normal(size=truth.shape) for luck in arm.luck]
            for arm in self.arms
        ]

    def true_error(self, arm: Arm) -> float:
        """Expected squared error of a clip, a mean over the WIDTH numbers."""
        known = arm.bias + arm.luck[0] if self.seeds == 1 else arm.bias
        unknown = 0.0 if self.seeds == 1 else self.fortune**2
        return float(np.mean(((arm.weight - 1) * SPREAD) ** 2 + known**2 + unknown + arm.noise**2))


def random_study(random) -> Study:
    people, seeds = int(np.exp(random.uniform(np.log(2), np.log(33)))), int(random.integers(1, 6))
    fortune = random.uniform(0, 0.15)
    arms = [
        Arm(
            weight=random.uniform(0.5, 1.0),
            noise=random.uniform(0.1, 0.6),
            bias=0.2 * random.normal(size=WIDTH),
            luck=fortune * random.normal(size=(seeds, WIDTH)),
        )
        for _ in range(2)
    ]
    return Study(people, int(random.integers(2, 7)), seeds, fortune, (arms[0], arms[1]))


def mean_is_covered(study: Study, truth: np.ndarray, made: list[list[np.ndarray]], random) -> bool:
    clips = [f"{person}/{k}" for k, person in enumerate(study.owner)]
    subject_of = {clip: clip.split("/")[0] for clip in clips}
    values = [
        [dict(zip(clips, ((seed - truth) ** 2).mean(axis=1).tolist(), strict=True)) for seed in arm] for arm in made
    ]
    true = study.true_error(study.arms[0]) - study.true_error(study.arms[1])
    found = paired_difference(values[0], values[1], subject_of, resamples=1000, seed=int(random.integers(2**31)))
    return found.low <= true <= found.high


def distance_is_covered(study: Study, truth: np.ndarray, made: list[list[np.ndarray]], random) -> bool:
    owner = study.owner

    def difference(truth: np.ndarray, made: list[list[np.ndarray]]) -> float:
        a, b = ([FRECHET.between(seed, truth) for seed in arm] for arm in made)
        return float(np.mean(a) - np.mean(b))

    true = np.mean([difference(*study.trained_anew(random).features(random)) for _ in range(REPEATS)])
    values, without = [], []
    for arm in made:
        sets = [SubjectFeatures(seed, truth, owner, owner, study.people) for seed in arm]
        values.append([FRECHET.between(seed, truth) for seed in arm])
        without.append([left_out(FRECHET, one) for one in sets])
    found = jackknife_difference(values[0], without[0], values[1], without[1], num_subjects=study.people)
    return found.low <= true <= found.high


def coverage(trials: int) -> dict[str, dict[str, tuple[float, int]]]:
    """What is compared -> group of protocols -> share of intervals that hold the true difference, and how many."""
    random, hits = np.random.default_rng(0), defaultdict(lambda: defaultdict(list))
    for _ in range(trials):
        study = random_study(random)
        truth, made = study.features(random)
        people = next(f"up to {most} people" for most in (3, 7, 15, 32) if study.people <= most)
        seeds = "1 seed" if study.seeds == 1 else "2 seeds" if study.seeds == 2 else "3 to 5 seeds"
        covered = {
            "mean": mean_is_covered(study, truth, made, random),
            "frechet": distance_is_covered(study, truth, made, random),
        }
        for what, hit in covered.items():
            for group in ("all", people, seeds, f"{people}, {seeds}"):
                hits[what][group].append(hit)
    return {what: {group: (float(np.mean(x)), len(x)) for group, x in sorted(of.items())} for what, of in hits.items()}


@pytest.mark.long
def test_intervals_of_random_protocols_cover_the_true_difference():
    found = coverage(1000)
    for what, groups in found.items():
        for group, (share, count) in groups.items():
            print(f"{what:8} {group:30} {share:.3f} of {count}")
        assert all(groups[group][0] > 0.93 for group in ("all", "1 seed", "2 seeds", "3 to 5 seeds"))
        # Fewer than 40 in a group would be luck: a standard deviation of .04.
        assert all(share > 0.87 for share, count in groups.values() if count >= 40)
