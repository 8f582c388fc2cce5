"""The sampling engine: blending, batching of windows, and the exact solution for Gaussian data."""

from itertools import pairwise

import pytest
import torch

from components.guidance.constant import ConstantConfig, ConstantGuidance
from components.samplers.single import SingleWindow
from components.solvers.euler import EulerSolver
from hvg.core.errors import HvgError
from hvg.model.sampling import denoise_windows, guided_estimate, normalised_weights, sample
from hvg.parts.noise_levels import karras_sigmas
from hvg.parts.part import PartConfig
from hvg.parts.plan import GuidedClips, Sampler, SolverStep
from hvg.values.grid import Window

V, T = 3, 5
SIGMAS = karras_sigmas(6, 20.0, 0.03, 7.0)
EULER, SINGLE, UNGUIDED = EulerSolver(PartConfig()), SingleWindow(PartConfig()), ConstantGuidance(ConstantConfig())


class Overlapping(Sampler):
    """Windows of several shapes that overlap, with uneven weights."""

    def windows(self, step: int, num_steps: int, views: int, frames: int) -> list[Window]:
        spans = [(0, 1, 2), (2, 3, 4), (1, 2, 3)]
        temporal = [Window((v,), span, torch.tensor([[1.0, 2.0, 0.5]])) for v in range(views) for span in spans]
        return [*temporal, *(Window((0, 2), (t,), torch.tensor([[0.3], [1.7]])) for t in range(frames))]


OVERLAPPING = Overlapping()


def noise() -> torch.Tensor:
    return torch.randn(2, V, T, 2, 3, 3, generator=torch.Generator().manual_seed(0))


def windowed(x, sigma, windows, scales):
    """An estimate that depends on everything a denoiser is given, and differs from window to window."""
    clips = len(x) // len(windows)
    number = torch.tensor([sum(w.views) + 0.1 * sum(w.frames) for w in windows]).repeat_interleave(clips)
    mixed = x.mean(dim=(1, 2), keepdim=True) + 0.1 * x
    return torch.tanh(mixed + number.view(-1, 1, 1, 1, 1, 1)) * scales[0, ..., None, None, None] / (1 + sigma)


def test_single_equals_a_plain_loop_bit_for_bit():
    def denoise(x, sigma, windows, scales):
        return torch.tanh(x) / (1 + sigma)

    x = noise() * float(SIGMAS[0])
    for sigma, sigma_next in zip(SIGMAS.tolist()[:-1], SIGMAS.tolist()[1:], strict=True):
        x0 = torch.tanh(x) / (1 + sigma)
        x = x0 + (sigma_next / sigma) * (x - x0)
    assert torch.equal(sample(denoise, noise(), SIGMAS, SINGLE, EULER, UNGUIDED), x)


@pytest.mark.parametrize("windows_per_call", [1, 2, 7])
def test_result_does_not_depend_on_how_windows_are_batched(windows_per_call):
    together = sample(windowed, noise(), SIGMAS, OVERLAPPING, EULER, UNGUIDED)
    apart = sample(windowed, noise(), SIGMAS, OVERLAPPING, EULER, UNGUIDED, windows_per_call=windows_per_call)
    torch.testing.assert_close(together, apart, rtol=0, atol=1e-6)


def test_equal_shaped_windows_are_denoised_together():
    calls = []

    def denoise(x, sigma, windows, scales):
        calls.append((x.shape[:3], scales.shape, len(windows)))
        return x

    denoise_windows(denoise, noise(), 1.0, OVERLAPPING.windows(0, 1, V, T), torch.ones(3, 2, V, T))
    assert calls == [((2 * 9, 1, 3), (3, 2 * 9, 1, 3), 9), ((2 * 5, 2, 1), (3, 2 * 5, 2, 1), 5)]


def test_every_window_gets_the_scales_of_its_own_clips_and_cells():
    """Rows i B to (i + 1) B are those of window i, as in x."""
    scales = torch.rand(2, 2, V, T, generator=torch.Generator().manual_seed(1))

    def denoise(x, sigma, windows, scales):
        return scales[1, ..., None, None, None].expand_as(x)

    blended = denoise_windows(denoise, noise(), 1.0, OVERLAPPING.windows(0, 1, V, T), scales)
    torch.testing.assert_close(blended, scales[1, ..., None, None, None].expand_as(blended))


