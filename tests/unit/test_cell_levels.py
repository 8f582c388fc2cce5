"""A noise level for every cell of the grid: cells that take turns, cells that are known, and nothing new where all are alike."""

import pytest
import torch

from components.guidance.constant import ConstantConfig, ConstantGuidance
from components.samplers.coarse_to_fine import CoarseToFineConfig, CoarseToFineWindows
from components.samplers.progressive import ProgressiveConfig, ProgressiveWindows
from components.samplers.single import SingleWindow
from components.solvers.ddim import DDIMConfig, DDIMSolver
from components.solvers.dpmpp_2m import DPMSolverPP2M
from components.solvers.euler import EulerSolver
from components.solvers.heun import HeunSolver
from hvg.core.errors import HvgError
from hvg.model.planned_steps import planned_steps, scales_of_cells
from hvg.model.sampling import sample
from hvg.parts.noise_levels import karras_sigmas
from hvg.parts.part import PartConfig
from hvg.parts.plan import Guidance, GuidedClips, Sampler
from hvg.values.grid import Window
from hvg.values.known import Known

V, T = 4, 5
SIGMAS = karras_sigmas(5, 20.0, 0.03, 7.0)
SINGLE, UNGUIDED = SingleWindow(PartConfig()), ConstantGuidance(ConstantConfig())
SOLVERS = {
    "euler": EulerSolver(PartConfig()),
    "heun": HeunSolver(PartConfig()),
    "dpmpp_2m": DPMSolverPP2M(PartConfig()),
    "ddim": DDIMSolver(DDIMConfig(eta=0.5)),
}
SMALL = ProgressiveWindows(ProgressiveConfig(frames=3, temporal_views=2, views=3, view_frames=2))


class InTurns(SingleWindow):
    """The first view goes down all the way, and then the others."""

    def levels(self, num_steps: int, views: int, frames: int) -> torch.Tensor:
        down = torch.arange(num_steps + 1)
        first = torch.cat([down, down.new_full((num_steps,), num_steps)])
        second = torch.cat([down.new_zeros(num_steps), down])
        whole = second[:, None, None].repeat(1, views, frames)
        whole[:, 0] = first[:, None]
        return whole


IN_TURNS = InTurns(PartConfig())


def noise() -> torch.Tensor:
    return torch.randn(2, V, T, 2, 4, 4, generator=torch.Generator().manual_seed(0))


def by_cell(x, sigma, windows, scales):
    """An estimate of every cell by itself."""
    assert x.isfinite().all()
    return torch.tanh(x) / (1 + 0.3 * sigma)


def joined(x, sigma, windows, scales):
    """An estimate that depends on all of the window."""
    return by_cell(x + x.mean(dim=(1, 2), keepdim=True), sigma, windows, scales)


def step_noise(step: int) -> torch.Tensor:
    return torch.randn(noise().shape, generator=torch.Generator().manual_seed(step + 1))


def known(*views: int, frames: tuple[int, ...] = ()) -> Known:
    cells = torch.zeros(V, T, dtype=torch.bool)
    cells[list(views)] = True
    cells[:, list(frames)] = True
    return Known(latents=noise().flip(1), cells=cells)


def make(sampler=SINGLE, solver="euler", denoise=by_cell, **settings) -> torch.Tensor:
    return sample(denoise, noise(), SIGMAS, sampler, SOLVERS[solver], UNGUIDED, step_noise=step_noise, **settings)


@pytest.mark.parametrize("solver", ["euler", "heun", "dpmpp_2m"])
def test_cells_that_take_turns_end_where_they_end_together(solver):
    """As far as no cell looks at another; a multistep solver remembers each cell's own step before."""
    torch.testing.assert_close(make(IN_TURNS, solver), make(SINGLE, solver), rtol=1e-4, atol=1e-5)


