"""Statistics of a distance between two sets: its spread over subjects, and its value for two samples of the truth.

Both come from what a metric kept of every clip; no frame is looked at again. Subjects are drawn or left out whole: clips of
one person are not independent.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hvg.config.validation import validate
from hvg.parts import registry
from hvg.parts.feature_metric import FeatureMetric
from hvg.parts.metric import Metric
from hvg.parts.set_distance import KERNEL_ROWS, Frechet, FrechetConfig, Kernel, KernelConfig, SetDistance
from hvg.score.evaluation_record import ClipRecord, EvaluationRecord, ScoreRecord, read_measurements
from hvg.score.protocol import Measurements, failure_of

# Below these, quarters and eighths of the subjects are too few to extrapolate from.
SUBJECTS_FOR_A_FLOOR = 8
SUBJECTS_FOR_EIGHTHS = 16
# Every distance here falls no faster than this power of the number of subjects once there are many.
STEEPEST = 1.0
# Random halvings of the subjects whose distances are averaged; of many vectors few, each is dear and they hardly differ.
HALVINGS = 8
MANY_VECTORS = 2048
HALVINGS_OF_MANY = 2
# Groups of subjects that are left out in turn where every one of them costs a whole distance.
GROUPS = 20


@dataclass(frozen=True)
class SubjectFeatures:
    """The features that one metric kept, (N, D), and whose they are: index of the subject, (N,), 0 to num_subjects - 1."""

    prediction: np.ndarray
    truth: np.ndarray
    subject_of_prediction: np.ndarray
    subject_of_truth: np.ndarray
    num_subjects: int


def subject_features(kept: Mapping[str, object], subject_of: Mapping[str, str]) -> SubjectFeatures:
    """Gathers clip id -> measurement; subjects in the order of their names. Clips of which nothing was kept are left out."""
    of_clips = {clip_id: arrays for clip_id, arrays in kept.items() if arrays and isinstance(arrays, Mapping)}
    names = sorted({subject_of[clip_id] for clip_id in of_clips})
    index = {name: i for i, name in enumerate(names)}

    def gather(name: str) -> tuple[np.ndarray, np.ndarray]:
        arrays = {clip_id: measurement[name] for clip_id, measurement in of_clips.items()}
        owners = [np.full(len(array), index[subject_of[clip_id]]) for clip_id, array in arrays.items()]
        return np.concatenate(list(arrays.values())).astype(np.float64), np.concatenate(owners)

    (prediction, of_prediction), (truth, of_truth) = gather("prediction"), gather("truth")
    return SubjectFeatures(prediction, truth, of_prediction, of_truth, len(names))


def distance_of(config: object) -> SetDistance | None:
    """The distance that a metric with these settings takes, without its network; None where the settings do not say."""
    if isinstance(config, FrechetConfig):
        return Frechet(config)
    return Kernel(config) if isinstance(config, KernelConfig) else None


def distances_of(protocol: Mapping[str, Any], names: Collection[str]) -> tuple[dict[str, SetDistance], dict[str, str]]:
    """Metric -> the distance between sets that it takes, of those named, as the settings of a protocol say; and, of the others,
    why they do not say.
    """
    found: dict[str, SetDistance] = {}
    unknown: dict[str, str] = {}
    for name in names:
        plain = protocol["metrics"][name]
        settings = {key: value for key, value in plain.items() if key != "name"}
        cls = registry.load("metric", plain["name"])
        config, problems = validate(cls.Config, settings, name, cls.__name__)
        distance = None if config is None else distance_of(config)
        if distance is None:
            unknown[name] = str(problems[0]) if problems else "its settings do not say how sets are compared"
        else:
            found[name] = distance
    return found, unknown


def left_out(distance: SetDistance, features: SubjectFeatures) -> list[float]:
    """The distance with every subject left out in turn, prediction and truth, for ``jackknife_difference``.

    A kernel distance is exact, from one pass over all pairs. A Frechet distance is taken to first order, from one singular
    value decomposition: where there are fewer vectors than dimensions it is as wide as the exact one (decision 22).
    Any other distance is computed ``GROUPS`` times, without one group of subjects after the other.
    """
    if features.num_subjects < 2:
        return []
    if isinstance(distance, Frechet):
        return _frechet_left_out(distance, features)
    if isinstance(distance, Kernel):
        return _kernel_left_out(distance, features)
    groups = min(features.num_subjects, GROUPS)
    return [
        distance.between(
            features.prediction[features.subject_of_prediction % groups != group],
            features.truth[features.subject_of_truth % groups != group],
        )
        for group in range(groups)
    ]


def _frechet_left_out(distance: Frechet, features: SubjectFeatures) -> list[float]:
    """The distance with every subject left out, to first order in the weight of its vectors (infinitesimal jackknife).

    With weights on the vectors, X, Y the centred sets over sqrt(N - 1) and X Y^T = U S V^T, the derivative of the nuclear
    norm tr S by the weight of row i of X is half of row i of U S U^T, at i; of Y, of V S V^T. Leaving out n of N vectors moves
    the distribution by n / (N - n) away from theirs, so that their summed influence counts N / (N - n) times.
    """
    unbiased = distance.config.covariance == "unbiased"
    sets = [torch.from_numpy(x) for x in (features.prediction, features.truth)]
    means = [x.mean(dim=0) for x in sets]
    centred = [x - mean for x, mean in zip(sets, means, strict=True)]
    sizes = [len(x) - unbiased for x in sets]
    (q1, r1), (q2, r2) = (_thin(x / size**0.5) for x, size in zip(centred, sizes, strict=True))
    u, s, vh = torch.linalg.svd(r1 @ r2.T, full_matrices=False)
    overlaps = [(_rows(q, basis).square() * s).sum(dim=1) for q, basis in ((q1, u), (q2, vh.T))]
    apart = means[0] - means[1]
    total = (
        apart.square().sum() + sum((x.square().sum() / n for x, n in zip(centred, sizes, strict=True)))
    ) - 2 * s.sum()
    values = np.full(features.num_subjects, float(total))
    owners = (features.subject_of_prediction, features.subject_of_truth)
    for x, size, overlap, owner, sign in zip(centred, sizes, overlaps, owners, (1, -1), strict=True):
        squares = x.square().sum(dim=1)
        influence = sign * 2 * (x @ apart) / len(x) + (squares - squares.sum() / size) / size - overlap + s.sum() / size
        own = np.bincount(owner, minlength=features.num_subjects)
        summed = np.bincount(owner, influence.numpy(), minlength=features.num_subjects)
        values -= summed * len(x) / (len(x) - own)
    return values.tolist()


def _thin(x: Tensor) -> tuple[Tensor | None, Tensor]:
    """Q, R with x = Q R and R no larger than D x D; Q is None for the identity."""
    if x.shape[0] <= x.shape[1]:
        return None, x
    q, r = torch.linalg.qr(x)
    return q, r


def _rows(q: Tensor | None, basis: Tensor) -> Tensor:
    return basis if q is None else q @ basis


def _kernel_left_out(distance: Kernel, features: SubjectFeatures) -> list[float]:
    """From sums of the kernel over the pairs of two subjects."""
    config = distance.config
    x, y = features.prediction, features.truth
    gamma = 1 / x.shape[1] if config.gamma is None else config.gamma
    first, second = (
        np.eye(features.num_subjects)[owner] for owner in (features.subject_of_prediction, features.subject_of_truth)
    )

    def without_each(a: np.ndarray, b: np.ndarray, of_a: np.ndarray, of_b: np.ndarray) -> np.ndarray:
        """Sum of the kernel over all pairs but those of the subject, for every subject."""
        sums = np.zeros((of_a.shape[1], of_b.shape[1]))
        for start in range(0, len(a), KERNEL_ROWS):
            rows = slice(start, start + KERNEL_ROWS)
            kernel = (gamma * (a[rows] @ b.T) + config.coef0) ** config.degree
            sums += of_a[rows].T @ (kernel @ of_b)
        return sums.sum() - sums.sum(axis=0) - sums.sum(axis=1) + sums.diagonal()

    def mean_within(a: np.ndarray, of_a: np.ndarray, counts: np.ndarray) -> np.ndarray:
        pairs = without_each(a, a, of_a, of_a)
        if config.estimator == "biased":
            return pairs / counts**2
        itself = ((gamma * (a**2).sum(axis=1) + config.coef0) ** config.degree) @ (1 - of_a)
        return (pairs - itself) / (counts * (counts - 1))

    m, n = (len(owner) - owner.sum(axis=0) for owner in (first, second))
    values = mean_within(x, first, m) + mean_within(y, second, n) - 2 * without_each(x, y, first, second) / (m * n)
    return (config.scale * values).tolist()


def same_distribution_floor(distance: SetDistance, truth: np.ndarray, subject_of: np.ndarray) -> float | None:
    """Mean score of two samples of the truth, each of as many subjects as there are; None for too few.

    There is one sample only. So its subjects are halved at random, and the halves again, and again: mean distances between
    halves, quarters and eighths, over several halvings, say by which power of the number of subjects the distance falls,
    and how that power changes; both are continued to all subjects. Below ``SUBJECTS_FOR_EIGHTHS`` the power is taken as
    constant. An unbiased kernel distance is 0 by construction.

    truth: (N, D). subject_of: index of the subject, (N,).
    """
    if isinstance(distance, Kernel) and distance.config.estimator == "unbiased":
        return 0.0
    subjects = np.unique(subject_of)
    if len(subjects) < SUBJECTS_FOR_A_FLOOR:
        return None
    finest = 8 if len(subjects) >= SUBJECTS_FOR_EIGHTHS else 4
    generator = np.random.default_rng(0)
    levels = [2**k for k in range(1, finest.bit_length())]
    found: dict[int, list[float]] = {parts: [] for parts in levels}
    for _ in range(HALVINGS if len(truth) <= MANY_VECTORS else HALVINGS_OF_MANY):
        order = generator.permutation(subjects)
        for parts in levels:
            pieces = [truth[np.isin(subject_of, order[i::parts])] for i in range(parts)]
            if min(map(len, pieces)) < 2:
                return None
            found[parts] += [distance.between(pieces[i], pieces[i + 1]) for i in range(0, parts, 2)]
    means = [float(np.mean(found[parts])) for parts in levels]
    if min(means) <= 0:
        return None
    # Halves, quarters, eighths: by which power of 2 the distance fell from one to the one before.
    powers = np.diff(np.log2(means))
    power = powers[0] if len(powers) == 1 else min(2 * powers[0] - powers[1], max(powers[0], STEEPEST))
    return means[0] * 2 ** -float(power)


def set_distances(metrics: Mapping[str, Metric]) -> dict[str, SetDistance]:
    """Label -> distance, of the metrics that are distances between sets."""
    return {label: metric.distance for label, metric in metrics.items() if isinstance(metric, FeatureMetric)}


def add_floors(
    values: Mapping[str, ScoreRecord],
    metrics: Mapping[str, Metric],
    measurements: Measurements,
    clips: Sequence[ClipRecord],
) -> None:
    """Adds its floor to every distance between sets that has a value and no floor."""
    for label, distance in set_distances(metrics).items():
        score = values[label]
        if score["value"] is not None and score["floor"] is None:
            kept = {clip_id: of_clip[label] for clip_id, of_clip in measurements.items()}
            features = subject_features(kept, _subject_of(clips))
            try:
                score["floor"] = same_distribution_floor(distance, features.truth, features.subject_of_truth)
            except Exception as error:  # The distance may be anybody's; its value stays.
                failure = failure_of(error)
                score["notes"].append(f"its floor {failure.reason}")
                score["traceback"] = list(failure.traceback)


def left_out_of_run(
    folder: Path, record: EvaluationRecord, distances: Mapping[str, SetDistance]
) -> dict[str, list[float]]:
    """Label -> ``left_out``, for every one of the distances that an evaluation on disk has a value of.

    Raises: HvgError when its measurements are missing or damaged.
    """
    return {
        label: left_out(
            distance, subject_features(read_measurements(folder, record, label), _subject_of(record["clips"]))
        )
        for label, distance in distances.items()
        if label in record["values"] and record["values"][label]["value"] is not None
    }


def _subject_of(clips: Sequence[ClipRecord]) -> dict[str, str]:
    return {clip["clip_id"]: clip["subject"] for clip in clips}
