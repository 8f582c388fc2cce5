"""Options of commands, besides overrides of a run: typed, documented, and read without importing what does the work."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from hvg.config.camera_options import MovedCameras
from hvg.config.driving_words import DrivingWords
from hvg.config.section import Section
from hvg.core.axes import AskedUp
from hvg.core.bounds import (
    Count,
    CountFromZero,
    FrameCount,
    FrameCountFromZero,
    MachineCount,
    ProcessCount,
    Seed,
    Side,
    SolverSteps,
    ViewCount,
)
from hvg.core.names import GroupPattern, OneOrSeveral
from hvg.core.provenance import usable_cores
from hvg.parts.registry import KINDS

# One of a body's numbers of shape, in standard deviations; how many there are; metres of a person, children included.
Beta = Annotated[float, Field(ge=-100, le=100)]
MOST_BETAS = 300
Stature = Annotated[float, Field(ge=0.3, le=3)]
# Pictures that a command may score besides a prediction.
AnchorChoice = Literal["none", "truth", "all"]
# Description of the setting ``anchors`` of commands that score.
ANCHORS_DESCRIPTION = (
    "What is scored besides, to say what the numbers are worth: the truth against itself (truth), or also the blurred truth, the "
    "copied photo and a blank video (all). Each is another round of the metrics."
)


class ShowOptions(Section):
    """Options of ``hvg show``, besides overrides."""

    index: CountFromZero = Field(0, description="Which clip of the split.")
    split: Literal["train", "val", "test"] = Field("test", description="Which people.")
    frame: FrameCountFromZero = Field(0, description="Which frame of the clip.")
    out: Path = Field(Path("contact_sheet.png"), description="Image to write.")
    overwrite: bool = Field(False, description="Replace the image if it is there.")


class PrepareOptions(Section):
    """Options of ``hvg prepare``, besides overrides."""

    jobs: ProcessCount = Field(default_factory=usable_cores, description="Processes that render side by side.")
    images: Literal["png", "webp", "jpeg"] | None = Field(default=None, description="Short for data.images.")
    quality: int | None = Field(default=None, ge=1, le=100, description="Short for data.quality.")

    @property
    def overrides(self) -> list[str]:
        """What the options ask of the configuration."""
        given = {"images": self.images, "quality": self.quality}
        return [f"data.{name}={value}" for name, value in given.items() if value is not None]


class PrepareCheckOptions(Section):
    """Options of ``hvg prepare check``, besides overrides."""

    clips: Count = Field(3, description="How many clips of the split are looked at, spread over it.")
    split: Literal["train", "val", "test"] = Field("train", description="Which clips.")
    out: Path = Field(Path("prepare_check"), description="Folder that takes a PNG for each clip.")
    overwrite: bool = Field(False, description="Write into `out` even if something else is there.")


class CheckOptions(Section):
    """Options of ``hvg check``, besides overrides."""

    devices: ProcessCount | None = Field(default=None, description="Short for strategy.devices, those of a node.")
    nodes: MachineCount | None = Field(default=None, description="Short for strategy.nodes.")
    memory: float = Field(default=80.0, gt=0, le=1e6, description="Memory of a GPU in GB, 10^9 bytes.")
    bandwidth: float = Field(
        default=50.0,
        gt=0,
        le=1e6,
        description="GB/s at which a GPU sends to the others: of the slowest link between them.",
    )

    @property
    def ranks(self) -> int | None:
        """Number of GPUs that the options ask for; None: as many as the configuration says."""
        return None if self.devices is None else self.devices * (self.nodes or 1)

    @property
    def overrides(self) -> list[str]:
        """The overrides that ``devices`` and ``nodes`` are short for."""
        given = {"devices": self.devices, "nodes": self.nodes}
        return [f"strategy.{name}={value}" for name, value in given.items() if value is not None]


class DryRunOptions(Section):
    """Options of ``hvg train``, besides overrides."""

    dry_run: int | None = Field(
        default=None,
        ge=1,
        le=1024 * 1024,
        description="Build the job as it would be on this many devices, step once on shapes, train nothing.",
    )


class EvaluateOptions(Section):
    """Options of ``hvg evaluate checkpoint=...``."""

    checkpoint: Path = Field(description="Checkpoint to score, or a run folder for its newest one.")
    split: Literal["train", "val", "test"] = Field("test", description="Which people.")
    weights: Literal["ema", "raw"] | None = Field(None, description="Averaged or raw weights; null as configured.")
    steps: SolverSteps | None = Field(None, description="Solver steps; null as configured.")
    clips: Count | None = Field(None, description="Clips to score; null as configured.")
    shift: bool = Field(
        False,
        description="Whether the clips may be others on purpose than those of the training's dataset: takes dataset=NAME and "
        "dataset.KEY=, or their bodies observed otherwise: fit=NAME and fit.KEY=. results.json says what was changed.",
    )
    anchors: AnchorChoice = Field("truth", description=ANCHORS_DESCRIPTION)
    out: Path | None = Field(None, description="Folder for results.json and predictions; null: beside the run.")
    overwrite: bool = Field(False, description="Write into `out` even if something else is there.")


class FolderOptions(Section):
    """Options of ``hvg evaluate predictions=... reference=...``."""

    predictions: Path = Field(description="Folder of what a system made.")
    reference: Path = Field(description="Folder of the truth, with the same names.")
    masks: Path | None = Field(
        None, description="Folder of the person's masks, with the same names; white is the person."
    )
    subject: GroupPattern = Field(
        r"(.+)",
        description="Regular expression whose first group is the subject in a clip's name, as '(person\\d+)_.*': clips of "
        "one subject stay together in intervals. By default every clip is a subject of its own.",
    )
    background: Literal["white", "black"] | None = Field(
        None, description="What transparent pictures are laid on; null: they are refused."
    )
    anchors: AnchorChoice = Field("truth", description=ANCHORS_DESCRIPTION)
    out: Path | None = Field(None, description="Folder for results.json; null: beside the predictions.")
    overwrite: bool = Field(False, description="Write into `out` even if something else is there.")


class SampleOptions(DrivingWords, MovedCameras):
    """Options of ``hvg sample``, besides overrides of how it is sampled."""

    checkpoint: Path = Field(description="A trained model: a checkpoint, or a run folder for its newest one.")
    reference: OneOrSeveral = Field(
        description="Photo of the person, or several, [front.png,back.png]; with an alpha channel the background is taken away."
    )
    box: tuple[int, int, int, int] | None = Field(
        None,
        description="Where the person is in the photo: [left,top,right,bottom], pixels; null: all of it, or its alpha.",
    )
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
    reference_camera: Path | None = Field(
        None,
        description="Camera of the photo, whose whole picture is then taken: a cameras.json, or another file of cameras, a view "
        "for each photo, in the world of reference_motion. null: in front of the person, as far as in training; of several "
        "photos evenly around. For models that look the person up in the photo (system=avatar).",
    )
    reference_motion: Path | None = Field(
        None,
        description="Motion whose first frame is how the photo's person stands; null: at rest, arms spread. For the same models.",
    )
    prompt: str | None = Field(None, description="What the video shows, for models that read it.")
    task: Literal["auto", "view", "pose"] = Field(
        "auto",
        description="For models that hear of it: whether the video shows the photo's own pose from elsewhere, or another pose. "
        "auto: view where the person does not move.",
    )
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
    out: Path = Field(
        Path("sample"), description="Folder that takes the videos, photo_as_seen.png, cameras.json and sample.json."
    )
    images: bool = Field(
        True,
        description="Write every frame as a PNG into images/, too, with a transforms.json that nerfstudio opens, and "
        "transforms_train.json and transforms_test.json for loaders of 4D Gaussians; false saves their space.",
    )
    overwrite: bool = Field(False, description="Write into `out` even if something else is there.")
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
    steps: SolverSteps | None = Field(None, description="Solver steps; null: as configured.")
    seed: Seed | None = Field(None, description="Seed of the noise; null: as configured.")
    frames_per_second: float = Field(8.0, ge=0.1, le=240, description="Of the video.")
    weights: Literal["ema", "raw"] | None = Field(None, description="Averaged or raw weights; null: as configured.")
    memory: float = Field(
        8.0,
        gt=0,
        le=1e6,
        description="GB of the host's memory that the request may need besides the model; one that needs more is refused.",
    )


class ExportOptions(Section):
    """Options of ``hvg export``."""

    checkpoint: Path = Field(description="A trained model: a checkpoint, or a run folder for its newest one.")
    out: Path = Field(description="Folder to write; it must not exist yet.")
    weights: Literal["ema", "raw"] | None = Field(None, description="Averaged or raw weights; null: as configured.")
    adapter: Literal["merged", "file"] = Field(
        "merged",
        description="Of a run that has added to the backbone's layers (adapter=lora). merged: it is part of their weights, in a "
        "folder as of any run. file: that alone, as pytorch_lora_weights.safetensors, which diffusers' load_lora_weights takes.",
    )


class ConvertOptions(Section):
    """Options of ``hvg convert``."""

    body: Path | None = Field(None, description="Body model of the SMPL family, a .pkl.")
    motion: Path | None = Field(
        None, description="Motion that GVHMR, 4D-Humans or WHAM has written, or a pickle of arrays: .pt, .pth or .pkl."
    )
    person: CountFromZero | None = Field(
        None, description="Which of a motion's persons, by number; null: the only one."
    )
    axes: Literal["world", "camera"] = Field(
        "world", description="Whether the motion is in the world, or as the camera saw it."
    )
    out: Path = Field(description="The .npz to write; it must not exist yet.")


class MotionOptions(Section):
    """Options of ``hvg motion``."""

    video: Path = Field(description="Video of one person, mostly in the picture, before a camera that stands still.")
    out: Path = Field(
        description="The .npz to write, with joints in metres and a confidence of each; beside it come NAME_matte.mp4, white "
        "where the person is, and NAME_overlay.mp4, to be looked at."
    )
    box: tuple[int, int, int, int] | None = Field(
        None, description="Where the person is in all frames: [left,top,right,bottom], pixels; null: anywhere."
    )
    fov_degrees: float = Field(
        40.0,
        gt=1,
        lt=170,
        description="Angle of view over the video's shorter side; the distance depends on it. About 40 of a phone at 16:9.",
    )
    tilt_degrees: float = Field(0.0, ge=-89, le=89, description="How far the camera looks down.")
    height: Stature | None = Field(None, description="Stature of the person, metres; null: as the detector guesses it.")
    smoothing: float = Field(
        0.3,
        ge=0,
        le=5,
        description="Seconds of the window in which joints are smoothed; 0 leaves them as they are found.",
    )
    frames_per_second: float | None = Field(
        None, ge=0.1, le=1000, description="Of the video; null: as its file says when frames are shown."
    )
    overwrite: bool = Field(False, description="Replace the files if they are there.")

    @property
    def matte(self) -> Path:
        """The video that is white where the person is."""
        return self.out.with_name(f"{self.out.stem}_matte.mp4")

    @property
    def overlay(self) -> Path:
        """The video with the person's joints drawn over it."""
        return self.out.with_name(f"{self.out.stem}_overlay.mp4")


class PhotoOptions(Section):
    """Options of ``hvg photo``, besides the photo."""

    out: Path = Field(description="The .png to write: the photo with the person's matte as its alpha.")
    box: tuple[int, int, int, int] | None = Field(
        None, description="Where the person is: [left,top,right,bottom], pixels; null: anywhere."
    )
    overwrite: bool = Field(False, description="Replace the picture if it is there.")


class NewPartOptions(Section):
    """Options of ``hvg new part NAME``."""

    kind: str = Field(description=f"Kind of the part: {', '.join(KINDS)}.")
    out: Path | None = Field(default=None, description="New or empty folder of the package; null: hvg-KIND-NAME, here.")


class CompareOptions(Section):
    """Options of ``hvg compare``, besides runs."""

    out: Path | None = Field(None, description="Folder for results.json, .csv, .md and .tex; null writes none.")
    headline: str | None = Field(
        None, description="Metric that says in one sentence what was found; null: as of a study that names none."
    )
    overwrite: bool = Field(False, description="Write into `out` even if something else is there.")


class WeightsOptions(Section):
    """Options of ``hvg weights``."""

    folder: Path | None = Field(None, description="Where they lie; null: $HVG_NETWORKS, or ~/.cache/hvg/networks.")