def test_blending_estimates_and_blending_euler_steps_are_the_same():
    x, (sigma, sigma_next) = 5 * noise(), (5.0, 3.0)
    windows = OVERLAPPING.windows(0, 1, V, T)
    scales = torch.ones(1, 2, V, T)
    at = SolverStep(sigma=sigma, sigma_next=sigma_next, denoise=lambda x, sigma: x, noise=lambda: x, state={})
    blended = EULER.step(x, denoise_windows(windowed, x, sigma, windows, scales), at)

    def stepped(part, sigma, windows, scales):
        return EULER.step(part, windowed(part, sigma, windows, scales), at)

    torch.testing.assert_close(blended, denoise_windows(stepped, x, sigma, windows, scales), rtol=1e-5, atol=1e-5)


def test_weights_sum_to_one_in_every_cell():
    windows = OVERLAPPING.windows(0, 1, V, T)
    total = torch.zeros(V, T)
    for window, weights in zip(windows, normalised_weights(windows, V, T), strict=True):
        total[torch.tensor(window.views)[:, None], torch.tensor(window.frames)] += weights
    torch.testing.assert_close(total, torch.ones(V, T))


def test_a_plan_with_a_hole_is_refused():
    with pytest.raises(HvgError, match=r"leave out \(view, frame\) \[\(1, 0\)"):
        normalised_weights([Window((0,), (0, 1), torch.ones(1, 2))], 2, 2)


def test_euler_converges_to_the_exact_solution_for_gaussian_data():
    """For x0 ~ N(mean, s^2) the flow keeps (x - mean) / sqrt(s^2 + sigma^2)."""
    mean, spread = 0.7, 0.5

    def denoise(x, sigma, windows, scales):
        return (spread**2 * x + sigma**2 * mean) / (spread**2 + sigma**2)

    start = noise().double()
    exact = mean + spread * (20 * start - mean) / (spread**2 + 20**2) ** 0.5
    errors = []
    for num_steps in (10, 20, 40, 80):
        sigmas = karras_sigmas(num_steps, 20.0, 0.002, 7.0)
        errors.append((sample(denoise, start, sigmas, SINGLE, EULER, UNGUIDED) - exact).abs().max().item())
    # First order: half the step, half the error.
    assert all(0.4 < after / before < 0.6 for before, after in pairwise(errors))
    assert errors[-1] < 0.06


def test_guidance_extrapolates_from_the_unconditional_estimate():
    conditional, unconditional = torch.randn(2, V, T, 1, 2, 2), torch.randn(2, V, T, 1, 2, 2)
    (scale,) = ConstantGuidance(ConstantConfig(value=3)).scales(GuidedClips(grid=(2, V, T)), 1.0)
    guided = guided_estimate(conditional, [(unconditional, scale)])
    # To the bit what it was when there was but one branch.
    assert torch.equal(guided, unconditional + scale[..., None, None, None] * (conditional - unconditional))
    torch.testing.assert_close(guided, 3 * conditional - 2 * unconditional)
    same = guided_estimate(conditional, [(unconditional, torch.ones(2, V, T))])
    torch.testing.assert_close(same, conditional)
    assert torch.equal(guided_estimate(conditional, []), conditional)


def test_several_branches_are_instruct_pix2pix():
    """e(0, 0) + s_image (e(image, 0) - e(0, 0)) + s_text (e(image, text) - e(image, 0))."""
    both, image, none = (torch.randn(2, V, T, 1, 2, 2) for _ in range(3))
    of_text, of_image = 7.5, 1.5
    guided = guided_estimate(both, [(image, torch.full((2, V, T), of_text)), (none, torch.full((2, V, T), of_image))])
    torch.testing.assert_close(guided, none + of_image * (image - none) + of_text * (both - image))


def test_progress_is_reported_once_per_step():
    seen = []
    sample(windowed, noise(), SIGMAS, SINGLE, EULER, UNGUIDED, lambda done, total: seen.append((done, total)))
    assert seen == [(i + 1, 6) for i in range(6)]
