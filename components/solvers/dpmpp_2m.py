"""DPM-Solver++(2M). Source: arXiv 2211.01095, algorithm 2, with alpha = 1 and lambda = -ln sigma."""

from math import log

from torch import Tensor

from hvg.parts.part import PartConfig
from hvg.parts.plan import Solver, SolverStep


class DPMSolverPP2M(Solver[PartConfig]):
    """One denoising per step, and the one before; deterministic, second order. The first step and the last are Euler's."""

    def step(self, x: Tensor, x0: Tensor, at: SolverStep) -> Tensor:
        before = at.state.get("before")
        at.state["before"] = (at.sigma, x0)
        if at.sigma_next == 0:
            return x0
        if before is None:
            extrapolated = x0
        else:
            sigma_before, x0_before = before
            r = log(sigma_before / at.sigma) / log(at.sigma / at.sigma_next)
            extrapolated = x0 + (x0 - x0_before) / (2 * r)
        return extrapolated + (at.sigma_next / at.sigma) * (x - extrapolated)
