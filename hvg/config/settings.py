"""The typed configuration of a run. Every field is documented here or in the ``Config`` of the part it belongs to."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Generic, Literal

import yaml
from pydantic import Field
from typing_extensions import TypeVar

from hvg.config.evaluation_section import EvaluationConfig
from hvg.config.sections import (
    DataConfig,
    LoggerConfig,
    ProtocolConfig,
    Section,
    TrainingConfig,
)
from hvg.config.strategy_section import StrategyConfig
from hvg.core.bounds import Seed
from hvg.core.names import NameInFolders
from hvg.parts.continued import Continued

if TYPE_CHECKING:
    from hvg.parts.adapter import Adapter
    from hvg.parts.backbone import Backbone
    from hvg.parts.model import Codec, Conditioner, Prediction
    from hvg.parts.optimizer import Optimizer
    from hvg.parts.plan import Guidance, Sampler, Solver
    from hvg.parts.reconstructor import Reconstructor
    from hvg.parts.refiner import Refiner
    from hvg.parts.scene import Alignment, BodyModel, Dataset, Fit, Renderer
    from hvg.parts.system import System
    from hvg.parts.view_attention import ViewAttention
else:
    # Settings are read without the interfaces, which need torch; which kind a part is of, the registry judges.
    Backbone = Codec = Conditioner = Prediction = ViewAttention = Guidance = Sampler = Solver = Any
    Adapter = Alignment = BodyModel = Dataset = Fit = Optimizer = Renderer = Reconstructor = Refiner = System = Any

PartT = TypeVar("PartT", default=Any)
# The root keys that hold a conditioner. Their order is the order in which what they give is merged.
SLOTS = ("pose", "appearance", "reference_keys", "image_embedding", "camera", "reconstruction", "task", "known", "text")
# Root key -> kind, for every part that a run has exactly one of where its system uses it.
SINGLE_PARTS = {
    kind: kind
    for kind in (
        "system",
        "dataset",
        "alignment",
        "codec",
        "backbone",
        "adapter",
        "optimizer",
        "view_attention",
        "prediction",
        "sampler",
        "solver",
        "guidance",
        "refiner",
        "renderer",
        "body",
        "fit",
        "reconstructor",
    )
}
# Parts that clips are made with: every run has them, whatever it trains.
CLIP_PARTS = ("dataset", "renderer", "body", "fit")
# Key that settings have, or had in earlier versions, by another name -> what it is.
RENAMED = {
    "data.grids": "data.buckets",
    "training.betas": "optimizer.betas",
    "training.weight_decay": "optimizer.weight_decay",
}
# Of one run.
MOST_STAGES = 64
# What runs had before there was a choice, of these and of slots: configurations that say nothing have it.
BEFORE = {
    "adapter": "full",
    "optimizer": "adamw_fused",
    "fit": "none",
    "system": "human_video",
    "reconstruction": "none",
    "refiner": "none",
    "task": "none",
    "known": "none",
    "text": "none",
}


def is_used(key: str, uses: Collection[str]) -> bool:
    """Whether a system takes the parts of a root key, or, as of refiners, what it makes does. uses: as of ``System``."""
    return (
        key in ("system", "optimizer", "refiner", *CLIP_PARTS)
        or key in uses
        or SINGLE_PARTS.get(key, "conditioner") in uses
    )


class Settings(Section):
    """Everything in a run's configuration that is not a part."""

    name: Annotated[NameInFolders, Continued.FREE] = Field(
        default="run", description="Name of the run, the folder under `output`; a slash makes folders in folders."
    )
    seed: Seed = Field(default=0, description="Weights, data order and noise are functions of this number.")
    output: Annotated[Path, Continued.FREE] = Field(
        default=Path("runs"), description="Folder that holds the run folders."
    )
    data: DataConfig = Field(default_factory=DataConfig, description="What a training step sees.")
    training: TrainingConfig = Field(default_factory=TrainingConfig, description="The optimisation.")
    evaluation: Annotated[EvaluationConfig, Continued.SAMPLING] = Field(
        default_factory=EvaluationConfig, description="Sampling."
    )
    protocol: Annotated[ProtocolConfig, Continued.SAMPLING] = Field(
        default_factory=ProtocolConfig, description="Scoring."
    )
    strategy: Annotated[StrategyConfig, Continued.FREE] = Field(default_factory=StrategyConfig, description="Devices.")
    logger: Annotated[LoggerConfig, Continued.FREE] = Field(
        default_factory=LoggerConfig, description="Where curves go."
    )
    resume: Annotated[Literal["auto"] | Path | None, Continued.FREE] = Field(
        default=None,
        description="Continue a run: auto finds the newest whole checkpoint of this run's folder, or its path.",
    )
    resume_world: Annotated[Literal["same", "any"], Continued.FREE] = Field(
        default="same",
        description="Whether a run may be continued with another number of processes than wrote its checkpoint. Then it "
        "does not end in the bits in which it would have ended; keep devices x batch_size x accumulate for the same order.",
    )
    resume_changes: Annotated[tuple[str, ...], Continued.FREE] = Field(
        default=(),
        description="Settings, or sections or parts, that are meant to be others from here on when a run is continued, as "
        "[training.learning_rate]; of those that change what is trained no other may differ from the checkpoint's.",
    )
    stages: dict[str, dict[str, Any]] = Field(
        default={},
        max_length=MOST_STAGES,
        description="Label -> what a stage of the training changes, by the keys of a run, as {one: {data: {views: 1}}, two: "
        "{training: {steps: 200}}}; parts also by their words. Stages follow each other, each as a run that starts from the "
        "last one's averaged weights, or as `begins` says: averaged, raw, or continued with the optimiser's state.",
    )
    checkpoint: Path | None = Field(
        default=None,
        description="Checkpoint, or run folder, whose weights a new run starts from; every weight that both have is kept.",
    )
    device: Annotated[Literal["auto", "cpu", "cuda"], Continued.FREE] = Field(
        default="auto", description="Where to compute; auto prefers a GPU."
    )


