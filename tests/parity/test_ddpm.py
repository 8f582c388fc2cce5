"""The time steps of DDPM against diffusers' DDIM scheduler, and its loss weights in closed form."""

import pytest
import torch
from diffusers import DDIMScheduler
from pydantic import ValidationError

from components.predictions.ddpm import DDPMConfig, DDPMPrediction
from components.predictions.v import VConfig, VPrediction
from hvg.parts.noise_levels import PURE_NOISE

PIXELS = 64**2
# Settings here -> those of the library.
SAME = [
    ({}, {"prediction_type": "v_prediction", "rescale_betas_zero_snr": True, "timestep_spacing": "trailing"}),
    (
        {"target": "epsilon", "terminal_snr": "kept", "spacing": "leading"},
        {"prediction_type": "epsilon", "timestep_spacing": "leading", "steps_offset": 1},
    ),
]


@pytest.mark.parametrize("num_steps", [4, 25])
@pytest.mark.parametrize(("settings", "library"), SAME)
def test_levels_and_estimates_are_the_librarys(settings, library, num_steps):
    prediction = DDPMPrediction(DDPMConfig(**settings))
    scheduler = DDIMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False, **library
    )
    scheduler.set_timesteps(num_steps)
    sigmas = prediction.sigma_schedule(num_steps, pixels=PIXELS)
    torch.testing.assert_close(prediction.level(sigmas[:-1]), scheduler.timesteps.float(), rtol=0, atol=1e-3)
    torch.manual_seed(0)
    for sigma, timestep in zip(sigmas[:-1], scheduler.timesteps, strict=True):
        scaled, output = torch.randn(3, 4), torch.randn(3, 4)
        expected = scheduler.step(output, timestep, scaled).pred_original_sample
        noisy = scaled / prediction.input_scale(sigma)
        torch.testing.assert_close(prediction.denoised(output, noisy, sigma), expected, rtol=1e-3, atol=1e-3)


def test_training_draws_every_time_step_and_samples_begin_at_the_noisiest():
    prediction = DDPMPrediction(DDPMConfig())
    drawn = prediction.sample_sigma((20_000,), torch.Generator().manual_seed(0), pixels=PIXELS)
    steps = prediction.level(drawn).round()
    assert len(steps.unique()) == 1000 and abs(float(steps.mean()) - 499.5) < 10
    assert float(drawn.max()) == PURE_NOISE == float(prediction.sigma_schedule(30, pixels=PIXELS)[0])


def test_at_an_snr_of_zero_the_network_says_all_of_the_picture():
    """v is then -x0, whatever the noise."""
    prediction, sigma = DDPMPrediction(DDPMConfig()), torch.tensor(PURE_NOISE)
    clean = torch.randn(3, 4)
    torch.testing.assert_close(prediction.denoised(-clean, sigma * torch.randn(3, 4), sigma), clean, rtol=0, atol=1e-6)


def test_what_is_clean_is_told_as_the_first_time_step():
    assert DDPMPrediction(DDPMConfig()).level(torch.tensor([0.0, 1e-9])).tolist() == [0, 0]


def test_min_snr_caps_the_weight_of_an_error_in_x0():
    """In v, as AnimateAnyone's code has it: min(SNR + 1, 5) / (SNR + 1); in the noise, the paper's min(SNR, 5) / SNR."""
    sigma = torch.tensor([0.1, 0.5, 2.0, 100.0])
    snr = sigma**-2
    of_v = DDPMPrediction(DDPMConfig(max_weight=5)).weight(sigma) / (snr + 1)
    torch.testing.assert_close(of_v, (snr + 1).clamp(max=5) / (snr + 1))
    of_noise = DDPMPrediction(DDPMConfig(target="epsilon", terminal_snr="kept", max_weight=5)).weight(sigma) / snr
    torch.testing.assert_close(of_noise, snr.clamp(max=5) / snr)
    torch.testing.assert_close(VPrediction(VConfig(max_weight=5)).weight(sigma), (snr + 1).clamp(max=5))


def test_no_noise_is_predicted_where_nothing_but_noise_is_left():
    with pytest.raises(ValidationError, match="says nothing of the picture"):
        DDPMConfig(target="epsilon")
    with pytest.raises(ValidationError, match=r"beta_start=0\.1 has to be at most"):
        DDPMConfig(beta_start=0.1)


def test_a_schedule_has_no_more_steps_than_there_are():
    with pytest.raises(ValueError, match="at most 1000"):
        DDPMPrediction(DDPMConfig()).sigma_schedule(1001, pixels=PIXELS)
