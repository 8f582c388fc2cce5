"""Pixels folded into channels: the settings and the arithmetic that codecs of pixels share."""

from typing import Literal

from pydantic import Field
from torch import Tensor
from torch.nn.functional import pixel_shuffle, pixel_unshuffle

from hvg.core.bounds import Scale
from hvg.parts.part import PartConfig
from hvg.values.layout import per_frame

_ZERO = {"white": 1.0, "grey": 0.0}


class FoldedPixelsConfig(PartConfig):
    """How pixels become latents: (frames - zero) * scale."""

    factor: int = Field(4, ge=1, le=64, description="Side of the square of pixels that becomes one latent cell.")
    scale: Scale = Field(
        1.0, description="Multiplies the latents, so that their spread fits the prediction's sigma_data."
    )
    zero: Literal["white", "grey"] = Field(
        "white", description="Which colour is 0. With white, a zero-initialised network starts from a clean background."
    )


def fold_pixels(frames: Tensor, config: FoldedPixelsConfig) -> Tensor:
    """Frames (B, V, T, 3, H, W) as (B, V, T, C, h, w), one cell for each square; channels (3, row, column in the square)."""
    return (per_frame(lambda x: pixel_unshuffle(x, config.factor), frames) - _ZERO[config.zero]) * config.scale


def unfold_pixels(cells: Tensor, config: FoldedPixelsConfig) -> Tensor:
    """The frames of ``fold_pixels``."""
    return per_frame(lambda x: pixel_shuffle(x, config.factor), cells) / config.scale + _ZERO[config.zero]
