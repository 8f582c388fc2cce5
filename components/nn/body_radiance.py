"""The network of a person's radiance field: what is known of a point, to its density and its colour."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import linear, softplus

# Metres over which a position's slowest wave repeats; each further one is twice as fast.
_PERIOD = 2.0
# Waves of the position that rides on the pelvis, at most: loose clothes have no fine places.
_PELVIS_WAVES = 2
# Of a distance, so that a shell's width is about one.
_PER_METRE = 10.0


@dataclass(frozen=True, kw_only=True)
class PointFacts:
    """What is known of M points near a person besides the photo's features; metres.

    distance: (M) to the skin, below 0 inside. rest: (M, 3) where the point is when the body is at rest, and pelvis: (M, 3) where
    it is if it rides on the pelvis, both from the pelvis at rest. legs: (M, 4) to the bones of thighs and shins. normal,
    photo_normal: (M, 3) of the skin, in the world and in the photo's camera axes. direction: (M, 3) unit, of the ray.
    """

    distance: Tensor
    rest: Tensor
    pelvis: Tensor
    legs: Tensor
    normal: Tensor
    photo_normal: Tensor
    direction: Tensor

    # Of ``inputs``, besides the waves of positions.
    PLAIN = 1 + 3 + 3 + 4 + 3 + 3 + 1

    def inputs(self, frequencies: int) -> list[Tensor]:
        """What the trunk is told, (M, k) each; directions only by how flat the skin is seen."""
        facing = (self.normal * self.direction).sum(dim=-1, keepdim=True)
        plain = [self.rest, self.pelvis, self.legs, self.normal, self.photo_normal, facing]
        fine = [_waves(self.rest, frequencies), _waves(self.pelvis, min(frequencies, _PELVIS_WAVES))]
        return [_PER_METRE * self.distance[:, None], *plain, *fine]


def _waves(points: Tensor, frequencies: int) -> Tensor:
    """Of each coordinate of points (M, 3) sines, then cosines, (M, 6 frequencies); each wave is half as long as the one before.

    As one product of matrices and one sine, of shifted angles where a cosine is meant.
    """
    rates = 2 * math.pi / _PERIOD * 2.0 ** torch.arange(frequencies, device=points.device)
    turns = torch.block_diag(*[torch.cat([rates, rates])[None]] * 3).to(points)
    shifts = torch.tensor([0.0, math.pi / 2], device=points.device).repeat_interleave(frequencies).repeat(3)
    return torch.addmm(shifts.to(points), points, turns).sin_()


class BodyRadiance(nn.Module):
    """An MLP with residual layers: density (M) per metre, and colours (M, 3) in [-1, 1].

    The density is that of a skin of some thickness, plus what the network says. The colour is a blend of the photo's colours
    at the places that it was looked up, and of one of the network's own, so that patterns are copied rather than recalled.
    """

    def __init__(self, told: int, whole: int, width: int, depth: int, frequencies: int, candidates: int) -> None:
        """told: features of the photo for a point, and whole: of all of it. candidates: colours to blend."""
        super().__init__()
        self.frequencies = frequencies
        inputs = PointFacts.PLAIN + 6 * (frequencies + min(frequencies, _PELVIS_WAVES)) + told
        self.enter = nn.Linear(inputs, width)
        self.tell = nn.Linear(whole, width, bias=False)
        self.layers = nn.ModuleList(nn.Linear(width, width) for _ in range(depth - 1))
        self.density = nn.Linear(width, 1)
        half = max(width // 2, 8)
        self.hidden = nn.Linear(width + 3, half)
        self.colour = nn.Linear(half, candidates + 1 + 3)

    @property
    def multiplications(self) -> int:
        """For one point."""
        layers = [layer for layer in self.modules() if isinstance(layer, nn.Linear) and layer is not self.tell]
        return sum(layer.weight.numel() for layer in layers)

    def forward(
        self,
        facts: PointFacts,
        told: Sequence[Tensor],
        whole: Tensor,
        clip: Tensor,
        candidates: Tensor,
        skin: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """told: (M, k) each. whole: (B, whole), and clip: (M), which of them. candidates: (M, N, 3). skin: (M), what is added to
        the density before it is made positive."""
        x = torch.cat([*facts.inputs(self.frequencies), *told], dim=1).to(self.enter.weight.dtype)
        of_photo = self.tell(whole)
        x = torch.relu_(self.enter(x) + (of_photo if len(of_photo) == 1 else of_photo[clip]))
        for layer in self.layers:
            x = x + torch.relu_(layer(x))
        density = softplus(self.density(x)[:, 0].float() + skin)
        # What the layer makes of the trunk and of the ray's direction, side by side.
        of_trunk, of_ray = self.hidden.weight.split([x.shape[1], 3], dim=1)
        hidden = torch.relu_(torch.addmm(linear(facts.direction.to(x), of_ray, self.hidden.bias), x, of_trunk.T))
        out = self.colour(hidden).float()
        blend, own = out[:, :-3].softmax(dim=1), out[:, -3:].tanh()
        return density, (blend[:, :-1, None] * candidates).sum(dim=1) + blend[:, -1:] * own
