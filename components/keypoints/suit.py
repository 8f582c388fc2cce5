"""Key points of people in the calibration suit, by hue alone: a rule, no network."""

import torch
from torch import Tensor

from hvg.parts.metric import KeypointRegressor
from hvg.values.scored_clip import NotAvailable, ScoredClip

from ..people.suit import HUES, PARTS

# Half the way to the next hue, less a share that is nobody's: what lies there is a mixture of two parts.
_HUE_REACH = 0.35 / len(HUES)
# Chroma (largest minus smallest channel, in [0, 1]) of a pixel that lies wholly on the suit where it is darkest; a pixel
# with less counts for less, one with under half of it not at all.
_FULL_CHROMA = 0.35
# A part with this share of the suit's pixels is fully trusted, one with less than a sixth of it is not seen. The smallest
# part, a hand, has 0.015 of them.
_TRUSTED_SHARE = 0.02
_LEAST_CONFIDENCE = 1 / 6
# Half a limb's length in units of the root of the suit's area, and a little more: the thigh's is about 0.3.
_LIMB_REACH = 0.45
# Least share of the true person's pixels that has the suit's hues, and least number of parts that are seen.
_LEAST_SUIT, _LEAST_PARTS = 0.5, 10


class SuitKeypoints(KeypointRegressor):
    """Middles of the visible surface of 14 parts of the body, for clips of ``dataset=synthetic_suit``.

    Pixels vote for the part whose hue is theirs. A part's place is the mean of its votes near their median, so that single
    pixels in which two other parts mix do not move it. Moves with the picture by whole pixels exactly.
    """

    names = tuple(PARTS)
    root = ("trunk", "left_thigh", "right_thigh")
    joints = PARTS
    definition = "suit/v1"

    def check(self, clip: ScoredClip) -> None:
        """Raises: NotAvailable where the true person does not wear the suit."""
        votes = _votes(clip.truth.flatten(0, 1))
        seen = clip.truth.float().amin(dim=2) < 255 * (1 - _FULL_CHROMA) if clip.alpha is None else clip.alpha > 0.5
        share = float(votes.sum() / seen.sum().clamp_min(1))
        parts = int((_confidence(votes) > 0).any(dim=0).sum())
        if share < _LEAST_SUIT or parts < _LEAST_PARTS:
            raise NotAvailable(
                f"keypoints=suit knows only people in the suit (dataset=synthetic_suit); in clip '{clip.clip_id}' "
                f"{share:.0%} of the person's pixels and {parts} of {len(PARTS)} parts have its hues"
            )

    def locate(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        """Pixels (N, 14, 2) and confidence (N, 14) in pictures (N, 3, H, W) uint8."""
        votes = _votes(frames)
        total = votes.sum(dim=(1, 2, 3))
        row, column = (_median(votes.sum(dim=axis)) for axis in (3, 2))
        reach = _LIMB_REACH * total.sqrt()[:, None, None]
        y, x = (torch.arange(size, device=votes.device) + 0.5 for size in votes.shape[2:])
        down, across = ((y - row[..., None]).square(), (x - column[..., None]).square())
        near = votes * (down[..., :, None] + across[..., None, :] < reach[..., None].square())
        mass = near.sum(dim=(2, 3)).clamp_min(1e-6)
        pixels = torch.stack([(near.sum(dim=2) * x).sum(-1), (near.sum(dim=3) * y).sum(-1)], dim=-1) / mass[..., None]
        return pixels, _confidence(votes)


def _votes(frames: Tensor) -> Tensor:
    """(N, 14, H, W) in [0, 1]: how much every pixel of (N, 3, H, W) uint8 shows every part."""
    colour = frames.float() / 255
    low, high = colour.amin(dim=1), colour.amax(dim=1)
    chroma = high - low
    weight = (chroma / _FULL_CHROMA).clamp(max=1)
    hue = _hue(colour, high, chroma)
    known = hue.new_tensor([HUES[part] for part in PARTS])[:, None, None]
    away = ((hue[:, None] - known + 0.5) % 1 - 0.5).abs()
    return (away < _HUE_REACH) * (weight * (weight > 0.5))[:, None]


def _hue(colour: Tensor, high: Tensor, chroma: Tensor) -> Tensor:
    """Hue (N, H, W) in [0, 1) of colours (N, 3, H, W); any where chroma is 0. Source: HSV of Smith, SIGGRAPH 1978."""
    red, green, blue = colour.unbind(dim=1)
    safe = chroma.clamp_min(1e-6)
    sextant = torch.where(
        high == red,
        (green - blue) / safe,
        torch.where(high == green, (blue - red) / safe + 2, (red - green) / safe + 4),
    )
    return (sextant / 6) % 1


def _median(votes: Tensor) -> Tensor:
    """Pixel coordinate (N, K) of the median of votes along a side (N, K, S)."""
    below = votes.cumsum(dim=-1)
    return (below < 0.5 * below[..., -1:]).sum(dim=-1) + 0.5


def _confidence(votes: Tensor) -> Tensor:
    """(N, 14) in [0, 1]: 1 where a part has a good share of all votes, 0 where it is not seen."""
    mass = votes.sum(dim=(2, 3))
    confidence = (mass / (_TRUSTED_SHARE * mass.sum(dim=1, keepdim=True)).clamp_min(1e-6)).clamp(max=1)
    return confidence.where(confidence >= _LEAST_CONFIDENCE, 0.0)
