"""Rectified flow in EDM's notation: the identities, the shift against diffusers' scheduler, and walks that start at s = 1."""

from itertools import pairwise
from math import exp, pi, sqrt

import numpy as np
import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from torch import Tensor

from components.guidance.constant import ConstantConfig, ConstantGuidance
from components.predictions.flow import FlowConfig, FlowPrediction, noise_share
from components.samplers.single import SingleWindow
from components.solvers.ddim import DDIMConfig, DDIMSolver
from components.solvers.dpmpp_2m import DPMSolverPP2M
from components.solvers.euler import EulerSolver
from components.solvers.heun import HeunSolver
from hvg.config.composition import compose
from hvg.core.random_keys import generator
from hvg.model.sampling import sample
from hvg.parts.noise_levels import PURE_NOISE
from hvg.parts.part import PartConfig

PIXELS = 64**2
MEAN, SPREAD = 0.3, 0.5
SOLVERS = {
    "euler": EulerSolver(PartConfig()),
    "heun": HeunSolver(PartConfig()),
    "dpmpp_2m": DPMSolverPP2M(PartConfig()),
    "ddim": DDIMSolver(DDIMConfig()),
}


def flow(**settings) -> FlowPrediction:
    return FlowPrediction(FlowConfig(**settings))


def draw(name: str, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=generator("flow", name))


def shifted(s: Tensor, k: float) -> Tensor:
    """SD3, equation 23, as it is written there."""
    return k * s / (1 + (k - 1) * s)


def training_levels(**settings) -> Tensor:
    """Shares of noise that training draws."""
    random = torch.Generator().manual_seed(0)
    return noise_share(flow(**settings).sample_sigma((50_000,), random, pixels=PIXELS).double())


# --- the line, and the network's place in it ---


@pytest.mark.parametrize("s", [1e-3, 0.2, 0.5, 0.9, 0.999])
def test_scalings_are_those_of_the_line(s):
    """What the network sees is x_s, and what it would have to say is noise - x0."""
    clean, noise, s = draw("clean", 200).double(), draw("noise", 200).double(), torch.tensor(s).double()
    sigma, on_line = s / (1 - s), (1 - s) * clean + s * noise
    noisy = clean + sigma * noise
    torch.testing.assert_close(flow().input_scale(sigma) * noisy, on_line)
    torch.testing.assert_close(flow().level(sigma), 1000 * s)
    torch.testing.assert_close(flow().denoised(noise - clean, noisy, sigma), clean)
    output = draw("output", 200).double()
    # c_skip = 1 - s and c_out = -s of EDM's equation 7.
    torch.testing.assert_close(flow().denoised(output, noisy, sigma), (1 - s) * noisy - s * output)
    torch.testing.assert_close(flow().denoised(output, noisy, sigma), on_line - s * output)


def test_pure_noise_is_told_and_taken_exactly_in_single_precision():
    noise, output, sigma = draw("noise", 200), draw("output", 200), torch.tensor(PURE_NOISE)
    clean = draw("clean", 200)
    noisy = clean + sigma * noise
    assert flow().level(sigma) == 1000
    torch.testing.assert_close(flow().input_scale(sigma) * noisy, noise, rtol=2e-7, atol=1e-8)
    torch.testing.assert_close(flow().denoised(output, noisy, sigma), noise - output, rtol=0, atol=1e-6)


def test_a_network_may_give_the_clean_latents():
    output, noisy = draw("output", 9), draw("noise", 9)
    assert torch.equal(flow(target="x0").denoised(output, noisy, torch.tensor(3.0)), output)


def test_the_loss_is_that_of_the_velocity():
    clean, noise, output = (draw(name, 400).double() for name in ("clean", "noise", "output"))
    sigma = torch.linspace(0.01, 30, 400).double()
    error = flow().denoised(output, clean + sigma * noise, sigma) - clean
    torch.testing.assert_close(flow().weight(sigma) * error**2, (output - (noise - clean)) ** 2)


def test_the_bell_is_highest_in_the_middle_and_its_mean_is_one():
    s = (torch.arange(10_000).double() + 0.5) / 10_000
    of_velocity = flow(loss_weight="bell").weight(s / (1 - s)) * s**2
    assert of_velocity.mean().item() == pytest.approx(1, abs=1e-4)
    assert of_velocity.max().item() == pytest.approx((1 - exp(-0.5)) / 0.24909, abs=1e-4)
    torch.testing.assert_close(of_velocity, of_velocity.flip(0))
    assert (of_velocity > 0).all() and flow(loss_weight="bell").weight(torch.tensor(PURE_NOISE)) == 0


