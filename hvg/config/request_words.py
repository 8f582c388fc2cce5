"""Words of a request that say who moves where, before which cameras: of ``hvg sample``, ``hvg refine`` and ``hvg view``."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from hvg.config.camera_options import MovedCameras
from hvg.core.axes import AskedUp
from hvg.core.bounds import Count, CountFromZero, FrameCount, Side, ViewCount

# One of a body's numbers of shape, in standard deviations; how many there are; metres of a person, children included.
Beta = Annotated[float, Field(ge=-100, le=100)]
MOST_BETAS = 300
Stature = Annotated[float, Field(ge=0.3, le=3)]


class RequestWords(MovedCameras):
    """A motion, whose shape moves so, and cameras."""

    motion: Path | None = Field(
        None,
        description="An .npz of body parameters (AMASS, smplx, EasyMocap) or of joints, a .bvh, or a folder of EasyMocap's JSON. "
        "null: a driving video moves the person.",
    )
    convention: str = Field(
        "auto",
        description="How the motion's parameters are meant, a name in docs/conventions.md; auto: as its file says, or its keys.",
    )
    person: CountFromZero | None = Field(None, description="Which of a folder's persons, by id; null: the only one.")
    up: AskedUp = Field(
        "auto",
        description="Which axis of the motion's world is up; auto: as its file says, or as is usual for its keys.",
    )
    start: CountFromZero = Field(0, description="First frame of the motion that is used, counted from 0.")
    end: Count | None = Field(None, description="Frame of the motion before which it ends; null: its whole length.")
    stride: Count | None = Field(
        None, description="Take every so many frames of the motion; null: `frames` of them, evenly spaced."
    )
    real_time: bool = Field(
        False,
        description="Take those frames of the motion with which the video, at its frames_per_second, is as fast as the motion.",
    )
    shape: Literal["auto", "reference", "motion", "mean"] = Field(
        "auto",
        description="Whose build the person has: the photo's, as the reference_ options say it; the motion's, where its file "
        "says it for this body; the body model's mean person's. auto: the first of these that is known.",
    )
    reference_body: Path | None = Field(
        None,
        description="Shape of the photo's person: an .npz with betas, or JSON or YAML with betas, shape (by the model's names) "
        "and height (metres).",
    )
    reference_betas: tuple[Beta, ...] | None = Field(
        None, max_length=MOST_BETAS, description="Betas of the photo's person, for bodies of the SMPL family."
    )
    reference_height: Stature | None = Field(None, description="Stature of the photo's person, metres.")
    camera: str = Field(
        "orbit",
        description="orbit: views all around. static: one from the front. front_back: two. Or a file: cameras.json, as "
        "hvg/sample/camera_paths.py describes it, a transforms.json, or a folder with a COLMAP model in text.",
    )
    camera_up: AskedUp = Field(
        "auto",
        description="Axis of the cameras' file's world that is up; auto: z of a transforms.json, y of a cameras.json.",
    )
    known: Path | None = Field(
        None,
        description="Folder of captured cameras, in the motion's world: transforms.json, cameras.json or a COLMAP model, and of "
        "each camera, by name, a folder of pictures, a video or a picture. They stay, and `camera`'s views are made from them.",
    )
    views: ViewCount | None = Field(None, description="Number of views of an orbit; null: as in training.")
    frames: FrameCount | None = Field(
        None,
        description="Frames of the video; null: as the moving cameras, as many as stride or real_time give, or as the dataset's "
        "clips.",
    )
    elevation_degrees: float = Field(5.0, ge=-89, le=89, description="Height of the cameras above the horizon.")
    distance: float | None = Field(
        None, gt=0, le=1000, description="From the cameras to the pelvis, metres; null: as in training."
    )
    fov_degrees: float | None = Field(None, gt=0, lt=180, description="Field of view; null: as in training.")
    image_size: Side | tuple[Side, Side] | None = Field(
        None, description="Side of the video, or [height,width], pixels; null: as in training."
    )
    frames_per_second: float = Field(8.0, ge=0.1, le=240, description="Of the video.")
