"""Paired differences between two arms, with intervals by bootstrap over subjects and seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

# Clip id -> value of one trained model.
ClipValues = Mapping[str, float]
# One such mapping per seed, or a single one for what has no seed (a trivial baseline).
SeedValues = ClipValues | Sequence[ClipValues]


@dataclass(frozen=True)
class Interval:
    """A mean with its interval; both bounds are infinite when one subject is all there is."""

    mean: float
    low: float
    high: float
    num_subjects: int
    num_seeds: int

    @property
    def excludes_zero(self) -> bool:
        """Whether the sign of the mean is settled at the interval's level."""
        return self.low > 0 or self.high < 0


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
    drawn, and likewise of seeds, which removes the bootstrap's bias towards narrow intervals at small n. One seed has
    no spread: the interval then speaks of that one training run only.

    Source: Rao and Wu, "Resampling inference with complex survey data", 1988 (n - 1 draws); Owen, "The pigeonhole
    bootstrap", 2007 (crossed factors).

    Raises: ValueError when clips or seeds do not match, or a clip has no subject.
    """
    sums, counts = _sums_per_subject(values_a, values_b, subject_of)
    num_seeds, num_subjects = sums.shape
    mean = float(sums.sum() / (num_seeds * counts.sum()))
    if num_subjects == 1:
        return Interval(mean, -np.inf, np.inf, num_subjects, num_seeds)
    generator = np.random.default_rng(seed)
    draws = generator.multinomial(num_subjects - 1, np.full(num_subjects, 1 / num_subjects), size=resamples)
    means = (draws @ sums.T) / (draws @ counts)[:, None]
    if num_seeds > 1:
        seed_draws = generator.multinomial(num_seeds - 1, np.full(num_seeds, 1 / num_seeds), size=resamples)
        means = (means * seed_draws).sum(axis=1, keepdims=True) / (num_seeds - 1)
    low, high = np.quantile(means[:, 0], [(1 - level) / 2, (1 + level) / 2])
    return Interval(mean, float(low), float(high), num_subjects, num_seeds)


def wins(
    values_a: SeedValues, values_b: SeedValues, subject_of: Mapping[str, str], *, higher_is_better: bool
) -> tuple[int, int]:
    """Number of subjects on which ``a`` beats ``b`` in the mean over seeds, and number of subjects; a tie is no win."""
    sums, _ = _sums_per_subject(values_a, values_b, subject_of)
    difference = sums.sum(axis=0) if higher_is_better else -sums.sum(axis=0)
    return int((difference > 0).sum()), len(difference)


def subject_means(values: ClipValues, subject_of: Mapping[str, str]) -> dict[str, float]:
    """Subject -> mean over that person's clips, sorted by name. Raises: ValueError when a clip has no subject."""
    clips = sorted(values)
    matrix, counts, names = _group([[values[clip] for clip in clips]], clips, subject_of)
    return dict(zip(names, (matrix[0] / counts).tolist(), strict=True))


def _sums_per_subject(
    values_a: SeedValues, values_b: SeedValues, subject_of: Mapping[str, str]
) -> tuple[np.ndarray, np.ndarray]:
    """Sum of the clip differences per seed and subject, (S, N), and number of clips per subject, (N,)."""
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
    a, b = (np.array([[values[clip] for clip in clips] for values in seeds]) for seeds in (seeds_a, seeds_b))
    matrix, counts, _ = _group(np.broadcast_to(a - b, (num_seeds, len(clips))), clips, subject_of)
    return matrix, counts


def _as_seeds(values: SeedValues) -> Sequence[ClipValues]:
    return [values] if isinstance(values, Mapping) else values


def _group(
    values: np.ndarray | Sequence[Sequence[float]], clips: Sequence[str], subject_of: Mapping[str, str]
) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Sums of values (S, clips) over the clips of every subject, (S, N); clips per subject (N,); the N names."""
    unknown = [clip for clip in clips if clip not in subject_of]
    if unknown:
        raise ValueError(f"clip '{unknown[0]}' has no subject")
    names, index = np.unique([subject_of[clip] for clip in clips], return_inverse=True)
    member = index[:, None] == np.arange(len(names))
    return np.asarray(values, dtype=float) @ member, member.sum(axis=0), names.tolist()
