"""Options of ``hvg sample`` for a driving video."""

from pathlib import Path

from pydantic import Field

from hvg.config.section import Section


class DrivingWords(Section):
    """What moves the person where a model takes motion from a video."""

    driving: Path | None = Field(
        None,
        description="Video whose motion is taken, for models that read one (pose=motion_tokens); it needs no pose. Without "
        "motion= its frames are chosen by start, end, stride, real_time and frames, as a motion's are; beside a motion, it is "
        "taken from its first frame on as fast as that.",
    )
    driving_box: tuple[int, int, int, int] | None = Field(
        None, description="Where the person is in all its frames: [left,top,right,bottom], pixels; null: anywhere."
    )
    driving_matte: Path | None = Field(
        None,
        description="Video of as many frames that is white where the person is, as `hvg motion` writes one: they are cut out, "
        "on the background of training. null: the detector of `hvg motion` finds them, where it is installed; else all of the "
        "picture is taken.",
    )
