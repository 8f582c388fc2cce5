"""Solvers: order of convergence on Gaussian data, parity with diffusers, and what noise does."""

from itertools import pairwise
from math import log2, sqrt

import numpy as np
import pytest
import torch
from diffusers import EDMDPMSolverMultistepScheduler, EDMEulerScheduler, HeunDiscreteScheduler

from components.guidance.constant import ConstantConfig, ConstantGuidance
from components.samplers.coarse_to_fine import CoarseToFineConfig, CoarseToFineWindows
from components.samplers.single import SingleWindow
from components.solvers.ddim import DDIMConfig, DDIMSolver
from components.solvers.dpmpp_2m import DPMSolverPP2M
from components.solvers.euler import EulerSolver
from components.solvers.heun import HeunSolver
from hvg.core.errors import HvgError
from hvg.model.sampling import sample
from hvg.parts.noise_levels import PURE_NOISE, karras_sigmas
from hvg.parts.part import PartConfig
from hvg.parts.plan import Solver, SolverStep

MEAN, SPREAD = 0.7, 0.5
SINGLE, UNGUIDED = SingleWindow(PartConfig()), ConstantGuidance(ConstantConfig())
EULER, HEUN, DPMPP_2M = EulerSolver(PartConfig()), HeunSolver(PartConfig()), DPMSolverPP2M(PartConfig())
DETERMINISTIC = {"euler": EULER, "heun": HEUN, "dpmpp_2m": DPMPP_2M, "ddim": DDIMSolver(DDIMConfig())}
SIGMAS = karras_sigmas(8, 20.0, 0.03, 7.0)


