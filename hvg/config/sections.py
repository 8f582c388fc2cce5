"""Sections of a run's settings: data, training, protocol, strategy, logger."""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, model_validator

from hvg.config.driving_section import DrivingSettings
from hvg.config.noise_section import NoiseConfig
from hvg.config.section import Section
from hvg.core.bounds import (
    Average,
    BatchSize,
    Colour,
    Count,
    CountFromZero,
    FrameCount,
    ProcessCount,
    ProcessCountFromZero,
    ViewCount,
)
from hvg.core.names import Name
from hvg.parts.continued import Continued
from hvg.values.buckets import Bucket


def _bucket_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape of a bucket. Raises: ValueError where it is none."""
    if len(shape) not in (2, 4):
        raise ValueError("expected [views, frames] or [views, frames, height, width]")
    if shape[0] > 1024 or any(side > 8192 for side in shape[2:]):
        raise ValueError("expected at most 1024 views, 65536 frames and sides of 8192 pixels")
    return shape


BucketShape = Annotated[tuple[Annotated[int, Field(ge=1, le=65_536)], ...], AfterValidator(_bucket_shape)]


class DataConfig(DrivingSettings):
    """Settings of the data: size of a batch, and how clips reach a training step."""

    batch_size: Annotated[BatchSize, Continued.SHARED] = Field(
        default=2, description="Clips that a device sees at once; a training step sees this x devices x accumulate."
    )
    views: ViewCount = Field(
        default=2, description="Views of a clip that a training step sees, drawn from those it has."
    )
    frames: FrameCount = Field(default=4, description="Consecutive frames of a clip that a training step sees.")
    buckets: tuple[BucketShape, ...] | None = Field(
        default=None,
        min_length=1,
        max_length=64,
        description="Shapes (views, frames, height, width) of training steps, one drawn for each step, the same on all ranks. A "
        "clip is drawn for those of the nearest aspect that it fits, its pictures cut in the middle and made smaller, never "
        "stretched or enlarged; all clips equally often. (views, frames): pictures as they are. null: always `views` x `frames`.",
    )
    max_crop: float = Field(
        default=0.3,
        ge=0,
        lt=1,
        description="Share of a picture that may be cut away for the aspect of a bucket; a clip that would lose more does not "
        "fit it.",
    )
    unfit: Literal["refuse", "leave_out"] = Field(
        default="refuse",
        description="What becomes of training clips that fit no bucket: the run does not start, or it trains without them.",
    )
    first_view: Literal["grid", "window"] = Field(
        default="grid",
        description="Relative to which camera the others are told, in training and in sampling alike. grid: to that of the first "
        "view of the clip or request, which a step or window need not see. window: to that of the first view that the step or "
        "window sees.",
    )
    frame_index: Literal["grid", "window"] = Field(
        default="grid",
        description="Which place the network is told of a frame, in training and in sampling alike. grid: that in the whole clip "
        "or request, so a video longer than the training clips has places that were never told. window: that among the frames "
        "that the step or window sees, from 0.",
    )
    recolour: float = Field(
        default=0.0,
        ge=0,
        le=1,
        description="Probability that a training clip's colours change, in photo and frames alike: RGB permuted, a gamma for "
        "each channel. Teaches a small dataset's model to copy colours.",
    )
    background: tuple[Colour, Colour, Colour] = Field(
        default=(1.0, 1.0, 1.0),
        description="sRGB colour in [0, 1] of what an alignment moves into the picture; that of the dataset's background.",
    )
    eval_batch_size: Annotated[BatchSize, Continued.FREE] = Field(
        default=4, description="Clips per batch in validation and evaluation, with all views."
    )
    workers: Annotated[ProcessCountFromZero, Continued.FREE] = Field(
        default=0, description="Data loading processes; 0 loads in the training process."
    )
    max_bad: Annotated[CountFromZero, Continued.FREE] = Field(
        default=0,
        description="How many training clips may be unreadable. Each is listed in quarantine.jsonl and left out of the loss; "
        "no other clip is trained in its stead. One more ends the run.",
    )
    cache: Annotated[Path | None, Continued.FREE] = Field(
        default=None, description="Folder for rendered clips and control maps; null keeps none on disk."
    )
    images: Literal["png", "webp", "jpeg"] = Field(
        default="png",
        description="How `hvg prepare` keeps frames and photos. With loss (see `quality`) those of training alone, and a run "
        "that does not read them from files sees what the files would hold; validation and test clips stay exact, as do alpha "
        "and control maps.",
    )
    quality: int | None = Field(
        default=None,
        ge=1,
        le=100,
        description="Of webp and jpeg, with loss. null: webp is exact, jpeg has 95.",
    )
    latents: Literal["encode", "cached"] = Field(
        default="encode",
        description="encode: every step runs the codec, and the other frozen networks, on its pictures. cached: training reads "
        "what `hvg prepare latents` made of them, and does not decode the frames; behind a codec that joins frames in time "
        "a step then sees all frames of its clips.",
    )

    @model_validator(mode="after")
    def _exact_png(self) -> "DataConfig":
        if self.images == "png" and self.quality is not None:
            raise ValueError(f"images=png is exact; quality={self.quality} is of webp and jpeg")
        return self

    @property
    def trained_buckets(self) -> tuple[Bucket, ...]:
        """Shapes that training steps draw from."""
        found = self.buckets or ((self.views, self.frames),)
        return tuple(Bucket.of(shape) for shape in found)


class TrainingConfig(NoiseConfig):
    """The optimisation of a run."""

    steps: Annotated[Count, Continued.LONGER] = Field(default=450, description="Optimiser steps.")
    learning_rate: float = Field(default=3e-3, gt=0, le=1e3, description="Peak learning rate.")
    warmup_steps: CountFromZero = Field(default=30, description="Steps over which the learning rate rises from 0.")
    final_learning_rate: float = Field(
        default=0.02,
        ge=0,
        le=1,
        description="Where the cosine ends, as a fraction of the peak; 1 keeps the rate constant.",
    )
    halve_every: Count | None = Field(
        default=None,
        description="Steps in which the learning rate halves, again and again, in place of the cosine; null: the cosine.",
    )
    gradient_clip: float | None = Field(
        default=1.0, gt=0, le=1e6, description="Largest norm of the gradient; null does not clip."
    )
    ema_decay: Average = Field(default=0.99, description="Decay of the averaged weights; 0 makes them the raw ones.")
    foreground_weight: float = Field(
        default=0.0,
        ge=0,
        le=1e6,
        description="The loss of a cell is multiplied by 1 + this times the person's coverage (alpha).",
    )
    accumulate: Annotated[BatchSize, Continued.SHARED] = Field(
        default=1,
        description="Batches whose gradients are averaged for one optimiser step: a larger batch, less memory.",
    )
    max_skipped: Annotated[CountFromZero, Continued.FREE] = Field(
        default=10,
        description="How many optimiser steps of the run may be left out, because a loss or the gradient was not finite, or "
        "the loss was a spike. Each is listed in skipped.jsonl; one more saves the state and ends the run.",
    )
    max_loss_ratio: float | None = Field(
        default=None,
        gt=1,
        le=1e6,
        description="A step whose loss is above this many times the median of the last `loss_window` ones is left out; null: "
        "none is.",
    )
    loss_window: int = Field(
        default=50,
        ge=1,
        le=100_000,
        description="Losses of steps taken that `max_loss_ratio` compares with; none is judged before.",
    )
    precision: Literal["auto", "32", "bf16"] = Field(
        default="auto",
        description="Arithmetic of the network: bf16 autocast over float32 weights, or float32 (32); auto: float32 on every "
        "CPU, bf16 on GPUs that multiply it in hardware (compute capability 8.0 or more), float32 on others.",
    )
    threads: Annotated[ProcessCount | None, Continued.FREE] = Field(
        default=None, description="CPU threads of the training process; null: torch decides."
    )
    peak_tflops: Annotated[float | None, Continued.FREE] = Field(
        default=None,
        gt=0,
        le=1e6,
        description="What one device can do at this precision, in TFLOP/s without sparsity, which model FLOPs utilisation is a "
        "share of; null: as published for known GPUs, else as measured by a matrix product.",
    )
    log_every: Annotated[Count, Continued.FREE] = Field(
        default=10, description="Steps between two rows of metrics.jsonl."
    )
    checkpoint_every: Annotated[CountFromZero, Continued.FREE] = Field(
        default=200, description="Steps between two checkpoints; 0: only at the end."
    )
    saving: Annotated[Literal["wait", "beside"], Continued.FREE] = Field(
        default="wait",
        description="wait: training stands still until a checkpoint is written. beside: until it is copied to the memory of the "
        "host; it is written while training goes on, one at a time.",
    )
    keep_last: Annotated[Count, Continued.FREE] = Field(
        default=2, description="How many of the newest checkpoints are kept."
    )
    keep_every: Annotated[CountFromZero, Continued.FREE] = Field(
        default=0, description="Checkpoints of steps that are a multiple of this are kept as well; 0: none."
    )
    validate_every: Annotated[CountFromZero, Continued.FREE] = Field(
        default=0, description="Steps between two validations; 0: none while training."
    )
    validation_clips: Annotated[Count, Continued.FREE] = Field(
        default=4, description="Clips that a validation samples."
    )


class ProtocolConfig(Section):
    """Settings of scoring: named, versioned metrics, each with its settings, and how pictures are prepared."""

    name: Name = Field(default="none", description="Name of the protocol.")
    version: Count = Field(default=1, description="Goes up whenever a number of the protocol would change.")
    source: str = Field(default="", description="What the protocol follows.")
    left_open: tuple[str, ...] = Field(
        default=(), description="What the source leaves open, and what was chosen here; or where the source differs."
    )
    mask: Literal["none", "truth"] = Field(
        default="none", description="truth: both videos are laid on white outside the true person."
    )
    size_mismatch: Literal["refuse", "resize"] = Field(
        default="refuse",
        description="What happens to a prediction of another size than the truth: an error, or it is resized to the truth as "
        "OpenCV does it (8 bits, bilinear), and a note says so.",
    )
    videos: Count | None = Field(default=None, description="How many videos the source scored.")
    metrics: dict[str, Any] = Field(
        default={}, description="Label -> metric, as protocol.metrics.fvd.name=fvd; further keys are its settings."
    )

    @property
    def id(self) -> str:
        """Name and version, which every number carries."""
        return f"{self.name}/v{self.version}"

    def resolved(self) -> dict[str, Any]:
        """Every setting as plain values."""
        plain = self.model_dump(mode="json", exclude={"metrics"})
        return plain | {"metrics": {label: choice.resolved() for label, choice in self.metrics.items()}}


class LoggerConfig(Section):
    """Settings of where curves go besides metrics.jsonl, which every run writes."""

    name: Literal["csv", "tensorboard", "wandb", "none"] = Field(default="none", description="Kind of logger.")
    project: str = Field(default="hvg", description="Project under which wandb files the run.")
    offline: bool = Field(default=False, description="Whether wandb only writes to disk, for a later `wandb sync`.")