def test_the_weight_is_capped():
    sigma = torch.tensor([0.1, 1.0, 9.0])
    torch.testing.assert_close(flow(max_weight=3).weight(sigma), torch.tensor([3.0, 3.0, (10 / 9) ** 2]))


# --- levels ---


@pytest.mark.parametrize("num_steps", [1, 2, 10, 50])
@pytest.mark.parametrize("k", [0.5, 1.0, 3.0, 5.0])
def test_sampling_levels_are_shifted_once_as_the_library_shifts_explicit_ones(k, num_steps):
    plain = np.linspace(1, 1 / num_steps, num_steps)
    sigmas = flow(shift=k).sigma_schedule(num_steps, pixels=PIXELS)
    s = noise_share(sigmas.double())
    torch.testing.assert_close(s[:-1], shifted(torch.from_numpy(plain), k), rtol=0, atol=1e-7)
    scheduler = FlowMatchEulerDiscreteScheduler(shift=k)
    scheduler.set_timesteps(sigmas=plain)
    torch.testing.assert_close(s.float(), scheduler.sigmas, rtol=0, atol=1e-6)
    torch.testing.assert_close(flow().level(sigmas[:-1]), scheduler.timesteps, rtol=0, atol=3e-4)


def test_the_library_by_itself_shifts_its_last_level_twice():
    """Its levels are ours with the last one named; with levels that are given it is as above."""
    scheduler = FlowMatchEulerDiscreteScheduler(shift=3.0)
    scheduler.set_timesteps(20)
    once = shifted(torch.tensor(1 / 1000), 3).item()
    assert scheduler.sigmas[-2].item() == pytest.approx(shifted(torch.tensor(once), 3).item(), rel=1e-4)
    ours = noise_share(flow(shift=3, last_level=once).sigma_schedule(20, pixels=PIXELS))
    torch.testing.assert_close(ours, scheduler.sigmas, rtol=0, atol=1e-6)


@pytest.mark.parametrize(("pixels", "k"), [(480 * 832, 3.0), (4 * 480 * 832, 6.0), (720 * 1280, 4.557)])
def test_the_shift_goes_by_the_root_of_the_pixels(pixels, k):
    by_size = flow(shift=3, base_pixels=480 * 832)
    assert by_size.shift(pixels) == pytest.approx(k, abs=1e-3)
    same = flow(shift=by_size.shift(pixels))
    torch.testing.assert_close(
        by_size.sigma_schedule(8, pixels=pixels), same.sigma_schedule(8, pixels=64), rtol=1e-6, atol=0
    )
    drawn = [
        part.sample_sigma((9,), torch.Generator().manual_seed(1), pixels=pixels) for part in (by_size, same, flow())
    ]
    torch.testing.assert_close(drawn[0], drawn[1])
    torch.testing.assert_close(noise_share(drawn[0]), shifted(noise_share(drawn[2]), by_size.shift(pixels)))


@pytest.mark.parametrize(("pixels", "log_k"), [(65536, 0.5), (1048576, 1.15), (557056, 0.825)])
def test_the_shift_may_grow_in_a_line_of_the_pixels(pixels, log_k):
    """As FLUX's: ln k between its two ends, and beyond them."""
    ends = {"shift": exp(0.5), "base_pixels": 65536, "max_shift": exp(1.15), "max_pixels": 1048576}
    assert FlowPrediction(FlowConfig(**ends)).shift(pixels) == pytest.approx(exp(log_k), rel=1e-12)


@pytest.mark.parametrize("wrong", [{"max_shift": 2.0}, {"max_shift": 2.0, "max_pixels": 65536}])
def test_ends_of_the_shift_that_do_not_agree_are_refused(wrong):
    with pytest.raises(ValueError, match=r"go together|have to be more than base_pixels"):
        FlowConfig(base_pixels=65536, **wrong)


def test_without_base_pixels_all_sizes_are_shifted_alike():
    assert flow(shift=3).shift(64) == flow(shift=3).shift(10**7) == 3


def test_wan_s_levels_are_those_of_its_resolution():
    part = compose(["prediction=flow_wan"]).prediction
    assert part.cls(part.config).shift(480 * 832) == 3


