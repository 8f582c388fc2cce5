"""Options of ``hvg demo``: those of ``hvg sample``, none of which has to be given; and of making what it brings."""

from pathlib import Path

from pydantic import Field

from hvg.config.command_options import SampleOptions
from hvg.config.section import Section
from hvg.core.bounds import CountFromZero, FrameCount
from hvg.core.names import OneOrSeveral


class DemoOptions(SampleOptions):
    """Options of ``hvg demo``, besides overrides of how it is sampled: those of ``hvg sample``, which all may be left out."""

    subject: CountFromZero = Field(
        0, description="Which of the people that hvg brings, counted from 0: their photo and their motion."
    )
    checkpoint: Path | None = Field(
        None,
        description="A model of your own: a checkpoint, or a run folder for its newest one. null: the one that hvg brings.",
    )
    reference: OneOrSeveral | None = Field(
        None, description="Another photo, best with an alpha channel; null: that of the subject."
    )
    motion: Path | None = Field(
        None,
        description="Another motion, as for `hvg sample`; null: that of the subject, or of a driving video that is given.",
    )
    real_time: bool = Field(
        True, description="Take those frames of the motion with which the video is as fast as the motion."
    )
    out: Path = Field(Path("demo"), description="Folder that takes the same as of `hvg sample`.")
    images: bool = Field(False, description="Write every frame as a PNG into images/, too, as of `hvg sample`.")
    grid: bool = Field(True, description="Write grid.mp4 and grid.webp, as of `hvg sample`.")


class DemoFilesOptions(Section):
    """Options of ``hvg demo make=FOLDER``, which makes what ``hvg demo`` brings."""

    make: Path = Field(description="Folder to write: model/, people/ and demo.json; it must not exist yet.")
    checkpoint: Path = Field(description="A trained model: a checkpoint, or a run folder for its newest one.")
    subjects: tuple[CountFromZero, ...] = Field(
        (0,), min_length=1, max_length=16, description="Which clips of the test split show the people, counted from 0."
    )
    frames: FrameCount = Field(16, description="Frames of their motions, at the rate of the data set's.")
