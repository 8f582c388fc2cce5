"""A photo's colours on the body in it: where the camera sees it, mirrored, and spread over the mesh to where it does not."""

import torch
from torch import Tensor
from torch.nn.functional import embedding_bag

from hvg.geometry.correspondence import sample_pixels

from .photo_body import BodyInPhoto, RestShape

# Share of the person in the pixels around a vertex below which their colour is the background's.
_LEAST_ALPHA = 0.9
# Of a pixel that the person covers in part, the background has a say in its colour: it counts by this power of alpha.
_POWER = 10
# What a vertex passes on of what it was told: the nearer a seen vertex is, the more it counts.
_PASSED_ON = 0.9


def lifted_colours(
    photo: Tensor,
    alpha: Tensor,
    shown: BodyInPhoto,
    shape: RestShape,
    edges: tuple[Tensor, Tensor],
    sweeps: int,
) -> Tensor:
    """Colours (P, 3) of a body's vertices from a photo (3, H, W) and its alpha (1, H, W), in the photo's range.

    A vertex that is not seen has the colour of its mirror image where that is; the others have a mean of what lies around them on
    the mesh, ``sweeps`` edges far, the near ones first; and what lies on a part of the mesh of its own has the mean of all.
    edges: of the mesh, as of ``neighbours``.
    """
    share = alpha**_POWER
    sampled = sample_pixels(torch.cat([photo * share, share, alpha])[None], shown.pixels[None])[0]
    colour, weight = sampled[:3] / sampled[3].clamp_min(1e-6), shown.seen & (sampled[4] > _LEAST_ALPHA)
    other = shape.mirrored
    colour = torch.where(weight, colour, colour[:, other])
    known = weight | weight[other]
    told = torch.cat([colour, torch.ones_like(colour[:1])]) * known
    spread = _spread(told.T.contiguous(), known, edges, sweeps)
    mean = told.sum(dim=1) / known.sum().clamp_min(1)
    total = spread[:, 3:]
    return torch.where(total > 0, spread[:, :3] / total.clamp_min(torch.finfo(total.dtype).tiny), mean[:3])


def _spread(values: Tensor, known: Tensor, edges: tuple[Tensor, Tensor], sweeps: int) -> Tensor:
    """Values (P, K), which stay where they are known (P), passed on along the edges of a mesh; nothing gets there that is far."""
    around, counts = edges
    # Only what is not known changes.
    waiting = (~known).nonzero()[:, 0]
    around, counts = around[(~known).repeat_interleave(counts)], counts[waiting]
    starts, spread = counts.cumsum(dim=0) - counts, values.clone()
    for _ in range(sweeps):
        told = embedding_bag(around, spread, starts, mode="mean")
        spread.index_copy_(0, waiting, _PASSED_ON * told)
    return spread
