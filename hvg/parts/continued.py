"""Marks on settings, of runs and of parts, that say how they may change when a run is continued."""

from enum import Enum


class Continued(Enum):
    """How a setting may change when a run is continued, as ``Annotated[int, Continued.FREE]``; without a mark it may not.

    What has no mark is part of what is trained. FREE: changes neither what is trained nor what comes out, but for rounding.
    SAMPLING: says how a trained model is sampled or scored. LONGER: may grow. SHARED: how a step's clips are shared out; may
    change while a step sees as many clips.
    """

    FREE = "free"
    SAMPLING = "sampling"
    LONGER = "longer"
    SHARED = "shared"