@dataclass(frozen=True)
class PartChoice(Generic[PartT]):
    """A part chosen by name: its class and its judged settings. Nothing is built yet."""

    kind: str
    name: str
    cls: type[PartT]
    # Of the class's own Config, which no annotation can name.
    config: Any

    def resolved(self) -> dict[str, Any]:
        """Its name and every setting, as plain values."""
        return {"name": self.name, **self.config.model_dump(mode="json")}


class RunConfig(Settings):
    """A whole run: settings and the choice of every part. Those that its system does not use are not there (``parts``)."""

    system: PartChoice[System] = Field(description="What is trained: a video model, or a reconstructor of people.")
    dataset: PartChoice[Dataset] = Field(
        description="Where clips come from; the split is chosen by the code that uses it."
    )
    alignment: PartChoice[Alignment] = Field(
        description="Where people are moved in the picture before the network sees them."
    )
    codec: PartChoice[Codec] = Field(description="Frames <-> latents.")
    backbone: PartChoice[Backbone] = Field(description="The denoiser.")
    adapter: PartChoice[Adapter] = Field(
        description="Which weights train, and how fast: all, some by pattern, or what is added to the backbone."
    )
    optimizer: PartChoice[Optimizer] = Field(
        description="How weights follow their gradients, and in what form it keeps what it knows of each."
    )
    view_attention: PartChoice[ViewAttention] = Field(description="How views see each other inside the backbone.")
    prediction: PartChoice[Prediction] = Field(
        description="What the network predicts, and at which noise levels it learns."
    )
    sampler: Annotated[PartChoice[Sampler], Continued.SAMPLING] = Field(
        description="What is denoised together at each step."
    )
    solver: Annotated[PartChoice[Solver], Continued.SAMPLING] = Field(description="How to step between noise levels.")
    guidance: Annotated[PartChoice[Guidance], Continued.SAMPLING] = Field(description="How strongly to guide.")
    refiner: Annotated[PartChoice[Refiner], Continued.SAMPLING] = Field(
        description="What a second model, a video model, makes of the frames."
    )
    renderer: PartChoice[Renderer] = Field(description="Mesh rasteriser of datasets and control maps.")
    body: PartChoice[BodyModel] = Field(description="Body model of datasets.")
    fit: PartChoice[Fit] = Field(description="Errors of the bodies that signals see; metrics go by the true ones.")
    reconstructor: PartChoice[Reconstructor] = Field(
        description="What makes of a photo the person seen from anywhere in any pose; system=avatar trains it."
    )
    pose: PartChoice[Conditioner] | None = Field(
        default=None, description="Conditioner of the pose; none: generated from the rest."
    )
    appearance: PartChoice[Conditioner] | None = Field(
        default=None, description="Conditioner of the person's looks, pixel by pixel."
    )
    reference_keys: PartChoice[Conditioner] | None = Field(
        default=None, description="Conditioner that lets attention look at the photo."
    )
    image_embedding: PartChoice[Conditioner] | None = Field(
        default=None, description="Conditioner of the photo as a whole, for cross-attention."
    )
    camera: PartChoice[Conditioner] | None = Field(default=None, description="Conditioner of the viewpoint.")
    reconstruction: PartChoice[Conditioner] | None = Field(
        default=None,
        description="Conditioner that shows what the person of the photo looks like from there, reconstructed.",
    )
    task: PartChoice[Conditioner] | None = Field(
        default=None, description="Conditioner of the task: a novel view of the photo's pose, or a novel pose."
    )
    known: PartChoice[Conditioner] | None = Field(
        default=None, description="Conditioner that tells which pictures of a clip are given."
    )
    text: PartChoice[Conditioner] | None = Field(
        default=None, description="Conditioner of what is said of the clip: its caption, or a prompt."
    )
    slots: dict[str, PartChoice[Conditioner]] = Field(
        default={}, description="Further conditioners, by a slot name of one's own."
    )

    @property
    def parts(self) -> dict[str, PartChoice[Any]]:
        """Root key -> part, of all that the run's system uses and has exactly one of."""
        found = {key: getattr(self, key, None) for key in SINGLE_PARTS}
        return {key: choice for key, choice in found.items() if choice is not None}

    @property
    def last_step(self) -> int:
        """The step whose checkpoint is the result of the run: 0 where nothing has weights to train."""
        if not self.system.cls.learns(self):
            return 0
        stages = [stage.get("training", {}) for stage in self.stages.values()]
        return sum(stage.get("steps", self.training.steps) for stage in stages or [{}])

    @property
    def conditioners(self) -> dict[str, PartChoice[Conditioner]]:
        """Slot -> conditioner, for every slot that holds one, in the order in which they are merged."""
        root = {slot: getattr(self, slot) for slot in SLOTS}
        return {slot: choice for slot, choice in {**root, **self.slots}.items() if choice is not None}

    @property
    def droppable(self) -> dict[str, PartChoice[Conditioner]]:
        """Slot -> conditioner, for those that some clips train without."""
        return {slot: choice for slot, choice in self.conditioners.items() if choice.config.dropout > 0}

    def resolved(self) -> dict[str, Any]:
        """Every setting of the run and of its parts as plain values; ``load_resolved`` reads it back."""
        plain = self.model_dump(mode="json", include=set(Settings.model_fields) - {"protocol"})
        plain["protocol"] = self.protocol.resolved()
        plain |= {key: choice.resolved() for key, choice in self.parts.items()}
        if not is_used("slots", self.system.cls.uses):
            return plain
        slots = {slot: getattr(self, slot) for slot in SLOTS}
        plain |= {slot: choice and choice.resolved() for slot, choice in slots.items()}
        plain["slots"] = {slot: choice.resolved() for slot, choice in self.slots.items()}
        return plain

    def to_yaml(self) -> str:
        """The text of a run folder's ``config.yaml``."""
        return yaml.safe_dump(self.resolved(), sort_keys=False, allow_unicode=True)
