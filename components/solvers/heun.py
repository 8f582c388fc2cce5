"""Heun's method on the probability-flow ODE. Source: EDM (arXiv 2206.00364), algorithm 1 (no churn).

The first step of a rectified flow, from pure noise, is Euler's: a mean of slopes over an endless way in sigma is none.
"""

import torch
from torch import Tensor

from hvg.parts.noise_levels import PURE_NOISE
from hvg.parts.part import PartConfig
from hvg.parts.plan import Solver, SolverStep


class HeunSolver(Solver[PartConfig]):
    """Two denoisings per step, one in the last, and in a first from pure noise; deterministic, second order."""

    def step(self, x: Tensor, x0: Tensor, at: SolverStep) -> Tensor:
        euler = x0 + (at.sigma_next / at.sigma) * (x - x0)
        is_euler = at.moved(at.ends | (at.sigma >= PURE_NOISE), True)
        if torch.as_tensor(is_euler).all():
            return euler
        slope = (x - x0) / at.sigma
        slope_next = (euler - at.denoise(euler, at.sigma_next)) / at.sigma_next
        corrected = x + (at.sigma_next - at.sigma) * (slope + slope_next) / 2
        return corrected if is_euler is False else torch.where(is_euler, euler, corrected)