def test_a_denoiser_is_told_the_level_of_every_cell_where_they_differ_and_a_number_where_not():
    seen = []

    def denoise(x, sigma, windows, scales):
        seen.append(sigma if isinstance(sigma, float) else sigma[:, :, 0].flatten(1))
        return x

    make(IN_TURNS, denoise=denoise)
    assert len(seen) == 10
    torch.testing.assert_close(seen[2][0], torch.tensor([SIGMAS[2], *[SIGMAS[0]] * 3]))
    torch.testing.assert_close(seen[5][1], torch.tensor([0.0, *[SIGMAS[0]] * 3]))
    seen.clear()
    make(denoise=denoise)
    assert seen == SIGMAS[:-1].tolist()


@pytest.mark.parametrize("solver", sorted(SOLVERS))
@pytest.mark.parametrize("sampler", [SINGLE, SMALL], ids=["single", "progressive"])
def test_known_cells_stay_as_they_are(solver, sampler):
    given = known(2, frames=(0,))
    made = make(sampler, solver, joined, known=given)
    assert torch.equal(made[:, given.cells], given.latents[:, given.cells])
    assert made.isfinite().all()
    assert not torch.allclose(made[:, 0], make(sampler, solver, joined)[:, 0])


def test_beside_known_cells_a_last_step_of_two_denoisings_has_one():
    seen = []

    def denoise(x, sigma, windows, scales):
        seen.append(sigma)
        return x

    make(solver="heun", denoise=denoise, known=known(2, frames=(0,)))
    assert len(seen) == 2 * 5 - 1


def test_coarse_grids_keep_what_is_known():
    def resize(x: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
        return torch.nn.functional.interpolate(x.flatten(0, 2), size, mode="nearest").unflatten(0, x.shape[:3])

    given = known(1, frames=(0,))
    made = make(CoarseToFineWindows(CoarseToFineConfig()), known=given, resize=resize)
    assert torch.equal(made[:, given.cells], given.latents[:, given.cells])


def test_known_views_are_in_no_plan_and_join_its_windows_in_front():
    steps = planned_steps(SINGLE, SIGMAS.tolist(), T, known(1, 3).cells, torch.eye(V))
    assert {window.views for step in steps for window in step.windows} == {(1, 3, 0, 2)}
    assert all(window.weights.shape == (4, T) for step in steps for window in step.windows)
    assert steps[0].needed.tolist() == [[True] * T, [False] * T, [True] * T, [False] * T]


def test_a_plan_may_ask_for_the_nearest_known_view_alone():
    class Alone(Sampler):
        def windows(self, step: int, num_steps: int, views: int, frames: int) -> list[Window]:
            return [Window((view,), tuple(range(frames)), torch.ones(1, frames)) for view in range(views)]

        def known(self, step: int, num_steps: int, views: int, frames: int) -> int | None:
            return 1

    nearness = torch.tensor([[1.0, 0.1, 0.2, 0.9], [0.1, 1, 0, 0], [0.2, 0, 1, 0], [0.9, 0, 0, 1]])
    steps = planned_steps(Alone(), [1.0, 0.0], T, known(0, 2).cells, nearness)
    assert [window.views for window in steps[0].windows] == [(0, 1), (0, 3)]


def test_where_everything_is_known_nothing_can_be_made():
    with pytest.raises(HvgError, match="every picture is known"):
        make(known=known(*range(V)))


def test_a_window_that_forgets_a_cell_that_moves_is_refused():
    class Forgetful(InTurns):
        def windows(self, step: int, num_steps: int, views: int, frames: int) -> list[Window]:
            return [Window((0,), tuple(range(frames)), torch.ones(1, frames))]

    with pytest.raises(HvgError, match=r"leave out \(view, frame\) \[\(1, 0\)"):
        make(Forgetful(PartConfig()))


def test_every_cell_is_guided_as_at_its_own_level():
    class ByLevel(Guidance):
        def scales(self, clips: GuidedClips, sigma: float) -> torch.Tensor:
            return torch.full((1, *clips.grid), 1 + sigma)

    level = torch.tensor([[0.0, 2.0], [5.0, 2.0]])[None, ..., None, None, None]
    scales = scales_of_cells(ByLevel(), GuidedClips(grid=(2, 2, 3)), [0, 2], level)
    assert scales.tolist() == [[[[1, 3], [6, 3]]] * 2]
