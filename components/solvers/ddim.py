"""DDIM, from deterministic to ancestral sampling. Source: DDIM (arXiv 2010.02502), equations 12 and 16.

There x is scaled to variance 1, with alpha = 1 / (1 + sigma^2). Divided by sqrt(alpha), equation 12 becomes

    x_next = x0 + sqrt(sigma_next^2 - up^2) (x - x0) / sigma + up z,    z ~ N(0, 1),
    up = eta (sigma_next / sigma) sqrt(sigma^2 - sigma_next^2),

and up is equation 16's sigma_t in these units. With q = eta sigma_next / sigma, sigma_next^2 - up^2 is
sigma_next^2 (1 - eta^2 + q^2), which no rounding makes negative.
"""

from pydantic import Field
from torch import Tensor

from hvg.parts.noise_levels import sqrt
from hvg.parts.part import PartConfig
from hvg.parts.plan import Solver, SolverStep


class DDIMConfig(PartConfig):
    """Setting of the share of fresh noise."""

    eta: float = Field(
        0.0, ge=0, le=1, description="0: deterministic, the same as `euler`. 1: ancestral sampling, as in DDPM."
    )


class DDIMSolver(Solver[DDIMConfig]):
    """One denoising per step; fresh noise unless eta is 0 or the step goes to 0."""

    def step(self, x: Tensor, x0: Tensor, at: SolverStep) -> Tensor:
        eta, ratio = self.config.eta, at.sigma_next / at.sigma
        up = eta * ratio * sqrt(at.sigma**2 - at.sigma_next**2)
        if eta == 0 or at.ends is True:
            return x0 + ratio * (x - x0)
        return x0 + ratio * sqrt(1 - eta**2 + (eta * ratio) ** 2) * (x - x0) + up * at.noise()
