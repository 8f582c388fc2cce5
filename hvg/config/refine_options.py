"""Options of ``hvg refine``: those of ``hvg sample``, most of which may be left out; views, frames and size are the video's."""

from pathlib import Path
from typing import ClassVar

from pydantic import Field, model_validator

from hvg.config.command_options import SampleOptions
from hvg.core.bounds import Count
from hvg.core.names import OneOrSeveral


class RefineOptions(SampleOptions):
    """Options of ``hvg refine``, besides overrides of how it is sampled."""

    refused: ClassVar[tuple[str, ...]] = ("views", "frames", "image_size", "real_time", "known")

    checkpoint: Path = Field(
        description="The video model that refines: a checkpoint, or a run folder for its newest one."
    )
    video: Path = Field(
        description="What is refined: a video file, a folder of pictures, or a folder with one or the other for each view."
    )
    reference: OneOrSeveral | None = Field(
        None,
        description="Photo or photos of the person; null: the model is told none, as where it was dropped in training.",
    )
    motion: Path | None = Field(
        None,
        description="How the person moves in the video, as for `hvg sample`; null: the model is told nothing of it.",
    )
    stride: Count | None = Field(None, description="Take every so many frames of the motion; null: every one.")
    camera: str | None = Field(
        None,
        description="Where the cameras stand: orbit, static, front_back, or a file, as for `hvg sample`; null: the model is told "
        "nothing of it.",
    )
    frames_per_second: float | None = Field(
        None, ge=0.1, le=240, description="Of the video; null: as its file says, of pictures 8."
    )
    out: Path = Field(Path("refined"), description="Folder that takes the same as of `hvg sample`.")

    @model_validator(mode="after")
    def _is_of_the_video(self) -> "RefineOptions":
        said = [f"{key}=" for key in self.refused if key in self.model_fields_set]
        if said:
            raise ValueError(f"{' '.join(said)} cannot be given; the video has its own")
        return self
