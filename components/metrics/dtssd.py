"""Error of the change over time."""

from hvg.parts.frame_metric import ChangeMetric


class TemporalChangeError(ChangeMetric):
    """Root mean square error of the change from one frame to the next, frames in [0, 1]; then the mean over frames.

    It is 0 for the truth and for the truth plus any still picture: it sees flicker and wrong motion, not wrong looks.
    A still video is not ideal: the truth moves. But it is better than one that flickers, and fading to a blank picture
    makes any flicker less, so that this says what an arm does, and not which is better; ``temporal_warp`` is that metric.
    Source: dtSSD of Erofeev et al. (BMVC 2015), there on alpha mattes.
    """

    definition = "dtssd/rgb-unit-range/mean-over-{config.average}/v2"
    axis = 1
    frames_before = 1
    verdict = False
