"""Structural similarity."""

from collections.abc import Callable, Sequence
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor
from torch.nn.functional import pad

from hvg.parts.frame_metric import CellMetricConfig, FrameMetric
from hvg.values.scored_clip import NotAvailable

from ..nn.resizing import grey_8bit

# Constants of the paper for values in 0..255.
LUMINANCE = (0.01 * 255) ** 2
CONTRAST = (0.03 * 255) ** 2


class SSIM(FrameMetric):
    """SSIM of every frame, averaged over its pixels and channels, in float64.

    Source: Wang et al., "Image quality assessment: from error visibility to structural similarity", 2004, equation 13.
    gaussian_11 on RGB is what torchmetrics computes, uniform_7 on grey is scikit-image's default, which the DisCo script
    of human-video papers takes. They give different numbers.
    """

    definition = "ssim/{config.window}/{config.colour}/mean-over-{config.average}/v2"

    class Config(CellMetricConfig):
        """Settings of the similarity."""

        window: Literal["gaussian_11", "uniform_7"] = Field(
            "gaussian_11",
            description="gaussian_11: 11 x 11 pixels, sigma 1.5, frames mirrored at their edges. uniform_7: 7 x 7 pixels, "
            "sample covariance, windows inside the frame only.",
        )
        colour: Literal["rgb", "grey"] = Field(
            "rgb",
            description="rgb: every channel by itself. grey: frames are first turned to 8-bit grey as OpenCV does.",
        )

    def score(self, prediction: Tensor, truth: Tensor, alpha: Tensor) -> Tensor:
        """(N,) in [-1, 1]. Raises: NotAvailable when frames are smaller than the window."""
        if min(prediction.shape[-2:]) < 7:
            size = f"{prediction.shape[-1]} x {prediction.shape[-2]}"
            raise NotAvailable(f"SSIM looks at windows of 7 or 11 pixels; the frames are {size}")
        if self.config.colour == "grey":
            prediction, truth = grey_8bit(prediction)[:, None], grey_8bit(truth)[:, None]
        blur, sample = (gaussian_11, 1.0) if self.config.window == "gaussian_11" else (uniform_7, 49 / 48)
        # A frame at a time stays in the processor's cache.
        pairs = zip(prediction.double(), truth.double(), strict=True)
        return torch.stack([similarity(x, y, blur, sample) for x, y in pairs])


def similarity(x: Tensor, y: Tensor, blur: Callable[[Tensor], Tensor], sample: float) -> Tensor:
    """Mean similarity of images (C, H, W) in 0..255. sample: factor that makes covariances those of a sample."""
    # A channel at a time takes a third of the memory.
    return torch.cat([_of_pixels(x[c : c + 1], y[c : c + 1], blur, sample) for c in range(len(x))]).mean()


def _of_pixels(x: Tensor, y: Tensor, blur: Callable[[Tensor], Tensor], sample: float) -> Tensor:
    mean_x, mean_y = blur(x), blur(y)
    product, squares = mean_x * mean_y, mean_x.square() + mean_y.square()
    covariance = sample * (blur(x * y) - product)
    variances = sample * (blur(x.square() + y.square()) - squares)
    top = (2 * product + LUMINANCE) * (2 * covariance + CONTRAST)
    return top / ((squares + LUMINANCE) * (variances + CONTRAST))


def gaussian_11(images: Tensor) -> Tensor:
    """(C, H, W) float64 blurred by a Gaussian of sigma 1.5 cut off at 5 pixels; edges are mirrored."""
    offset = torch.arange(-5, 6, dtype=torch.float64)
    weights = torch.exp(-offset.square() / (2 * 1.5**2))
    return separable(pad(images, (5, 5, 5, 5), mode="reflect"), (weights / weights.sum()).tolist())


def uniform_7(images: Tensor) -> Tensor:
    """(C, H, W) float64 -> means over 7 x 7 pixels, (C, H - 6, W - 6)."""
    return separable(images, [1 / 7] * 7)


def separable(images: Tensor, weights: Sequence[float]) -> Tensor:
    """Images (C, H, W) filtered along rows and columns with the same weights, where these fit inside."""
    # Sums of shifted images: several times faster than a convolution, which is slow in float64.
    for dim in (-2, -1):
        size = images.shape[dim] - len(weights) + 1
        filtered = images.narrow(dim, 0, size) * weights[0]
        for k, weight in enumerate(weights[1:], start=1):
            filtered.add_(images.narrow(dim, k, size), alpha=weight)
        images = filtered
    return images
