"""Words that name a clip and a frame of it: of ``hvg show`` and ``hvg view``."""

from typing import Literal

from pydantic import Field

from hvg.config.section import Section
from hvg.core.bounds import CountFromZero, FrameCountFromZero


class ClipWords(Section):
    """A clip of a run's dataset, and one of its frames."""

    index: CountFromZero = Field(0, description="Which clip of the split.")
    split: Literal["train", "val", "test"] = Field("test", description="Which people.")
    frame: FrameCountFromZero = Field(0, description="Which frame of the clip.")
