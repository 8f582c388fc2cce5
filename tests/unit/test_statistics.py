"""Paired differences: what the interval covers, and what it is made of."""

from __future__ import annotations

import math

import numpy as np
import pytest

from hvg.statistics import paired_difference, subject_means, wins


def one_clip_per_subject(values) -> dict[str, float]:
    return {f"clip{i}": float(value) for i, value in enumerate(values)}


SUBJECTS = {f"clip{i}": f"person{i}" for i in range(64)}


def test_the_mean_is_the_difference_of_the_means():
    random = np.random.default_rng(0)
    a, b = (one_clip_per_subject(random.normal(size=12)) for _ in range(2))
    found = paired_difference(a, b, SUBJECTS)
    assert found.mean == pytest.approx(np.mean(list(a.values())) - np.mean(list(b.values())))
    assert found.low < found.mean < found.high
    assert (found.num_subjects, found.num_seeds) == (12, 1)


def test_the_interval_covers_the_truth_about_as_often_as_it_says():
    random, covered, trials = np.random.default_rng(0), 0, 300
    for _ in range(trials):
        difference = one_clip_per_subject(0.5 + random.normal(size=16))
        found = paired_difference(difference, one_clip_per_subject(np.zeros(16)), SUBJECTS, resamples=600)
        covered += found.low <= 0.5 <= found.high
    assert 0.90 <= covered / trials <= 0.98


def test_the_interval_covers_the_truth_with_luck_per_seed():
    random, covered, alone, trials = np.random.default_rng(1), 0, 0, 200
    zeros = one_clip_per_subject(np.zeros(16))
    for _ in range(trials):
        people = random.normal(size=16)
        seeds = [one_clip_per_subject(people + random.normal() + 0.3 * random.normal(size=16)) for _ in range(6)]
        found = paired_difference(seeds, zeros, SUBJECTS, resamples=600)
        covered += found.low <= 0 <= found.high
        single = paired_difference(seeds[0], zeros, SUBJECTS, resamples=600)
        alone += single.low <= 0 <= single.high
    assert covered / trials >= 0.88
    assert alone / trials < 0.75  # subjects alone understate the noise


def test_pairing_removes_what_subjects_share():
    random = np.random.default_rng(0)
    difficulty = 5 * random.normal(size=16)
    a, b = difficulty + 0.3 + 0.1 * random.normal(size=16), difficulty + 0.1 * random.normal(size=16)
    paired = paired_difference(one_clip_per_subject(a), one_clip_per_subject(b), SUBJECTS)
    shuffled = paired_difference(one_clip_per_subject(a), one_clip_per_subject(np.roll(b, 1)), SUBJECTS)
    assert paired.excludes_zero and not shuffled.excludes_zero
    assert shuffled.high - shuffled.low > 10 * (paired.high - paired.low)


def test_clips_of_a_subject_stay_together():
    """Eight copies of every clip are no new evidence when they show the same person."""
    random = np.random.default_rng(0)
    values = random.normal(size=8)
    copies = {f"p{i}/{k}": float(value) for i, value in enumerate(values) for k in range(8)}
    zeros = dict.fromkeys(copies, 0.0)
    together = paired_difference(copies, zeros, {clip: clip.split("/")[0] for clip in copies})
    apart = paired_difference(copies, zeros, {clip: clip for clip in copies})
    single = paired_difference(one_clip_per_subject(values), one_clip_per_subject(np.zeros(8)), SUBJECTS)
    assert together.high - together.low == pytest.approx(single.high - single.low)
    assert apart.high - apart.low < 0.5 * (together.high - together.low)
    assert together.num_subjects == 8


def test_it_is_deterministic_and_does_not_depend_on_order():
    random = np.random.default_rng(0)
    a, b = (one_clip_per_subject(random.normal(size=9)) for _ in range(2))
    reordered = dict(reversed(a.items()))
    assert paired_difference(a, b, SUBJECTS) == paired_difference(reordered, b, SUBJECTS)


def test_a_baseline_without_seeds_is_compared_with_every_seed():
    a = [one_clip_per_subject([1.0, 2.0]), one_clip_per_subject([3.0, 4.0])]
    b = one_clip_per_subject([1.0, 1.0])
    found = paired_difference(a, b, SUBJECTS)
    assert found.mean == pytest.approx(1.5)
    assert found.num_seeds == 2
    assert paired_difference(b, a, SUBJECTS).mean == pytest.approx(-1.5)


def test_one_subject_settles_nothing():
    found = paired_difference({"clip0": 1.0}, {"clip0": 0.0}, SUBJECTS)
    assert (found.mean, found.low, found.high) == (1.0, -math.inf, math.inf)
    assert not found.excludes_zero


def test_wins_follow_the_direction_and_ties_do_not_count():
    a, b = one_clip_per_subject([1, 2, 3]), one_clip_per_subject([0, 2, 4])
    assert wins(a, b, SUBJECTS, higher_is_better=True) == (1, 3)
    assert wins(a, b, SUBJECTS, higher_is_better=False) == (1, 3)


def test_subject_means():
    values = {"a/0": 1.0, "b/0": 5.0, "a/1": 3.0}
    assert subject_means(values, {clip: clip[0] for clip in values}) == {"a": 2.0, "b": 5.0}


def test_what_does_not_pair_is_refused():
    a = one_clip_per_subject([1, 2, 3])
    with pytest.raises(ValueError, match="clips do not pair"):
        paired_difference(a, one_clip_per_subject([1, 2]), SUBJECTS)
    with pytest.raises(ValueError, match="seeds do not pair"):
        paired_difference([a, a], [a, a, a], SUBJECTS)
    with pytest.raises(ValueError, match="no subject"):
        paired_difference({"x": 1.0}, {"x": 2.0}, SUBJECTS)
    with pytest.raises(ValueError, match="no clips"):
        paired_difference({}, {}, SUBJECTS)
