"""The settings of driving videos in training."""

from typing import Literal

from pydantic import Field

from hvg.config.section import Section


class DrivingSettings(Section):
    """Settings of what becomes of the driving videos of training clips (``hvg.data.driving``)."""

    driving_perspective: float = Field(
        default=0.0,
        ge=0,
        lt=1,
        description="Of a training clip's driving video: share of half a side by which each corner moves inwards at most, drawn "
        "for every clip that a step sees, the same for all its frames.",
    )
    driving_spatial: float = Field(
        default=0.0,
        ge=0,
        le=1,
        description="Of the same: strength of a turn, a change of size and a shift; 1 is up to 30 degrees, 30 % and 30 %.",
    )
    driving_colour: float = Field(
        default=0.0,
        ge=0,
        le=1,
        description="Of the same: by how much brightness, contrast and saturation change at most, as a share.",
    )
    copied_driving: Literal["refuse", "allow"] = Field(
        default="refuse",
        description="What becomes of a training clip whose driving video is the target itself from the same camera, which a "
        "network learns to copy without a look at the photo.",
    )

    @property
    def driving_changes(self) -> dict[str, float]:
        """How strongly the driving videos of training clips are changed, as of ``hvg.data.driving.changed_driving``."""
        return {"perspective": self.driving_perspective, "spatial": self.driving_spatial, "colour": self.driving_colour}
