"""DPM-Solver++(2M). Source: arXiv 2211.01095, algorithm 2, with alpha = 1 and lambda = -ln sigma."""

from math import inf

import torch
from torch import Tensor

from hvg.parts.noise_levels import log
from hvg.parts.part import PartConfig
from hvg.parts.plan import Solver, SolverStep


class DPMSolverPP2M(Solver[PartConfig]):
    """One denoising per step, and the one before; deterministic, second order. The first step and the last are Euler's."""

    def step(self, x: Tensor, x0: Tensor, at: SolverStep) -> Tensor:
        # Endlessly far back, an estimate says nothing of the slope: so a cell's first step is Euler's.
        sigma_before, x0_before = at.state.get("before", (inf, x0))
        at.state["before"] = (at.moved(at.sigma, sigma_before), at.moved(x0, x0_before))
        if at.ends is True:
            return x0
        r = log(sigma_before / at.sigma) / log(at.sigma / at.sigma_next)
        extrapolated = x0 + (x0 - x0_before) / (2 * r)
        stepped = extrapolated + (at.sigma_next / at.sigma) * (x - extrapolated)
        return stepped if at.ends is False else torch.where(at.ends, x0, stepped)
