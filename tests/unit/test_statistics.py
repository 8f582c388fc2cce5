"""Paired differences: what the interval covers, and what it is made of."""

import math

import numpy as np
import pytest

from hvg.score.statistics import Interval, holm, jackknife_difference, paired_difference, visible_difference, wins


def excludes_zero(interval: Interval) -> bool:
    return interval.low > 0 or interval.high < 0


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


def clustered(random, subjects: int, clips: int, *, seeds: int = 1, luck: float = 0.0) -> list[dict[str, float]]:
    """Values without any difference: what a person does to all of its clips, a seed to all people, and noise."""
    people = random.normal(size=subjects)
    return [
        {
            f"{i}/{k}": float(person + fortune + 0.5 * random.normal())
            for i, person in enumerate(people)
            for k in range(clips)
        }
        for fortune in luck * random.normal(size=seeds)
    ]


@pytest.mark.parametrize(("subjects", "seeds", "luck"), [(4, 1, 0.0), (12, 1, 0.0), (8, 3, 0.5), (3, 3, 0.0)], ids=str)
def test_few_correlated_subjects_are_covered_too(subjects, seeds, luck):
    random, trials, covered, naive = np.random.default_rng(2), 200, 0, 0
    for _ in range(trials):
        values = clustered(random, subjects, 6, seeds=seeds, luck=luck)
        zeros = dict.fromkeys(values[0], 0.0)
        found = paired_difference(values, zeros, {clip: clip.split("/")[0] for clip in zeros}, resamples=400)
        covered += found.low <= 0 <= found.high
        apart = paired_difference(values, zeros, {clip: clip for clip in zeros}, resamples=400)
        naive += apart.low <= 0 <= apart.high
    assert 0.90 <= covered / trials <= 0.99
    assert naive / trials < covered / trials - 0.08
    assert seeds > 1 or naive / trials < 0.7


def test_the_p_value_is_the_level_at_which_the_interval_touches_0():
    random = np.random.default_rng(3)
    for shift in (0.0, 0.3, 0.6, 1.0):
        a, b = one_clip_per_subject(shift + random.normal(size=12)), one_clip_per_subject(np.zeros(12))
        p = paired_difference(a, b, SUBJECTS).p
        assert not excludes_zero(paired_difference(a, b, SUBJECTS, level=1 - 0.9 * p))
        if p < 0.9:
            assert excludes_zero(paired_difference(a, b, SUBJECTS, level=1 - 1.1 * p))
        assert p == pytest.approx(paired_difference(b, a, SUBJECTS).p, abs=0.03)


def test_p_values_are_between_their_bounds():
    equal = paired_difference(one_clip_per_subject([1, 2, 3]), one_clip_per_subject([1, 2, 3]), SUBJECTS)
    assert (equal.low, equal.high, equal.p) == (0, 0, 1)
    far = paired_difference(
        one_clip_per_subject(100 + np.arange(30.0)), one_clip_per_subject(np.zeros(30)), SUBJECTS, resamples=999
    )
    assert far.p == pytest.approx(2 / 1000)
    assert paired_difference({"clip0": 1.0}, {"clip0": 0.0}, SUBJECTS).p == 1


def test_holm_is_holm():
    """Worked by hand: 4 x .005, 3 x .01, 2 x .03, and no less for .04."""
    found = holm({"a": 0.01, "b": 0.04, "c": 0.03, "d": 0.005})
    assert found == pytest.approx({"a": 0.03, "b": 0.06, "c": 0.06, "d": 0.02})
    assert list(found) == ["a", "b", "c", "d"]
    assert holm({"a": 0.7, "b": 0.6}) == {"a": 1.0, "b": 1.0}
    assert holm({}) == {}


def test_several_null_arms_rarely_look_different():
    """The chance that any of 5 arms without a difference is called different: 5 % with Holm, far more without."""
    random, trials, alone, corrected = np.random.default_rng(4), 160, 0, 0
    for _ in range(trials):
        first = clustered(random, 10, 3)
        subject_of = {clip: clip.split("/")[0] for clip in first[0]}
        p_values = {
            str(arm): paired_difference(clustered(random, 10, 3), first, subject_of, resamples=800, seed=arm).p
            for arm in range(5)
        }
        alone += min(p_values.values()) < 0.05
        corrected += min(holm(p_values).values()) < 0.05
    assert alone / trials > 0.11
    assert 0.0 < corrected / trials < 0.09


