"""Photos' colours on the body in them: where the camera sees it, mirrored, and spread over the mesh to where it does not."""

from collections.abc import Sequence

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
    photos: Tensor,
    alphas: Tensor,
    shown: Sequence[BodyInPhoto],
    shape: RestShape,
    edges: tuple[Tensor, Tensor],
    sweeps: int,
) -> Tensor:
    """Colours (P, 3) of a body's vertices from photos (R, 3, H, W) and their alpha (R, 1, H, W), in the photos' range.

    A vertex has the colour that the first photo shows of it in which it is seen. One that is seen in none has the colour of its
    mirror image where that is; the others have a mean of what lies around them on the mesh, ``sweeps`` edges far, the near ones
    first; and what lies on a part of the mesh of its own has the mean of all.
    shown: the body in each photo. edges: of the mesh, as of ``neighbours``.
    """
    colour, weight = _sampled(photos[0], alphas[0], shown[0])
    for more in zip(photos[1:], alphas[1:], shown[1:], strict=True):
        found, seen = _sampled(*more)
        colour, weight = torch.where(weight, colour, found), weight | seen
    other = shape.mirrored
    colour = torch.where(weight, colour, colour[:, other])
    known = weight | weight[other]
    told = torch.cat([colour, torch.ones_like(colour[:1])]) * known
    spread = _spread(told.T.contiguous(), known, edges, sweeps)
    mean = told.sum(dim=1) / known.sum().clamp_min(1)
    total = spread[:, 3:]
    return torch.where(total > 0, spread[:, :3] / total.clamp_min(torch.finfo(total.dtype).tiny), mean[:3])


def _sampled(photo: Tensor, alpha: Tensor, shown: BodyInPhoto) -> tuple[Tensor, Tensor]:
    """Colours (3, P) at a photo's vertices, and (P) bool, whether they are seen there."""
    share = alpha**_POWER
    sampled = sample_pixels(torch.cat([photo * share, share, alpha])[None], shown.pixels[None])[0]
    return sampled[:3] / sampled[3].clamp_min(1e-6), shown.seen & (sampled[4] > _LEAST_ALPHA)


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