def test_training_levels_have_their_distributions():
    uniform = training_levels(timesteps="uniform")
    assert uniform.mean().item() == pytest.approx(1 / 2, abs=0.01)
    assert uniform.std().item() == pytest.approx(sqrt(1 / 12), abs=0.01)
    normal = training_levels(p_mean=0.5, p_std=2.0).logit()
    assert normal.mean().item() == pytest.approx(0.5, abs=0.03) and normal.std().item() == pytest.approx(2, abs=0.03)
    assert (training_levels(timesteps="mode", mode_scale=0) - uniform).abs().max() < 1e-6
    # SD3's equation 20, a falling function of u: quantiles of s are its values at the others of u.
    u, scale = np.array([0.1, 0.5, 0.8]), 1.29
    expected = 1 - u - scale * (np.cos(pi / 2 * u) ** 2 - 1 + u)
    found = training_levels(timesteps="mode", mode_scale=scale).quantile(torch.from_numpy(1 - u))
    np.testing.assert_allclose(found, expected, atol=0.01)


@pytest.mark.parametrize("timesteps", ["uniform", "logit_normal", "mode"])
def test_no_training_level_is_clean_or_infinite(timesteps, monkeypatch):
    """Whatever is drawn."""
    ends = torch.tensor([0.0, 1 - 2**-24])
    monkeypatch.setattr(torch, "rand", lambda *shape, generator: ends)
    monkeypatch.setattr(torch, "randn", lambda *shape, generator: torch.tensor([40.0, -40.0]))
    sigma = flow(timesteps=timesteps, shift=100, mode_scale=1.75).sample_sigma((2,), torch.Generator(), pixels=PIXELS)
    assert sigma[0] > 1e6 and 0 < sigma[1] < 1e-4 and sigma.isfinite().all()


# --- walks ---


def walk(solver, prediction: FlowPrediction, network, noise: Tensor, num_steps: int) -> Tensor:
    """Samples of a network (x_s, 1000 s) -> output, through the engine."""

    def denoise(x, sigma, windows, scales):
        level = torch.tensor(sigma, dtype=x.dtype)
        output = network(prediction.input_scale(level) * x, prediction.level(level))
        return prediction.denoised(output, x, level)

    sigmas = prediction.sigma_schedule(num_steps, pixels=PIXELS)
    unguided = ConstantGuidance(ConstantConfig())
    return sample(denoise, noise, sigmas, SingleWindow(PartConfig()), solver, unguided)


def velocity(x: Tensor, level: Tensor) -> Tensor:
    """The exact one for data of N(MEAN, SPREAD^2): the mean of noise - x0 where x_s = x."""
    s = level / 1000
    gain = (s - (1 - s) * SPREAD**2) / ((1 - s) ** 2 * SPREAD**2 + s**2)
    return gain * (x - (1 - s) * MEAN) - MEAN


@pytest.mark.parametrize("name", SOLVERS)
@pytest.mark.parametrize("k", [1.0, 3.0])
def test_every_solver_walks_from_noise_to_gaussian_data_in_single_precision(name, k):
    noise = draw("start", 2, 2, 3, 4, 8, 8)
    made = walk(SOLVERS[name], flow(shift=k), velocity, noise, 200)
    assert made.dtype == torch.float32
    bound = 0.08 if name in ("euler", "ddim") else 0.02
    assert (made - (MEAN + SPREAD * noise)).abs().max() < bound


@pytest.mark.parametrize("num_steps", [1, 2, 9])
def test_euler_is_the_step_along_the_velocity(num_steps):
    """x_s' = x_s + (s' - s) v in float64; ours is in single precision, and starts at a sigma of 2^30."""

    def network(x, level):
        return torch.tanh(1.5 * x) - 0.2 * x * level / 1000

    noise, prediction = draw("start", 1, 2, 3, 4, 4, 4), flow(shift=3)
    x = noise.double()
    levels = shifted(torch.linspace(1, 1 / num_steps, num_steps).double(), 3).tolist()
    for s, s_next in pairwise([*levels, 0.0]):
        x = x + (s_next - s) * network(x, torch.tensor(1000 * s).double())
    made = walk(SOLVERS["euler"], prediction, network, noise, num_steps)
    torch.testing.assert_close(made.double(), x, rtol=0, atol=3e-6)


def test_both_targets_walk_alike():
    """A network that knows the velocity knows the clean latents."""
    noise = draw("start", 1, 1, 2, 4, 4, 4)

    def clean(x, level):
        return x - level / 1000 * velocity(x, level)

    made = [
        walk(SOLVERS["heun"], flow(target=target), network, noise, 12)
        for target, network in (("velocity", velocity), ("x0", clean))
    ]
    torch.testing.assert_close(made[0], made[1], rtol=0, atol=1e-5)
