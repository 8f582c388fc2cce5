"""Options of the cameras of ``hvg sample`` that move."""

from pydantic import Field

from hvg.config.section import Section


class MovedCameras(Section):
    """How the cameras of a preset move over the video, all of them alike."""

    arc_degrees: float = Field(
        0.0,
        ge=-360,
        le=360,
        description="By how much they go around the person, to their right; below 0 to their left.",
    )
    dolly: float = Field(
        0.0, ge=-100, le=100, description="How many metres they go towards the person; below 0 away from them."
    )
    shake_degrees: float = Field(
        0.0,
        ge=0,
        le=10,
        description="How far they are off their direction where they are held by hand, and a centimetre of their place for each.",
    )
