"""Distances between sets of features, and how they are computed."""

# SciPy, and some methods of tensors, do not say what they give.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from hvg.core.bounds import Scale, Weight
from hvg.parts.part import PartConfig

# The authors of FID ask for more than this many, and recommend 10,000.
ENOUGH_FOR_FRECHET = 2048


class SetDistance(Protocol):
    """How two sets of features (N, D) and (M, D) are compared. id: part of a metric's definition."""

    @property
    def id(self) -> str:
        """Identifier with all settings of the distance, for a metric's definition."""
        ...

    def between(self, a: np.ndarray, b: np.ndarray) -> float:
        """The distance."""
        ...

    def cautions(self, count: int, width: int) -> tuple[str, ...]:
        """Cautions for the reader of a distance between ``count`` vectors of ``width`` numbers."""
        ...


class FrechetConfig(PartConfig):
    """Settings of a Frechet distance."""

    covariance: Literal["unbiased", "biased"] = Field(
        "unbiased", description="What the sum of squares is divided by: N - 1, or N as cd-fvd and StyleGAN-V do."
    )


@dataclass(frozen=True)
class Frechet:
    """The Frechet distance between Gaussians."""

    config: FrechetConfig

    @property
    def id(self) -> str:
        """Its covariance."""
        return f"frechet-{self.config.covariance}"

    def between(self, a: np.ndarray, b: np.ndarray) -> float:
        """The squared distance."""
        return frechet_distance(a, b, self.config.covariance)

    def cautions(self, count: int, width: int) -> tuple[str, ...]:
        """The value falls as N grows, whatever the quality."""
        if count <= width:
            return (
                f"N = {count} does not exceed the {width} numbers of a feature, so covariances are rank-deficient: the value "
                "depends on N and cannot be compared with one at another N",
            )
        if count < ENOUGH_FOR_FRECHET:
            return (f"N = {count} is below {ENOUGH_FOR_FRECHET}: the value can be compared only at the same N",)
        return ()


class KernelConfig(PartConfig):
    """Settings of a squared maximum mean discrepancy with the kernel (gamma x.y + coef0)^degree, over all pairs.

    The defaults are KID's. JEDi (Luo et al., "Beyond FVD", 2024) is degree 2, coef0 0, biased, scale 100.
    """

    degree: int = Field(3, ge=1, le=16, description="Degree of the polynomial.")
    gamma: Scale | None = Field(None, description="Factor of the inner product; null: 1 / (numbers of a feature).")
    coef0: Weight = Field(1.0, description="What is added to the inner product.")
    estimator: Literal["unbiased", "biased"] = Field(
        "unbiased", description="Whether the pairs of a feature with itself are left out (0 on average) or counted."
    )
    scale: Scale = Field(1.0, description="What the value is multiplied by.")


@dataclass(frozen=True)
class Kernel:
    """The squared maximum mean discrepancy."""

    config: KernelConfig

    @property
    def id(self) -> str:
        """Its kernel and estimator."""
        factor = "xy/D" if self.config.gamma is None else f"{self.config.gamma!r}xy"
        kernel = f"({factor}+{self.config.coef0!r})^{self.config.degree}"
        return f"mmd-{self.config.estimator}-{kernel}-times-{self.config.scale!r}"

    def between(self, a: np.ndarray, b: np.ndarray) -> float:
        """The scaled value."""
        kernel = self.config
        value = kernel_distance(a, b, kernel.degree, kernel.gamma, kernel.coef0, kernel.estimator)
        return kernel.scale * value

    def cautions(self, count: int, width: int) -> tuple[str, ...]:
        """A biased value falls as N grows."""
        if self.config.estimator == "biased":
            return (f"a biased estimate from N = {count} can be compared only at the same N",)
        return ()


# Rows of a kernel matrix that exist at once.
KERNEL_ROWS = 1024


def frechet_distance(a: np.ndarray, b: np.ndarray, covariance: Literal["unbiased", "biased"] = "unbiased") -> float:
    """Squared Frechet distance of the Gaussians that have the sets' means and covariances.

    |m1 - m2|^2 + tr S1 + tr S2 - 2 tr (S1 S2)^(1/2); S is divided by N - 1 or, biased, by N. Source: Dowson and Landau,
    1982; FID of Heusel et al., 2017.

    With X, Y the centred sets over sqrt(N - 1), the last trace is the sum of the singular values of X Y^T. So no matrix
    square root is taken, covariances of any rank are fine, and equal sets give 0 to rounding. Where a set has more vectors
    than dimensions, the triangular factor of X = Q R stands in for X; it has the same singular values.
    Raises: ValueError when a set has fewer than two vectors, the dimensions differ, or a value is not finite.
    """
    first, second = _checked(a, b)
    means = [x.mean(dim=0) for x in (first, second)]
    x, y = (_root(x - mean, covariance) for x, mean in zip((first, second), means, strict=True))
    traces = x.square().sum() + y.square().sum()
    overlap = torch.linalg.svdvals(x @ y.T).sum()
    return float((means[0] - means[1]).square().sum() + traces - 2 * overlap)


def _root(centred: Tensor, covariance: Literal["unbiased", "biased"]) -> Tensor:
    """X with X^T X the covariance, (min(N, D), D)."""
    count, width = centred.shape
    scaled = centred / (count - (covariance == "unbiased")) ** 0.5
    return torch.linalg.qr(scaled, mode="r").R if count > width else scaled


def kernel_distance(
    a: np.ndarray,
    b: np.ndarray,
    degree: int = 3,
    gamma: float | None = None,
    coef0: float = 1.0,
    estimator: Literal["unbiased", "biased"] = "unbiased",
) -> float:
    """Squared maximum mean discrepancy with the kernel (gamma x.y + coef0)^degree, over all pairs; gamma is 1 / D if None.

    unbiased leaves out the pairs of a vector with itself, so that it is 0 on average, and often below 0, for two samples of
    one distribution. Source: Binkowski et al., "Demystifying MMD GANs", 2018 (KID), which averages over random subsets.
    Raises: ValueError when a set has fewer than two vectors, the dimensions differ, or a value is not finite.
    """
    first, second = _checked(a, b)
    gamma = 1 / first.shape[1] if gamma is None else gamma

    def kernel(products: Tensor) -> Tensor:
        return (gamma * products + coef0).pow(degree)

    def mean(x: Tensor, y: Tensor) -> Tensor:
        return sum((kernel(rows @ y.T).sum() for rows in x.split(KERNEL_ROWS)), torch.zeros(())) / (len(x) * len(y))

    def mean_within(x: Tensor) -> Tensor:
        if estimator == "biased":
            return mean(x, x)
        count, itself = len(x), kernel(x.square().sum(dim=1)).mean()
        return (count * mean(x, x) - itself) / (count - 1)

    return float(mean_within(first) + mean_within(second) - 2 * mean(first, second))


def _checked(a: np.ndarray, b: np.ndarray) -> tuple[Tensor, Tensor]:
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[1]:
        raise ValueError(f"two sets of vectors (N, D) with the same D are compared, got {a.shape} and {b.shape}")
    if min(len(a), len(b)) < 2:
        raise ValueError(f"a set of one vector has no spread: got {len(a)} and {len(b)} vectors, two are the least")
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        raise ValueError("a vector holds a value that is not finite")
    first, second = (torch.from_numpy(np.ascontiguousarray(x, dtype=np.float64)) for x in (a, b))
    return first, second
