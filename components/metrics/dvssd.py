"""Error of the change from view to view."""

from hvg.parts.frame_metric import ChangeMetric


class ViewChangeError(ChangeMetric):
    """Root mean square error of the change between neighbouring views of the circle, frames in [0, 1]; mean over pairs.

    dtSSD (Erofeev et al., BMVC 2015) along the other axis: a colour or a shape that jumps between two views where the truth
    does not counts, an error that all views share does not.
    """

    definition = "dvssd/rgb-unit-range/mean-over-{config.average}/v2"
    axis = 0
    frames_before = 0
