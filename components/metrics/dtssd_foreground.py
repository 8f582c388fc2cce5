"""Error of the change over time, on the person."""

import torch
from torch import Tensor

from hvg.core.required import required
from hvg.parts.frame_metric import ChangeMetric, unit_range
from hvg.values.scored_clip import ScoredClip


class ForegroundTemporalChangeError(ChangeMetric):
    """``dtssd`` over the pixels whose true alpha exceeds 0.5 in one of the two frames; then the mean over frames.

    A still background that every method gets right lowers the plain error, the more, the smaller the person is; this leaves
    it out. It sees flicker and wrong motion, not wrong looks, and as there some fading makes it less. Two frames
    without such a pixel have no score, for every arm alike.
    """

    definition = "dtssd_foreground/rgb-unit-range/mean-over-{config.average}/v1"
    axis = 1
    frames_before = 1
    verdict = False
    on_person = True
    requires = frozenset({"alpha"})

    def errors(self, clip: ScoredClip, pair: tuple[int, int]) -> Tensor:
        alpha = required(clip.alpha, "alpha")
        inside = ((alpha[:, pair[0]] > 0.5) | (alpha[:, pair[1]] > 0.5))[:, None].double()
        views = []
        for prediction, truth, person in zip(clip.prediction, clip.truth, inside, strict=True):
            made, true = (unit_range(frames[pair[1]]) - unit_range(frames[pair[0]]) for frames in (prediction, truth))
            views.append(((made - true).square() * person).sum() / (3 * person.sum()))
        return torch.stack(views).sqrt().cpu()
