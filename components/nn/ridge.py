"""Ridge regression, of which strengths are told by people that it was not fitted to."""

from collections.abc import Sequence

import numpy as np

# Strengths that are tried, relative to the mean of the squares that a direction of the data has.
STRENGTHS = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0)


def fitted(x: np.ndarray, y: np.ndarray, strengths: Sequence[float]) -> list[np.ndarray]:
    """Weights (D, K) of the ridge regression of y (N, K) on x (N, D), both with a mean of 0, for each strength.

    By the eigenvalues of the smaller of x'x and xx', once for all strengths.
    """
    wide = x.shape[1] > x.shape[0]
    values, vectors = np.linalg.eigh(x @ x.T if wide else x.T @ x)
    values = np.clip(values, 0, None)
    unit = max(values.mean(), 1e-12)
    turned = vectors.T @ (y if wide else x.T @ y)
    solved = [vectors @ (turned / (values + strength * unit)[:, None]) for strength in strengths]
    return [x.T @ weights for weights in solved] if wide else solved


class Standard:
    """Numbers (N, D) less their mean and over their deviation, of those that it was made of; a constant stays 0."""

    def __init__(self, x: np.ndarray) -> None:
        self.mean, deviation = x.mean(axis=0), x.std(axis=0)
        self.scale = np.where(deviation > 1e-8 * (1 + np.abs(self.mean)), deviation, np.inf)

    def __call__(self, x: np.ndarray) -> np.ndarray:
        return (x - self.mean) / self.scale


def held_out(x: np.ndarray, y: np.ndarray, fold: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For every row what a regression says that was fitted to the other folds, (N, K), and those folds' mean y, (N, K).

    fold: (N,) from 0. Which strength is taken, the next fold says, by what a regression without both says of it.
    """
    said, means = np.zeros_like(y), np.zeros_like(y)
    count = int(fold.max()) + 1
    for number in range(count):
        judge = (number + 1) % count
        train, test = fold != number, fold == number
        inner = train & (fold != judge)
        errors = [np.square(guess - y[fold == judge]).mean() for guess in _said(x, y, inner, fold == judge, STRENGTHS)]
        (said[test],) = _said(x, y, train, test, [STRENGTHS[int(np.argmin(errors))]])
        means[test] = y[train].mean(axis=0)
    return said, means


def _said(
    x: np.ndarray, y: np.ndarray, train: np.ndarray, test: np.ndarray, strengths: Sequence[float]
) -> list[np.ndarray]:
    """What the regression fitted to rows ``train`` says of rows ``test``, for each strength."""
    standard, mean = Standard(x[train]), y[train].mean(axis=0)
    weights = fitted(standard(x[train]), y[train] - mean, strengths)
    return [standard(x[test]) @ each + mean for each in weights]
