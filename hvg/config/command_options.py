"""Options of commands, besides overrides of a run: typed, documented, and read without importing what does the work."""

from pathlib import Path
from typing import Literal

from pydantic import Field

from hvg.config.clip_words import ClipWords
from hvg.config.driving_words import DrivingWords
from hvg.config.request_words import RequestWords, Stature
from hvg.config.section import Section
from hvg.config.written_options import WrittenFiles
from hvg.core.bounds import (
    Count,
    CountFromZero,
    MachineCount,
    ProcessCount,
    Seed,
    SolverSteps,
)
from hvg.core.names import GroupPattern, OneOrSeveral
from hvg.core.provenance import usable_cores
from hvg.parts.registry import KINDS

# Pictures that a command may score besides a prediction.
AnchorChoice = Literal["none", "truth", "all"]
# Description of the setting ``anchors`` of commands that score.
ANCHORS_DESCRIPTION = (
    "What is scored besides, to say what the numbers are worth: the truth against itself (truth), or also the blurred truth, the "
    "copied photo and a blank video (all). Each is another round of the metrics."
)


class ShowOptions(ClipWords):
    """Options of ``hvg show``, besides overrides."""

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


class SampleOptions(DrivingWords, RequestWords, WrittenFiles):
    """Options of ``hvg sample``, besides overrides of how it is sampled."""

    checkpoint: Path = Field(description="A trained model: a checkpoint, or a run folder for its newest one.")
    reference: OneOrSeveral = Field(
        description="Photo of the person, or several, [front.png,back.png]; with an alpha channel the background is taken away."
    )
    box: tuple[int, int, int, int] | None = Field(
        None,
        description="Where the person is in the photo: [left,top,right,bottom], pixels; null: all of it, or its alpha.",
    )
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
    steps: SolverSteps | None = Field(None, description="Solver steps; null: as configured.")
    seed: Seed | None = Field(None, description="Seed of the noise; null: as configured.")
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
    dtype: Literal["float32", "float16"] = Field(
        "float32",
        description="Numbers that weights are kept in, in half the space with float16; whoever opens them computes in float32.",
    )
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
