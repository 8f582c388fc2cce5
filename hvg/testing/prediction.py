"""Checks of what every prediction promises."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from hvg.core.random_keys import generator
from hvg.parts.model import Prediction
from hvg.testing.building import make, require
from hvg.testing.elsewhere import elsewhere, is_elsewhere


def check_prediction(cls: type[Prediction], config: Any) -> None:
    """Runs every check below. Raises: AssertionError that says which promise is broken."""
    prediction = make(cls, config)
    check_schedule(prediction)
    check_training_levels(prediction)
    check_estimate(prediction)
    check_device(prediction)


def check_schedule(prediction: Prediction) -> None:
    """The levels of S steps are S + 1, fall, and end in 0; at all others the network can be told the level."""
    for num_steps in (1, 2, 10):
        sigmas = prediction.sigma_schedule(num_steps)
        require(tuple(sigmas.shape) == (num_steps + 1,), f"{num_steps} steps have {tuple(sigmas.shape)} levels")
        require(bool((sigmas.diff() < 0).all()) and float(sigmas[-1]) == 0, f"the levels do not fall to 0: {sigmas}")
        for name in ("input_scale", "level", "weight"):
            told = getattr(prediction, name)(sigmas[:-1])
            require(bool(told.isfinite().all()), f"{name} is not finite at some of {sigmas[:-1].tolist()}")


def check_training_levels(prediction: Prediction) -> None:
    """Training levels are positive, repeat with their generator, and have positive weights."""
    first, again = (prediction.sample_sigma((1000,), generator("levels")) for _ in range(2))
    require(tuple(first.shape) == (1000,), f"sample_sigma((1000,)) gives {tuple(first.shape)}")
    require(torch.equal(first, again), "training levels do not follow from the generator alone")
    require(bool((first > 0).all() and first.isfinite().all()), "a training level is not positive and finite")
    require(bool((prediction.weight(first) > 0).all()), "the loss weight of a training level is not positive")


def check_estimate(prediction: Prediction) -> None:
    """The estimate is shaped as the latents; every clip has its own level, and the network's output matters."""
    output, noisy, sigma = _inputs(prediction)
    estimate = prediction.denoised(output, noisy, sigma)
    require(estimate.shape == noisy.shape, f"the estimate is {tuple(estimate.shape)}, the latents {tuple(noisy.shape)}")
    alone = prediction.denoised(output[:1], noisy[:1], sigma[:1])
    require(torch.allclose(estimate[:1], alone), "the estimate of a clip changes with the clips beside it")
    other = prediction.denoised(output + 1, noisy, sigma)
    require(not torch.allclose(other, estimate), "the estimate does not depend on the network's output")


def check_device(prediction: Prediction) -> None:
    """Checks that all outputs are on the device of the inputs; shown on one that is not the CPU, without a GPU."""
    with elsewhere() as device:
        output, noisy, sigma = (x.to(device) for x in _inputs(prediction))
        made = [prediction.denoised(output, noisy, sigma)]
        made += [getattr(prediction, name)(sigma) for name in ("input_scale", "level", "weight")]
        require(all(map(is_elsewhere, made)), "something comes back on another device")


def _inputs(prediction: Prediction) -> tuple[Tensor, Tensor, Tensor]:
    """Output and noisy latents (B, V, t, C, h, w), and a level for every clip (B, V, t, 1, 1, 1)."""
    random = generator("estimate")
    output, noisy = (torch.randn(2, 2, 3, 4, 4, 4, generator=random) for _ in range(2))
    sigma = prediction.sample_sigma((2,), random).view(2, 1, 1, 1, 1, 1).expand(2, 2, 3, 1, 1, 1)
    return output, noisy, sigma
