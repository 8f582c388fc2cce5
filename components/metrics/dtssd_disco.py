"""Error of the change over time, as the DisCo script computes it."""

from typing import ClassVar

import numpy as np
import torch

from hvg.parts.frame_metric import CellMetric
from hvg.parts.metric import Measurement
from hvg.values.long_clip import LongClip
from hvg.values.scored_clip import ScoredClip

from ..nn.resizing import pil_bicubic

# The side of the square that frames are resized to, whatever their shape.
SIZE = 256


class DiscoTemporalChangeError(CellMetric):
    """Mean square error of the change from one frame to the next, values in 0..255, at 256 x 256; no root is taken.

    The DisCo script of human-video papers calls this dtSSD; ``dtssd`` takes the root, of values in [0, 1], at the video's
    own size. As there, a video that fades has less. A clip with one frame has no score. Source: Wangt-CN/DisCo, tool/metrics.
    """

    definition = "dtssd_disco/pil-bicubic-256/mean-over-{config.average}/v1"
    higher_is_better = False
    verdict: ClassVar[bool] = False

    def measure_pieces(self, clip: LongClip) -> Measurement:
        """The same as ``measure``, read piece by piece."""
        kept = [self.measure(piece)["cells"] for piece in clip.pieces(before=1) if piece.grid[1] > 1]
        # The last frame of a piece is the first of the next, which knows how it changes.
        return {"cells": np.concatenate([*(cells[:, :-1] for cells in kept), kept[-1][:, -1:]], axis=1)}

    @torch.no_grad()
    def measure(self, clip: ScoredClip) -> Measurement:
        """``cells``: (V, T) float64, the error of the change from a frame to the next; NaN where there is none."""
        frames = clip.grid[1]
        if frames == 1:
            return {}
        cells = torch.full(clip.grid, torch.nan, dtype=torch.float64)
        before = None
        for t in range(frames):
            error = pil_bicubic(clip.prediction[:, t], SIZE) - pil_bicubic(clip.truth[:, t], SIZE)
            if before is not None:
                change = (error - before).double().square().mean(dim=(1, 2, 3)).cpu()
                both = (clip.valid[:, t - 1] & clip.valid[:, t]).cpu()
                cells[:, t - 1] = change.where(both, torch.nan)
            before = error
        return {"cells": cells.numpy()}
