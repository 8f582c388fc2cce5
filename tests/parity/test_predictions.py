"""Parameterisations against closed forms and against diffusers' Euler scheduler as the SVD pipeline configures it."""

import math

import pytest
import torch
from svd_pipeline import svd_scheduler

from hvg.parts import registry
from hvg.parts.model import Prediction

NAMES = ["v", "x0"]
PIXELS = 64**2


def build(name: str) -> Prediction:
    part = registry.load("prediction", name)
    return part(part.Config())


@pytest.fixture
def scheduler():
    return svd_scheduler()


def test_schedule_and_levels_are_those_of_the_svd_pipeline(scheduler):
    scheduler.set_timesteps(25)
    sigmas = build("v").sigma_schedule(25, pixels=PIXELS)
    torch.testing.assert_close(sigmas, scheduler.sigmas, rtol=1e-5, atol=0)
    torch.testing.assert_close(build("v").level(sigmas[:-1]), scheduler.timesteps, rtol=1e-5, atol=1e-6)


def test_v_denoises_as_the_svd_pipeline(scheduler):
    scheduler.set_timesteps(5)
    prediction, sigmas = build("v"), build("v").sigma_schedule(5, pixels=PIXELS)
    torch.manual_seed(0)
    for i, timestep in enumerate(scheduler.timesteps):
        noisy, output = sigmas[i] * torch.randn(2, 4), torch.randn(2, 4)
        scaled = scheduler.scale_model_input(noisy, timestep)
        torch.testing.assert_close(prediction.input_scale(sigmas[i]) * noisy, scaled, rtol=1e-5, atol=1e-6)
        expected = scheduler.step(output, timestep, noisy).pred_original_sample
        torch.testing.assert_close(prediction.denoised(output, noisy, sigmas[i]), expected, rtol=1e-4, atol=1e-4)


def test_v_recovers_the_clean_latents_from_the_true_v():
    clean, noise, sigma = torch.randn(3, 5).double(), torch.randn(3, 5).double(), torch.tensor([0.01, 1, 300])[:, None]
    v = (noise - sigma * clean) / (sigma**2 + 1).sqrt()
    torch.testing.assert_close(build("v").denoised(v, clean + sigma * noise, sigma), clean)


@pytest.mark.parametrize(("name", "sigma_data"), [("v", 1.0), ("x0", 0.5)])
@pytest.mark.parametrize("sigma", [0.05, 0.7, 20.0])
def test_scaled_input_has_unit_variance(name, sigma_data, sigma):
    torch.manual_seed(0)
    noisy = sigma_data * torch.randn(200_000) + sigma * torch.randn(200_000)
    assert (build(name).input_scale(torch.tensor(sigma)) * noisy).var().item() == pytest.approx(1, abs=0.02)


def test_weights_in_closed_form():
    sigma = torch.tensor([0.1, 1.0, 30.0])
    torch.testing.assert_close(build("v").weight(sigma), (sigma**2 + 1) / sigma**2)
    torch.testing.assert_close(build("x0").weight(sigma), torch.tensor([5.0, 5.0, (900 + 0.25) / (30 * 0.5) ** 2]))


def test_x0_output_is_the_estimate():
    output = torch.randn(2, 3)
    assert torch.equal(build("x0").denoised(output, torch.randn(2, 3), torch.tensor(2.0)), output)


@pytest.mark.parametrize("name", NAMES)
def test_training_levels_are_lognormal_and_repeatable(name):
    prediction = build(name)
    sigma = prediction.sample_sigma((50_000,), torch.Generator().manual_seed(0), pixels=PIXELS)
    assert torch.equal(sigma, prediction.sample_sigma((50_000,), torch.Generator().manual_seed(0), pixels=PIXELS))
    assert sigma.log().mean().item() == pytest.approx(prediction.config.p_mean, abs=0.03)
    assert sigma.log().std().item() == pytest.approx(prediction.config.p_std, abs=0.03)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("num_steps", [1, 2, 10])
def test_schedule_falls_from_sigma_max_to_sigma_min_and_then_to_zero(name, num_steps):
    prediction = build(name)
    sigmas = prediction.sigma_schedule(num_steps, pixels=PIXELS)
    assert len(sigmas) == num_steps + 1
    assert sigmas[-1] == 0
    assert (sigmas.diff() < 0).all()
    assert math.isclose(sigmas[0], prediction.config.sigma_max, rel_tol=1e-6)
    if num_steps > 1:
        assert math.isclose(sigmas[-2], prediction.config.sigma_min, rel_tol=1e-5)


def test_a_schedule_needs_a_step():
    with pytest.raises(ValueError, match="at least one step"):
        build("v").sigma_schedule(0, pixels=PIXELS)