def noise(dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(2, 3, 5, 2, 3, 3, generator=torch.Generator().manual_seed(0)).to(dtype)


def gaussian(x, sigma):
    """The exact denoiser of data from N(MEAN, SPREAD^2)."""
    return (SPREAD**2 * x + sigma**2 * MEAN) / (SPREAD**2 + sigma**2)


def curved(x, sigma):
    """A denoiser that is not linear in x."""
    return torch.tanh(x) / (1 + 0.3 * sigma)


def run(solver: Solver, start: torch.Tensor, sigmas: torch.Tensor, estimate=gaussian, **settings) -> torch.Tensor:
    def denoise(x, sigma, windows, scales):
        return estimate(x, sigma)

    return sample(denoise, start, sigmas, SINGLE, solver, UNGUIDED, **settings)


@pytest.mark.parametrize(("name", "order"), [("euler", 1), ("ddim", 1), ("heun", 2), ("dpmpp_2m", 2)])
def test_order_of_convergence_to_the_exact_solution_for_gaussian_data(name, order):
    """For x0 ~ N(mean, s^2) the flow keeps (x - mean) / sqrt(s^2 + sigma^2)."""
    start = noise(torch.float64)
    exact = MEAN + SPREAD * (20 * start - MEAN) / sqrt(SPREAD**2 + 20**2)
    errors = []
    for num_steps in (20, 40, 80, 160):
        sigmas = karras_sigmas(num_steps, 20.0, 0.001, 7.0)
        errors.append((run(DETERMINISTIC[name], start, sigmas) - exact).abs().max().item())
    orders = [log2(before / after) for before, after in pairwise(errors)]
    assert all(abs(measured - order) < 0.25 for measured in orders), orders


@pytest.mark.parametrize(("name", "order"), [("euler", 1), ("ddim", 1), ("heun", 2)])
def test_order_of_convergence_from_pure_noise_along_a_rectified_flow(name, order):
    """At s = 1 the exact solution starts at the mean; levels are sigma = 3 s / (1 - s), evenly in s."""
    start = noise(torch.float64)
    errors = []
    for num_steps in (40, 80, 160, 320):
        sigmas = torch.tensor([PURE_NOISE, *(3 * (num_steps / i - 1) for i in range(1, num_steps)), 0.0])
        errors.append((run(DETERMINISTIC[name], start, sigmas) - (MEAN + SPREAD * start)).abs().max().item())
    orders = [log2(before / after) for before, after in pairwise(errors)]
    assert all(abs(measured - order) < 0.15 for measured in orders), orders


def test_the_multistep_solver_converges_from_pure_noise():
    """Its steps are even in ln sigma, of which the first is as long as any: the order is reached late."""
    start = noise(torch.float64)
    errors = []
    for num_steps in (80, 320):
        sigmas = torch.tensor([PURE_NOISE, *(num_steps / i - 1 for i in range(1, num_steps)), 0.0])
        errors.append((run(DPMPP_2M, start, sigmas) - (MEAN + SPREAD * start)).abs().max().item())
    assert log2(errors[0] / errors[1]) / 2 > 1.6 and errors[1] < 5e-4, errors


@pytest.mark.parametrize("eta", [0.3, 1.0])
def test_ddim_walks_from_pure_noise_to_a_low_level(eta):
    """Next to so high a level the share of old noise is rounded to nothing, and no further."""
    z = noise(torch.float64)
    at = SolverStep(sigma=PURE_NOISE, sigma_next=0.01, denoise=gaussian, noise=lambda: z, state={})
    stepped = DDIMSolver(DDIMConfig(eta=eta)).step(PURE_NOISE * z.flip(2), z.flip(1), at)
    expected = z.flip(1) + 0.01 * (sqrt(1 - eta**2) * z.flip(2) + eta * z)
    torch.testing.assert_close(stepped, expected, rtol=0, atol=1e-9)


def test_ddim_without_fresh_noise_is_euler():
    assert torch.equal(run(DDIMSolver(DDIMConfig(eta=0)), noise(), SIGMAS, curved), run(EULER, noise(), SIGMAS, curved))


def test_ddim_is_equation_12_of_its_paper_in_other_units():
    """The step, in the paper's x / sqrt(1 + sigma^2) and alpha = 1 / (1 + sigma^2), in float64."""
    x, x0, z = noise(torch.float64), noise(torch.float64).flip(2), noise(torch.float64).flip(1)
    eta, sigma, sigma_next = 0.6, 4.0, 1.5
    alpha, alpha_next = 1 / (1 + sigma**2), 1 / (1 + sigma_next**2)
    scaled = x * sqrt(alpha)
    epsilon = (scaled - sqrt(alpha) * x0) / sqrt(1 - alpha)
    spread = eta * sqrt((1 - alpha_next) / (1 - alpha)) * sqrt(1 - alpha / alpha_next)  # equation 16
    expected = sqrt(alpha_next) * x0 + sqrt(1 - alpha_next - spread**2) * epsilon + spread * z
    at = SolverStep(sigma=sigma, sigma_next=sigma_next, denoise=gaussian, noise=lambda: z, state={})
    stepped = DDIMSolver(DDIMConfig(eta=eta)).step(x, x0, at)
    torch.testing.assert_close(stepped * sqrt(alpha_next), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("eta", [0.5, 1.0])
def test_ddim_with_fresh_noise_keeps_the_distribution_of_gaussian_data(eta):
    generator = torch.Generator().manual_seed(1)
    start = torch.randn(1, 1, 1, 1, 200, 200, generator=generator)
    # The walk starts where the data is noised to, not at sigma times noise, so that only the steps are judged.
    sigmas = karras_sigmas(400, 20.0, 0.002, 7.0)
    start = start * sqrt(1 + (SPREAD / 20) ** 2) + MEAN / 20
    made = run(
        DDIMSolver(DDIMConfig(eta=eta)),
        start,
        sigmas,
        step_noise=lambda step: torch.randn(start.shape, generator=generator),
    )
    # Standard errors: of the mean 0.5 / 200 = 0.0025, of the spread 0.0018; steps of this length lose 0.005 of it.
    assert made.mean().item() == pytest.approx(MEAN, abs=0.01)
    assert made.std().item() == pytest.approx(SPREAD, abs=0.012)
    plain = run(EULER, start, sigmas)
    assert torch.corrcoef(torch.stack([made.flatten(), plain.flatten()]))[0, 1] < 0.9


def test_a_stochastic_solver_says_that_it_needs_noise():
    with pytest.raises(HvgError, match="adds noise"):
        run(DDIMSolver(DDIMConfig(eta=1)), noise(), SIGMAS)


def test_heun_denoises_twice_but_at_the_last_step():
    seen = []

    def estimate(x, sigma):
        seen.append(sigma)
        return gaussian(x, sigma)

    run(HEUN, noise(), SIGMAS, estimate)
    levels = SIGMAS.tolist()
    assert seen == [level for pair in pairwise(levels[:-1]) for level in pair] + [levels[-2]]


def test_dpmpp_2m_forgets_the_estimate_of_another_grid():
    """Its memory has another shape when a plan rises to the next stage."""
    sampler = CoarseToFineWindows(CoarseToFineConfig(coarse_fraction=0.5, shrink=1))

    def denoise(x, sigma, windows, scales):
        return gaussian(x, sigma)

    made = sample(denoise, noise(torch.float64), SIGMAS, sampler, DPMPP_2M, UNGUIDED)
    assert made.shape == noise().shape
    assert made.isfinite().all()


# Parity with diffusers, on levels of its own making


def raw_output(scheduler, x: torch.Tensor, x0: torch.Tensor, sigma: float) -> torch.Tensor:
    """What a network would have to say for an EDM scheduler to arrive at x0. EDM, equation 7 and table 1."""
    data = scheduler.config.sigma_data
    skip, out = data**2 / (sigma**2 + data**2), sigma * data / sqrt(sigma**2 + data**2)
    return (x0 - skip * x) / out


@pytest.mark.parametrize("num_steps", [1, 2, 7, 20])
@pytest.mark.parametrize(
    ("solver", "scheduler"),
    [
        (EULER, EDMEulerScheduler(sigma_min=0.03, sigma_max=20.0, sigma_data=0.5)),
        (
            DPMPP_2M,
            EDMDPMSolverMultistepScheduler(
                sigma_min=0.03, sigma_max=20.0, sigma_data=0.5, solver_order=2, algorithm_type="dpmsolver++"
            ),
        ),
    ],
    ids=["euler", "dpmpp_2m"],
)
def test_parity_with_diffusers_edm_schedulers(solver, scheduler, num_steps):
    scheduler.set_timesteps(num_steps)
    x = 20 * noise()
    for time, sigma in zip(scheduler.timesteps, scheduler.sigmas.tolist(), strict=False):
        scheduler.scale_model_input(x, time)
        x = scheduler.step(raw_output(scheduler, x, curved(x, sigma), sigma), time, x).prev_sample
    torch.testing.assert_close(run(solver, noise(), scheduler.sigmas, curved), x, rtol=1e-4, atol=1e-4)


@pytest.mark.filterwarnings("ignore:__array__:DeprecationWarning")
@pytest.mark.parametrize("num_steps", [2, 7, 20])
def test_parity_with_diffusers_heun(num_steps):
    """Its time grid is replaced by our levels; the steps are its own."""
    scheduler = HeunDiscreteScheduler(prediction_type="sample")
    scheduler.set_timesteps(num_steps)
    levels = karras_sigmas(num_steps, 20.0, 0.03, 7.0)
    scheduler.sigmas = torch.cat([levels[:1], levels[1:-1].repeat_interleave(2), levels[-1:]])
    x = 20 * noise()
    for i, time in enumerate(scheduler.timesteps):
        # Calls alternate between the level of a step and the one it goes to.
        x = scheduler.step(curved(x, levels[(i + 1) // 2].item()), time, x).prev_sample
    torch.testing.assert_close(run(HEUN, noise(), levels, curved), x, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", sorted(DETERMINISTIC))
def test_numbers_of_one_walk_against_numpy_in_float64(name):
    """The same walk from the papers' equations as written, not rearranged: lambda = -ln sigma, h its step, r the ratio."""
    levels = SIGMAS.double().numpy()
    x, before = 20 * noise(torch.float64).numpy(), None

    def estimate(x, sigma):
        return np.tanh(x) / (1 + 0.3 * sigma)

    for i, (s, t) in enumerate(pairwise(levels)):
        x0 = estimate(x, s)
        euler = x + (t - s) * (x - x0) / s
        if t == 0:
            x = euler
        elif name == "heun":
            x = x + (t - s) * 0.5 * ((x - x0) / s + (euler - estimate(euler, t)) / t)
        elif name == "dpmpp_2m" and before is not None:
            h, h_before = np.log(s) - np.log(t), np.log(levels[i - 1]) - np.log(s)
            r = h_before / h
            x = t / s * x - np.expm1(-h) * ((1 + 1 / (2 * r)) * x0 - 1 / (2 * r) * before)
        else:
            x = euler
        before = x0
    made = run(DETERMINISTIC[name], noise(torch.float64), SIGMAS, curved)
    np.testing.assert_allclose(made.numpy(), x, rtol=1e-9, atol=1e-12)
