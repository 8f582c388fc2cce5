"""Paired differences between two arms: intervals over subjects and seeds, p-values, and their correction for many arms.

Values of clips are resampled (``paired_difference``); a distance between sets has none, and is computed anew without one
subject after the other (``jackknife_difference``).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
from scipy.special import stdtr, stdtrit

# Clip id -> value of one trained model.
ClipValues = Mapping[str, float]
# One such mapping per seed, or a single one for what has no seed (a trivial baseline).
SeedValues = ClipValues | Sequence[ClipValues]


@dataclass(frozen=True)
class Interval:
    """A mean with its interval; both bounds are infinite when one subject is all there is.

    p: two-sided p-value of "no difference"; the interval of level 1 - p has 0 on its border.
    """

    mean: float
    low: float
    high: float
    num_subjects: int
    num_seeds: int
    p: float

    def __neg__(self) -> "Interval":
        """The difference the other way round."""
        return replace(self, mean=-self.mean, low=-self.high, high=-self.low)


def paired_difference(
    values_a: SeedValues,
    values_b: SeedValues,
    subject_of: Mapping[str, str],
    *,
    level: float = 0.95,
    resamples: int = 10_000,
    seed: int = 0,
) -> Interval:
    """Mean over seeds and clips of ``a - b`` with its bootstrap interval; paired clip by clip and seed by seed.

    Seed i of ``a`` is compared with seed i of ``b`` (same data order, same initial noise). Without seeds on one side,
    every seed of the other side is compared with it. Clips of one subject are drawn together: they are not independent.

    Subjects and seeds are drawn independently, which for crossed factors errs on the wide side. Of n subjects n - 1 are
    drawn, and likewise of seeds, which removes the bootstrap's bias towards narrow intervals at small n. How well the
    spread of few subjects or seeds is known is in the interval too: the draws are spread as Student's t is spread against
    a normal distribution. One seed has no spread: the interval then speaks of that one training run only.

    The p-value comes from the same draws; at least 2 / (resamples + 1).

    Source: Rao and Wu, "Resampling inference with complex survey data", 1988 (n - 1 draws); Owen, "The pigeonhole
    bootstrap", 2007 (crossed factors); Satterthwaite, 1946 (degrees of freedom).

    Raises: ValueError when clips or seeds do not match, or a clip has no subject.
    """
    sums, counts = _sums_per_subject(values_a, values_b, subject_of)
    num_seeds, num_subjects = sums.shape
    mean = float(sums.sum() / (num_seeds * counts.sum()))
    if num_subjects == 1:
        return Interval(mean, -np.inf, np.inf, num_subjects, num_seeds, p=1.0)
    subjects, state = _drawn_subjects(num_subjects, resamples, seed)
    generator = np.random.default_rng(seed)
    generator.bit_generator.state = state
    draws = (subjects @ sums.T) / (subjects @ counts)[:, None]
    freedom = _degrees_of_freedom(
        float(draws.mean(axis=1).var()), num_subjects, _variance_of_mean(sums.sum(axis=1) / counts.sum()), num_seeds
    )
    if num_seeds > 1:
        seeds = generator.multinomial(num_seeds - 1, np.full(num_seeds, 1 / num_seeds), size=resamples)
        draws = (draws * seeds).sum(axis=1, keepdims=True) / (num_seeds - 1)
    # A normal number over an independent sqrt(chi^2 / freedom) is Student's t.
    spread = np.sqrt(freedom / generator.chisquare(freedom, size=resamples))
    stretched = mean + (draws[:, 0] - mean) * spread
    low, high = np.quantile(stretched, [(1 - level) / 2, (1 + level) / 2])
    return Interval(mean, float(low), float(high), num_subjects, num_seeds, _p_value(stretched))


@lru_cache(maxsize=4)
def _drawn_subjects(num_subjects: int, resamples: int, seed: int) -> tuple[np.ndarray, Mapping[str, Any]]:
    """How often each subject is drawn (resamples, subjects), and the generator's state then. It takes nearly all of the time of a
    difference, and a report has hundreds for the same subjects.
    """
    generator = np.random.default_rng(seed)
    drawn = generator.multinomial(num_subjects - 1, np.full(num_subjects, 1 / num_subjects), size=resamples)
    return drawn, generator.bit_generator.state


def jackknife_difference(
    values_a: Sequence[float],
    without_a: Sequence[Sequence[float]],
    values_b: Sequence[float],
    without_b: Sequence[Sequence[float]],
    *,
    num_subjects: int,
    level: float = 0.95,
) -> Interval:
    """Mean over seeds of ``a - b`` for values that clips do not have, such as distances between sets.

    values: of every seed. without: for every seed, the value with each of J groups of subjects left out, the same groups
    in the same order on both sides. An arm without seeds gives one of each, which stands against every seed.

    The variance over subjects is (J - 1) / J times the sum of squares of the J differences about their mean; on average it
    is no smaller than the true one (Efron and Stein, "The jackknife estimate of variance", 1981). That of the seeds is
    added; the interval is Student's. Raises: ValueError when seeds or groups do not match.
    """
    a, b = np.asarray(values_a, dtype=float), np.asarray(values_b, dtype=float)
    left_a, left_b = (np.atleast_2d(np.asarray(x, dtype=float)) for x in (without_a, without_b))
    if (len(left_a), len(left_b)) != (len(a), len(b)) or left_a.shape[1] != left_b.shape[1]:
        raise ValueError(f"groups do not pair: {left_a.shape} against {left_b.shape}, of {len(a)} and {len(b)} seeds")
    if len(a) != len(b) and min(len(a), len(b)) != 1:
        raise ValueError(f"seeds do not pair: {len(a)} against {len(b)}")
    differences, left_out = a - b, (left_a - left_b).mean(axis=0)
    mean, num_seeds, num_groups = float(differences.mean()), len(differences), len(left_out)
    if num_groups < 2:
        return Interval(mean, -np.inf, np.inf, num_subjects, num_seeds, p=1.0)
    over_subjects = float((num_groups - 1) * left_out.var())
    over_seeds = _variance_of_mean(differences)
    freedom = _degrees_of_freedom(over_subjects, num_groups, over_seeds, num_seeds)
    error = (over_subjects + over_seeds) ** 0.5
    reach = float(stdtrit(freedom, (1 + level) / 2)) * error
    p = 2 * float(stdtr(freedom, -abs(mean) / error)) if error > 0 else float(mean == 0)
    return Interval(mean, mean - reach, mean + reach, num_subjects, num_seeds, p)


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """Name -> p-value corrected for how many there are: below x for a true null with probability at most x over them all.

    Source: Holm, "A simple sequentially rejective multiple test procedure", 1979; it asks nothing of how they depend.
    """
    corrected, largest = {}, 0.0
    for rank, name in enumerate(sorted(p_values, key=lambda name: p_values[name])):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[name]))
        corrected[name] = largest
    return {name: corrected[name] for name in p_values}


def visible_difference(difference: Interval, comparisons: int, *, level: float = 0.95) -> float:
    """About how far from 0 a mean of this spread has to be to be told from 0 in a family of so many comparisons.

    The interval's half width, of the level that Holm's method asks of the smallest p-value; Student's t over subjects.
    """
    if difference.num_subjects < 2:
        return np.inf
    freedom = difference.num_subjects - 1
    asked, own = stdtrit(freedom, [1 - (1 - level) / (2 * count) for count in (max(comparisons, 1), 1)])
    return float((difference.high - difference.low) / 2 * asked / own)


def wins(
    values_a: SeedValues, values_b: SeedValues, subject_of: Mapping[str, str], *, higher_is_better: bool
) -> tuple[int, int]:
    """Number of subjects on which ``a`` beats ``b`` in the mean over seeds, and number of subjects; a tie is no win."""
    sums, _ = _sums_per_subject(values_a, values_b, subject_of)
    difference = sums.sum(axis=0) if higher_is_better else -sums.sum(axis=0)
    return int((difference > 0).sum()), len(difference)


def _sums_per_subject(
    values_a: SeedValues, values_b: SeedValues, subject_of: Mapping[str, str]
) -> tuple[np.ndarray, np.ndarray]:
    """Sum of the clip differences per seed and subject, (S, N), and number of clips per subject, (N,).

    Raises: ValueError when clips or seeds do not match, or a clip has no subject.
    """
    seeds_a, seeds_b = _as_seeds(values_a), _as_seeds(values_b)
    num_seeds = max(len(seeds_a), len(seeds_b))
    for values, seeds in ((values_a, seeds_a), (values_b, seeds_b)):
        if len(seeds) != num_seeds and not isinstance(values, Mapping):
            raise ValueError(f"seeds do not pair: {len(seeds_a)} against {len(seeds_b)}")
    clips = sorted(set().union(*seeds_a, *seeds_b))
    for values in (*seeds_a, *seeds_b):
        missing = [clip for clip in clips if clip not in values]
        if missing:
            raise ValueError(f"clips do not pair: {len(missing)} of {len(clips)} are missing, first '{missing[0]}'")
    if not clips:
        raise ValueError("no clips to compare")
    unknown = [clip for clip in clips if clip not in subject_of]
    if unknown:
        raise ValueError(f"clip '{unknown[0]}' has no subject")
    a, b = (np.array([[values[c] for c in clips] for values in seeds], float) for seeds in (seeds_a, seeds_b))
    names, index = np.unique([subject_of[clip] for clip in clips], return_inverse=True)
    member = index[:, None] == np.arange(len(names))
    return np.broadcast_to(a - b, (num_seeds, len(clips))) @ member, member.sum(axis=0)


def _as_seeds(values: SeedValues) -> Sequence[ClipValues]:
    return [values] if isinstance(values, Mapping) else values


def _variance_of_mean(values: np.ndarray) -> float:
    """Variance of the mean of independent values; 0 for one, which has no spread to see."""
    return float(values.var(ddof=1) / len(values)) if len(values) > 1 else 0.0


def _degrees_of_freedom(over_subjects: float, num_subjects: int, over_seeds: float, num_seeds: int) -> float:
    """How well the sum of the two variances is known. Source: Satterthwaite, 1946."""
    total = over_subjects + over_seeds
    if total == 0:
        return float(num_subjects - 1)
    shares = (over_subjects / total) ** 2 / (num_subjects - 1), (over_seeds / total) ** 2 / max(num_seeds - 1, 1)
    return 1 / sum(shares)


def _p_value(draws: np.ndarray) -> float:
    """One minus the smallest level at which the interval between two quantiles of the draws has 0 on its border."""
    ordered = np.sort(draws)
    tail = min(_share_up_to_zero(ordered), _share_up_to_zero(-ordered[::-1]))
    return min(1.0, 2 * max(tail, 1 / (len(draws) + 1)))


def _share_up_to_zero(ordered: np.ndarray) -> float:
    """The largest q in [0, 1] whose quantile, as numpy interpolates it, is not above 0; 0 where there is none."""
    count, last = int((ordered <= 0).sum()), len(ordered) - 1
    if count in (0, len(ordered)):
        return float(count > 0)
    below, above = ordered[count - 1 : count + 1]
    return float((count - 1 - below / (above - below)) / last)
