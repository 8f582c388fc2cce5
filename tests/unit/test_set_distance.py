"""Distances between sets of vectors against closed forms, and what has to hold for any two sets."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hvg.parts.set_distance import KERNEL_ROWS, frechet_distance, kernel_distance


def sets(seed: int, counts=(30, 20), width: int = 8) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    mix = random.normal(size=(width, width))
    return random.normal(size=(counts[0], width)) @ mix, random.normal(size=(counts[1], width)) + 0.5


shapes = st.tuples(st.integers(2, 40), st.integers(2, 40), st.integers(1, 24), st.integers(0, 10_000))


def diagonal(variances, mean) -> np.ndarray:
    """Vectors, two for each axis, whose mean and unbiased covariance are exactly these."""
    corners = np.concatenate([np.diag(np.sqrt(variances)), -np.diag(np.sqrt(variances))])
    return corners * np.sqrt((len(corners) - 1) / 2) + mean


def test_frechet_of_known_gaussians():
    a, b = diagonal([1.0, 4.0, 9.0], [0.0, 1.0, 2.0]), diagonal([4.0, 1.0, 0.25], [1.0, 1.0, 0.0])
    assert np.cov(a, rowvar=False) == pytest.approx(np.diag([1.0, 4.0, 9.0]))
    # |m1 - m2|^2 + sum (s1 - s2)^2
    assert frechet_distance(a, b) == pytest.approx(5 + (1 - 2) ** 2 + (2 - 1) ** 2 + (3 - 0.5) ** 2, rel=1e-13)


def test_frechet_of_one_dimension():
    random = np.random.default_rng(0)
    a, b = random.normal(2, 3, size=(50, 1)), random.normal(size=(40, 1))
    expected = (a.mean() - b.mean()) ** 2 + (a.std(ddof=1) - b.std(ddof=1)) ** 2
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-13)
    expected = (a.mean() - b.mean()) ** 2 + (a.std() - b.std()) ** 2
    assert frechet_distance(a, b, "biased") == pytest.approx(expected, rel=1e-13)


def test_frechet_takes_the_root_of_the_covariances():
    a, b = sets(0, (60, 50))
    product = torch.from_numpy(np.cov(a, rowvar=False) @ np.cov(b, rowvar=False))
    root = torch.linalg.eigvals(product).real.sqrt().sum()
    means = ((a.mean(axis=0) - b.mean(axis=0)) ** 2).sum()
    expected = means + np.cov(a, rowvar=False).trace() + np.cov(b, rowvar=False).trace() - 2 * float(root)
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-11)


@settings(deadline=None)
@given(shapes)
def test_frechet_is_symmetric_and_not_negative(shape):
    first, second, width, seed = shape
    a, b = sets(seed, (first, second), width)
    there, back = frechet_distance(a, b), frechet_distance(b, a)
    assert there == pytest.approx(back, rel=1e-9, abs=1e-10)
    assert there > -1e-10


@settings(deadline=None)
@given(shapes)
def test_frechet_of_a_set_and_itself_is_nothing(shape):
    first, _, width, seed = shape
    a, _ = sets(seed, (first, 2), width)
    shuffled = a[np.random.default_rng(seed).permutation(len(a))]
    # A constant column, too, as networks' features have them.
    a, shuffled = (np.c_[x, np.ones(len(x))] for x in (a, shuffled))
    assert abs(frechet_distance(a, shuffled)) <= 1e-12 * max(a.var(axis=0).sum(), 1e-3) * len(a)


@settings(deadline=None)
@given(shapes)
def test_frechet_of_a_shifted_set_is_the_square_of_the_shift(shape):
    first, _, width, seed = shape
    a, _ = sets(seed, (first, 2), width)
    shift = np.linspace(1, 2, width)
    assert frechet_distance(a, a + shift) == pytest.approx((shift**2).sum(), rel=1e-9)


@pytest.mark.parametrize("counts", [(6, 9), (30, 9), (9, 30), (30, 40)])
def test_frechet_does_not_depend_on_which_side_is_factored(counts):
    """More dimensions that hold nothing change nothing, though then no set has more vectors than dimensions."""
    a, b = sets(1, counts, width=12)
    wide = (np.pad(x, ((0, 0), (0, 50))) for x in (a, b))
    assert frechet_distance(*wide) == pytest.approx(frechet_distance(a, b), rel=1e-12)


def plain_kernel_distance(a, b, degree, gamma, coef0, biased):
    def mean(x, y):
        values = (gamma * x @ y.T + coef0) ** degree
        return values.mean() if biased or x is not y else values[~np.eye(len(x), dtype=bool)].mean()

    return mean(a, a) + mean(b, b) - 2 * mean(a, b)


@pytest.mark.parametrize(("degree", "gamma", "coef0"), [(3, None, 1.0), (2, None, 0.0), (2, 0.3, 2.0), (1, 1.0, 0.0)])
@pytest.mark.parametrize("estimator", ["unbiased", "biased"])
def test_kernel_agrees_with_its_formula(degree, gamma, coef0, estimator):
    a, b = sets(2)
    expected = plain_kernel_distance(a, b, degree, gamma or 1 / 8, coef0, estimator == "biased")
    assert kernel_distance(a, b, degree, gamma, coef0, estimator) == pytest.approx(expected, rel=1e-11)


def test_kernel_is_what_kid_averages():
    from torchmetrics.image.kid import poly_mmd

    a, b = sets(3, (25, 25))
    assert kernel_distance(a, b) == pytest.approx(float(poly_mmd(torch.tensor(a), torch.tensor(b))), rel=1e-12)


def test_the_biased_linear_kernel_is_the_distance_of_the_means():
    a, b = sets(4)
    expected = ((a.mean(axis=0) - b.mean(axis=0)) ** 2).sum()
    assert kernel_distance(a, b, 1, 1.0, 0.0, "biased") == pytest.approx(expected, rel=1e-11)


def test_kernel_sums_blocks_of_rows():
    a, b = sets(5, (KERNEL_ROWS + 7, 2 * KERNEL_ROWS), width=3)
    expected = plain_kernel_distance(a, b, 3, 1 / 3, 1.0, biased=False)
    assert kernel_distance(a, b) == pytest.approx(expected, rel=1e-9)


def test_the_unbiased_kernel_is_nothing_on_average():
    random = np.random.default_rng(6)
    values = [kernel_distance(*random.normal(size=(2, 10, 4))) for _ in range(400)]
    assert min(values) < 0 < max(values)
    assert abs(np.mean(values)) < 3 * np.std(values) / 20


@pytest.mark.parametrize("distance", [frechet_distance, kernel_distance])
def test_what_is_no_pair_of_sets_is_refused(distance):
    with pytest.raises(ValueError, match="two are the least"):
        distance(np.zeros((1, 3)), np.zeros((5, 3)))
    with pytest.raises(ValueError, match="same D"):
        distance(np.zeros((4, 3)), np.zeros((5, 2)))
    with pytest.raises(ValueError, match="not finite"):
        distance(np.zeros((4, 3)), np.full((5, 3), np.nan))
