"""Euler's method on the probability-flow ODE. Source: EDM (arXiv 2206.00364), algorithm 1 without the correction."""

from torch import Tensor

from hvg.parts.part import PartConfig
from hvg.parts.plan import Solver, SolverStep


class EulerSolver(Solver[PartConfig]):
    """One denoising per step; deterministic, first order."""

    def step(self, x: Tensor, x0: Tensor, at: SolverStep) -> Tensor:
        # x + (sigma_next - sigma) (x - x0) / sigma, written so that the last step, to 0, returns x0 exactly.
        return x0 + (at.sigma_next / at.sigma) * (x - x0)
