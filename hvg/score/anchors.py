"""Anchors: pictures that nobody has to train for, scored like a model's, so that a reader knows what a number is worth.

The truth itself is not 1 under every metric, and a blank video is not always the worst. Listening tests call such samples
the hidden reference and the anchors (ITU-R BS.1534). Anchors depend on protocol, clips and truth alone, on no arm and seed.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import conv2d, pad

from hvg.config.command_options import AnchorChoice
from hvg.core.eight_bit import frames_to_uint8
from hvg.core.labels import readable
from hvg.core.required import required
from hvg.score.baselines import photo_of
from hvg.score.protocol import ClipMeasurements, Protocol
from hvg.values.long_clip import LongClip
from hvg.values.scored_clip import ScoredClip

# Standard deviation of the blurred truth's Gaussian over the picture's height: a face is gone, arms and legs are not.
BLUR = 0.04

# Anchor -> label of a metric -> value; None where the metric is not available.
AnchorValues = dict[str, dict[str, float | None]]


class Anchor(NamedTuple):
    """label: its name in tables. explanation: more of what it is. make: a clip -> (V, T, 3, H, W) uint8."""

    label: str
    explanation: str
    make: Callable[[ScoredClip], Tensor]


def _photo(clip: ScoredClip) -> Tensor:
    height, width = clip.truth.shape[-2:]
    photo = photo_of(required(clip.reference, "ScoredClip.reference"), (height, width))
    return frames_to_uint8(photo[0]).expand_as(clip.truth)


def _blank(clip: ScoredClip) -> Tensor:
    """The colour of the background, where that is plain and larger than the person."""
    seen = clip.valid if clip.valid.any() else torch.ones_like(clip.valid)
    colour = clip.truth[seen].transpose(0, 1).flatten(1).median(dim=1).values
    return colour[:, None, None].expand_as(clip.truth)


ANCHORS: Mapping[str, Anchor] = {
    "truth": Anchor("the truth itself", "scored against itself", lambda clip: clip.truth),
    "blurred_truth": Anchor(
        "the truth, blurred",
        f"Gaussian of {100 * BLUR:g} % of the height",
        lambda clip: blurred(clip.truth, BLUR * clip.truth.shape[-2]),
    ),
    "photo": Anchor("the photo, copied", "in every view and frame", _photo),
    "blank": Anchor("a blank video", "the median colour of each clip", _blank),
}

# Label of the floor of a distance between sets (``Score.floor``).
TWO_SAMPLES = "two samples of the truth"


def chosen(choice: AnchorChoice) -> tuple[str, ...]:
    """The names of anchors that the choice means."""
    return {"none": (), "truth": ("truth",), "all": tuple(ANCHORS)}[choice]


def anchor_label(name: str) -> str:
    """Label of an anchor in tables, also of one that only another version knows."""
    return ANCHORS[name].label if name in ANCHORS else readable(name)


def measure_anchors(
    protocol: Protocol, clip: ScoredClip | LongClip, names: Sequence[str]
) -> dict[str, ClipMeasurements]:
    """Anchor -> what every metric keeps of it. Those that the clip does not allow, as the photo where it has none, are left
    out. Nobody was told anything to make them.

    A clip that is read in pieces has every piece's own. Raises: as of ``Protocol.prepare``.
    """
    if isinstance(clip, LongClip) or clip.reference is None:
        names = [name for name in names if name != "photo"]
    return {
        name: protocol.measure(
            clip.map(lambda piece, make=ANCHORS[name].make: replace(piece, prediction=make(piece), told=None))
        )
        for name in names
    }


def anchor_values(protocol: Protocol, kept: Mapping[str, Mapping[str, ClipMeasurements]]) -> AnchorValues:
    """Scores of the anchors. kept: clip id -> ``measure_anchors`` of it; anchors that some clip lacks are left out."""
    names = [name for name in ANCHORS if kept and all(name in of_clip for of_clip in kept.values())]
    scores = {name: protocol.reduce({clip_id: of_clip[name] for clip_id, of_clip in kept.items()}) for name in names}
    return {name: {label: score["value"] for label, score in of_anchor.items()} for name, of_anchor in scores.items()}


def blurred(frames: Tensor, pixels: float) -> Tensor:
    """(V, T, 3, H, W) uint8 blurred by a Gaussian of a standard deviation in pixels; edges are repeated."""
    radius = math.ceil(4 * pixels)
    offset = torch.arange(-radius, radius + 1, device=frames.device)
    weights = torch.exp(-offset.square() / (2 * pixels**2))
    weights = weights / weights.sum()
    planes = pad(frames.flatten(0, 2)[:, None].float(), (radius,) * 4, mode="replicate")
    planes = conv2d(conv2d(planes, weights[None, None, None]), weights[None, None, :, None])
    return planes[:, 0].unflatten(0, frames.shape[:3]).round().clamp(0, 255).to(torch.uint8)
