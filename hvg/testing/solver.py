"""Checks of what every solver promises."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from hvg.core.random_keys import generator
from hvg.parts.noise_levels import PURE_NOISE
from hvg.parts.plan import Level, Solver, SolverStep
from hvg.testing.building import make, require
from hvg.testing.outputs import check_batch_independence, check_device

_MEAN, _SPREAD = 0.7, 0.5
# Levels of a walk: as EDM's, each a part of the one before; and those of a rectified flow, s = 1, .995, ..., .005, 0.
_FALLING = (*(20 * (0.002 / 20) ** (i / 199) for i in range(200)), 0.0)
_FROM_PURE_NOISE = (PURE_NOISE, *(200 / i - 1 for i in range(1, 200)), 0.0)


def check_solver(cls: type[Solver], config: Any) -> None:
    """Runs every check below. Raises: AssertionError that says which promise is broken."""
    solver = make(cls, config)
    check_last_step(solver)
    check_cells(solver)
    check_walk(solver, _FALLING)
    check_walk(solver, _FROM_PURE_NOISE)

    def run(start: Tensor, fresh: Tensor) -> dict[str, Tensor]:
        return {"the latents": _walk(solver, start, _FALLING, fresh)}

    check_batch_independence(run, (_noise("start"), _noise("fresh")))
    check_device(run, (_noise("start"), _noise("fresh")))


def check_last_step(solver: Solver) -> None:
    """The step to level 0 gives the estimate itself."""
    x0 = _noise("x0")
    stepped = solver.step(3 * x0 + 1, x0, _at(0.5, 0.0))
    require(torch.equal(stepped, x0), "the step to level 0 has to give the estimate")


def check_cells(solver: Solver) -> None:
    """Where cells are at levels of their own, each makes the step that it would make among others at its level."""
    x, x0, fresh = _noise("x"), _noise("x0"), _noise("fresh")
    levels, following = (2.0, 0.5, 30.0), (1.0, 0.0, 10.0)
    here, there = (torch.tensor(each).view(1, 3, 1, 1, 1, 1) for each in (levels, following))
    at = _at(here, there, fresh)
    together = solver.step(x.clone(), x0.clone(), at)
    for view, (sigma, sigma_next) in enumerate(zip(levels, following, strict=True)):
        of_view = slice(view, view + 1)
        cells = (x[:, of_view].clone(), x0[:, of_view].clone())
        alone = solver.step(*cells, _at(sigma, sigma_next, fresh[:, of_view]))
        close = torch.allclose(together[:, of_view], alone, rtol=1e-4, atol=1e-4)
        require(
            close, f"a cell that goes from level {sigma} to {sigma_next} steps otherwise beside others at other levels"
        )


def check_walk(solver: Solver, levels: Sequence[float]) -> None:
    """A walk keeps shape and type, changes nothing that it is given, and brings noise to Gaussian data of the known spread."""
    for dtype in (torch.float32, torch.float64):
        made = _walk(solver, _noise("start").to(dtype), levels)
        require(made.dtype == dtype, f"{dtype} latents come back as {made.dtype}")
        require(made.shape == _noise("start").shape, f"the latents come back as {tuple(made.shape)}")
    # 2,880 numbers: standard errors are 0.01 of the mean, 0.007 of the spread; the rest is what long steps may cost.
    mean, spread = made.mean().item(), made.std().item()
    near = abs(mean - _MEAN) < 0.1 and abs(spread - _SPREAD) < 0.1
    require(near, f"data of mean {_MEAN} and spread {_SPREAD} came out with {mean:.2f} and {spread:.2f}")
    x, x0 = _noise("x"), _noise("x0")
    before = x.clone(), x0.clone()
    solver.step(x, x0, _at(2.0, 1.0))
    require(torch.equal(x, before[0]) and torch.equal(x0, before[1]), "a step changes the tensors that it is given")


def _walk(solver: Solver, start: Tensor, levels: Sequence[float], fresh: Tensor | None = None) -> Tensor:
    """From noise at the first level to 0, the last, by the exact denoiser of data from N(mean, spread^2).

    fresh: noise of every step; None: another one for each.
    """
    x, state = levels[0] * start, {}
    for step, (sigma, sigma_next) in enumerate(pairwise(levels)):
        noise = _noise("fresh", step).to(start) if fresh is None else fresh
        x = solver.step(x, _denoise(x, sigma), _at(sigma, sigma_next, noise, state))
    return x


def _denoise(x: Tensor, sigma: Level) -> Tensor:
    return (_SPREAD**2 * x + sigma**2 * _MEAN) / (_SPREAD**2 + sigma**2)


def _at(
    sigma: Level, sigma_next: Level, noise: Tensor | None = None, state: dict[str, Any] | None = None
) -> SolverStep:
    fresh = _noise("fresh") if noise is None else noise
    return SolverStep(
        sigma=sigma, sigma_next=sigma_next, denoise=_denoise, noise=lambda: fresh, state={} if state is None else state
    )


def _noise(*key: int | str) -> Tensor:
    return torch.randn(2, 3, 5, 6, 4, 4, generator=generator("solver", *key))
