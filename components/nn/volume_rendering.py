"""Volume rendering along rays: where samples lie, and what they add up to."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class RaySamples:
    """S samples on each of Q rays. place: (Q, S) along the ray, rising. length: (Q), how much of the ray each stands for."""

    place: Tensor
    length: Tensor


def samples_inside(inside: Tensor, near: Tensor, step: Tensor, count: int, jitter: Tensor | None = None) -> RaySamples:
    """``count`` stratified samples on those of K consecutive pieces of rays that lie inside, evenly over all of them.

    inside: (Q, K) bool. near, step: (Q), where the first piece begins and how long each is. jitter: (Q, count) in [0, 1), the
    place within each stratum; None: its middle. Rays with no piece inside have samples of length 0.
    """
    filled = inside.to(near).cumsum(dim=1)
    total = filled[:, -1:]
    strata = torch.arange(count, device=near.device, dtype=near.dtype)
    strata = strata + (0.5 if jitter is None else jitter)
    wanted = (strata * (total / count)).contiguous()
    # The piece in which the length of all that is inside first exceeds what is wanted.
    piece = torch.searchsorted(filled, wanted, right=True).clamp_max(inside.shape[1] - 1)
    within = (wanted - (filled.gather(1, piece) - 1)).clamp(0, 1)
    return RaySamples(place=near[:, None] + (piece + within) * step[:, None], length=step * total[:, 0] / count)


def accumulate(
    density: Tensor, colour: Tensor, place: Tensor, length: Tensor, opaque: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Premultiplied colour (Q, C), alpha (Q) and mean place (Q), 0 where alpha is, of S samples on each ray.

    density: (Q, S) >= 0, per unit of ``length`` (Q), which each sample stands for. colour: (Q, S, C). place: (Q, S). opaque: (Q)
    bool, whether nothing is seen through a ray's last sample.
    Source: NeRF (arXiv 2003.08934), equation 3.
    """
    absorbed = density * length[:, None]
    let_through = torch.exp(absorbed - absorbed.cumsum(dim=1))
    share = -torch.expm1(-absorbed)
    last = torch.where(opaque, 1.0, share[:, -1])
    weights = let_through * torch.cat([share[:, :-1], last[:, None]], dim=1)
    alpha = weights.sum(dim=1)
    mean = (weights * place).sum(dim=1) / alpha.clamp_min(torch.finfo(alpha.dtype).tiny)
    return (weights[..., None] * colour).sum(dim=1), alpha, torch.where(alpha > 0, mean, 0)
