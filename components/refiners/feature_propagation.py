"""Frames that look at a key frame near them: its features are more keys and values of their spatial attention.

Source: ReImagine (arXiv 2604.19720) names feature propagation and gives no formula; ours is that of sparse attention between
frames (Tune-A-Video, arXiv 2212.11565; TokenFlow, arXiv 2307.10373, propagates what attention gives instead). In a window of
latent frames 0, ..., t - 1 every ``every``-th is a key frame. At every step and noise level, with F_j(s) the tokens that spatial
attention sees of frame j at the site s of the network, and k(j) the key frame nearest to j, the earlier of two,

    attention(Q(F_j), K([F_j, F_k(j)]), V([F_j, F_k(j)]))

takes the place of attention(Q(F_j), K(F_j), V(F_j)), in one softmax. The key frames' tokens are those of a pass over the key
frames alone, with their own conditioning. A key frame sees itself twice, which by itself changes nothing.
"""

from collections.abc import Mapping
from typing import Literal

from pydantic import Field
from torch import Tensor

from hvg.core.bounds import FrameCount
from hvg.core.errors import HvgError
from hvg.parts.refiner import Attended, Estimate, Refiner, RefinerConfig
from hvg.values.conditioning import Conditioning
from hvg.values.grid import ViewGrid


class FeaturePropagationConfig(RefinerConfig):
    """Which frames are looked at, and where."""

    every: FrameCount = Field(4, description="Latent frames of a window from one key frame to the next.")
    sites: Literal["all", "first_half", "second_half"] = Field(
        "all", description="In which of the network's spatial attentions, by the half that they stand in."
    )


class FeaturePropagation(Refiner[FeaturePropagationConfig]):
    """SDEdit by a network whose frames see the nearest key frame."""

    def looks(self, frames: int) -> float:
        keys = len(range(0, frames, self.config.every))
        return 1 + keys / frames * (keys < frames)

    def around(self, estimate: Estimate, attended: Attended) -> Estimate:
        def looking(
            noisy: Tensor, sigma: Tensor, conditioning: Conditioning, frame_index: Tensor | None, grid: ViewGrid
        ) -> Tensor:
            keys = [*range(0, noisy.shape[2], self.config.every)]
            if len(keys) < noisy.shape[2]:
                tokens = attended(*_of_frames(keys, noisy, sigma, conditioning, frame_index, grid))
                nearest = [nearest_key(frame, len(keys), self.config.every) for frame in range(noisy.shape[2])]
                memory = {site: x[:, :, nearest] for site, x in _chosen(tokens, self.config.sites).items()}
                conditioning = Conditioning.merge([conditioning, Conditioning(memory=memory)])
            return estimate(noisy, sigma, conditioning, frame_index, grid)

        return looking


def nearest_key(frame: int, count: int, every: int) -> int:
    """Number of the key frame that is nearest to a frame, of ``count`` that lie at 0, ``every``, ...; of two the earlier."""
    return min((frame + (every - 1) // 2) // every, count - 1)


def _chosen(tokens: Mapping[str, Tensor], sites: str) -> dict[str, Tensor]:
    """Those of the network's sites, which come in the order in which it runs them, that frames look through."""
    names, half = [*tokens], (len(tokens) + 1) // 2
    chosen = {"all": names, "first_half": names[:half], "second_half": names[half:]}[sites]
    if not chosen:
        raise HvgError(f"feature_propagation with sites={sites} finds none among {', '.join(names) or 'no sites'}")
    return {site: tokens[site] for site in chosen}


def _of_frames(
    frames: list[int],
    noisy: Tensor,
    sigma: Tensor,
    conditioning: Conditioning,
    frame_index: Tensor | None,
    grid: ViewGrid,
) -> tuple[Tensor, Tensor, Conditioning, Tensor | None, ViewGrid]:
    """What a network is asked about some of the frames. Axes of length 1 hold for all of them."""

    def some(x: Tensor) -> Tensor:
        return x if x.shape[2] == 1 else x[:, :, frames]

    index = None if frame_index is None else frame_index[:, frames]
    return some(noisy), some(sigma), conditioning.map(some), index, grid.select(slice(None), frames)
