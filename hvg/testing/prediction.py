"""Checks of what every prediction promises."""

from functools import partial
from itertools import product
from typing import Any

import torch
from torch import Tensor

from hvg.core.random_keys import generator
from hvg.parts.model import Prediction
from hvg.testing.building import make, require
from hvg.testing.outputs import check_batch_independence, check_device

# Of a picture, where none is shown.
PIXELS = 64**2


def check_prediction(cls: type[Prediction], config: Any) -> None:
    """Runs every check below. Raises: AssertionError that says which promise is broken."""
    prediction = make(cls, config)
    check_schedule(prediction)
    check_training_levels(prediction)
    check_estimate(prediction)
    check_batch_independence(partial(_outputs, prediction), _inputs(prediction))
    check_device(partial(_outputs, prediction), _inputs(prediction))


def check_schedule(prediction: Prediction) -> None:
    """The levels of S steps are S + 1, fall, and end in 0, at any size; at all others the network can be told the level."""
    for num_steps, pixels in product((1, 2, 10, 1000), (PIXELS, 2048**2)):
        sigmas = prediction.sigma_schedule(num_steps, pixels=pixels)
        require(tuple(sigmas.shape) == (num_steps + 1,), f"{num_steps} steps have {tuple(sigmas.shape)} levels")
        require(bool((sigmas.diff() < 0).all()) and float(sigmas[-1]) == 0, f"the levels do not fall to 0: {sigmas}")
        for name in ("input_scale", "level", "weight"):
            told = getattr(prediction, name)(sigmas[:-1])
            require(bool(told.isfinite().all()), f"{name} is not finite at some of {sigmas[:-1].tolist()}")


def check_training_levels(prediction: Prediction) -> None:
    """Training levels are positive, repeat with their generator, and have positive weights."""
    first, again = (prediction.sample_sigma((1000,), generator("levels"), pixels=PIXELS) for _ in range(2))
    require(tuple(first.shape) == (1000,), f"sample_sigma((1000,)) gives {tuple(first.shape)}")
    require(torch.equal(first, again), "training levels do not follow from the generator alone")
    require(bool((first > 0).all() and first.isfinite().all()), "a training level is not positive and finite")
    require(bool((prediction.weight(first) > 0).all()), "the loss weight of a training level is not positive")


def check_estimate(prediction: Prediction) -> None:
    """The estimate is shaped as the latents, and the network's output matters."""
    output, noisy, sigma = _inputs(prediction)
    estimate = prediction.denoised(output, noisy, sigma)
    require(estimate.shape == noisy.shape, f"the estimate is {tuple(estimate.shape)}, the latents {tuple(noisy.shape)}")
    other = prediction.denoised(output + 1, noisy, sigma)
    require(not torch.allclose(other, estimate), "the estimate does not depend on the network's output")


def _outputs(prediction: Prediction, output: Tensor, noisy: Tensor, sigma: Tensor) -> dict[str, Tensor]:
    told = {name: getattr(prediction, name)(sigma) for name in ("input_scale", "level", "weight")}
    return {"the estimate": prediction.denoised(output, noisy, sigma), **told}


def _inputs(prediction: Prediction) -> tuple[Tensor, Tensor, Tensor]:
    """Output and noisy latents (B, V, t, C, h, w), and a level for every clip (B, V, t, 1, 1, 1)."""
    random = generator("estimate")
    output, noisy = (torch.randn(2, 2, 3, 4, 4, 4, generator=random) for _ in range(2))
    sigma = prediction.sample_sigma((2,), random, pixels=PIXELS).view(2, 1, 1, 1, 1, 1).expand(2, 2, 3, 1, 1, 1)
    return output, noisy, sigma