def test_the_jackknife_of_a_mean_is_students_interval():
    random = np.random.default_rng(5)
    x, y = random.normal(size=9), random.normal(size=9) + 0.4
    without = [[np.delete(values, i).mean() for i in range(9)] for values in (x, y)]
    found = jackknife_difference([x.mean()], without[:1], [y.mean()], without[1:], num_subjects=9)
    reach = 2.306004 * (x - y).std(ddof=1) / 3  # t of 8 degrees of freedom at 97.5 %
    assert (found.low, found.high) == pytest.approx(((x - y).mean() - reach, (x - y).mean() + reach), abs=1e-6)
    border = jackknife_difference([x.mean()], without[:1], [y.mean()], without[1:], num_subjects=9, level=1 - found.p)
    assert min(abs(border.low), abs(border.high)) == pytest.approx(0, abs=1e-12)


def test_the_jackknife_adds_the_luck_of_seeds():
    still = [[1.0] * 6] * 3
    found = jackknife_difference([1.0, 2.0, 3.0], still, [0.0], still[:1], num_subjects=6)
    reach = 4.302653 / 3**0.5  # t of 2 degrees of freedom, standard deviation 1
    assert (found.mean, found.low, found.high) == pytest.approx((2.0, 2 - reach, 2 + reach), abs=1e-6)
    assert (found.num_subjects, found.num_seeds) == (6, 3)
    with pytest.raises(ValueError, match="groups do not pair"):
        jackknife_difference([1.0], [[1.0, 2.0]], [1.0], [[1.0, 2.0, 3.0]], num_subjects=3)
    with pytest.raises(ValueError, match="seeds do not pair"):
        jackknife_difference([1.0] * 2, still[:2], [1.0] * 3, still, num_subjects=3)
    alone = jackknife_difference([1.0], [[1.0]], [0.5], [[0.5]], num_subjects=1)
    assert (alone.low, alone.high, alone.p) == (-math.inf, math.inf, 1.0)


def test_pairing_removes_what_subjects_share():
    random = np.random.default_rng(0)
    difficulty = 5 * random.normal(size=16)
    a, b = difficulty + 0.3 + 0.1 * random.normal(size=16), difficulty + 0.1 * random.normal(size=16)
    paired = paired_difference(one_clip_per_subject(a), one_clip_per_subject(b), SUBJECTS)
    shuffled = paired_difference(one_clip_per_subject(a), one_clip_per_subject(np.roll(b, 1)), SUBJECTS)
    assert excludes_zero(paired) and not excludes_zero(shuffled)
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
    assert not excludes_zero(found)


def test_wins_follow_the_direction_and_ties_do_not_count():
    a, b = one_clip_per_subject([1, 2, 3]), one_clip_per_subject([0, 2, 4])
    assert wins(a, b, SUBJECTS, higher_is_better=True) == (1, 3)
    assert wins(a, b, SUBJECTS, higher_is_better=False) == (1, 3)


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


@pytest.mark.parametrize("comparisons", [1, 4])
def test_a_difference_that_could_just_be_seen_is_about_significant(comparisons):
    """Moved to that distance from 0, the same spread gives a p-value that Holm's method takes to the limit."""
    random = np.random.default_rng(3)
    values, zeros = random.normal(size=16), one_clip_per_subject(np.zeros(16))
    spread = paired_difference(one_clip_per_subject(values - values.mean()), zeros, SUBJECTS)
    visible = visible_difference(spread, comparisons)
    moved = paired_difference(one_clip_per_subject(values - values.mean() + visible), zeros, SUBJECTS)
    assert comparisons * moved.p == pytest.approx(0.05, rel=0.4)
    assert visible_difference(paired_difference({"a": 1.0}, {"a": 0.0}, {"a": "one"}), 1) == math.inf
