"""Interface of refiners: from the frames of one model to those of another, a trained video model, without training."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field, field_validator, model_validator
from torch import Tensor
from typing_extensions import TypeVar

from hvg.core.bounds import SolverSteps
from hvg.core.errors import HvgError
from hvg.parts.model import Prediction
from hvg.parts.part import Part, PartConfig
from hvg.values.clip import ClipBatch
from hvg.values.conditioning import Conditioning
from hvg.values.crops import Crops
from hvg.values.grid import ViewGrid

# What a network is asked about windows: noisy latents (B, V, t, C, h, w), their level (broadcastable), conditioning, places of
# the frames (B, t), and where the views stand. It gives the estimate of the clean latents, or, by memory site, the tokens
# (B, V, t, M, D) that its spatial attention sees.
Estimate = Callable[[Tensor, Tensor, Conditioning, Tensor | None, ViewGrid], Tensor]
Attended = Callable[[Tensor, Tensor, Conditioning, Tensor | None, ViewGrid], dict[str, Tensor]]
# Below, a schedule would be cut too finely to mean anything.
LEAST_STRENGTH = 0.01


class RefinerConfig(PartConfig):
    """Settings that every refiner has."""

    checkpoint: Path | None = Field(
        None,
        description="The video model that refines: a checkpoint, or a run folder for its newest one; null: the model itself "
        "whose frames they are.",
    )
    strength: float = Field(
        0.7,
        ge=0,
        le=1,
        description="How far up the video model's schedule of noise levels the frames are noised, as a share of its steps. 0: "
        "not at all, they are encoded and decoded; 1: to the top, where nothing is left of them. Otherwise at least .01.",
    )
    steps: SolverSteps | None = Field(
        None, description="Solver steps down from there; null: as the video model's evaluation has them."
    )
    anchor: Literal["first_frame", "none"] = Field(
        "first_frame",
        description="first_frame: the first frame of every view stays as it is given, and the others are denoised beside it. "
        "none: all are denoised.",
    )
    sampling: tuple[str, ...] = Field(
        (),
        max_length=64,
        description="Overrides of how the video model is sampled, as ['sampler=temporal','sampler.frames=16']; where nothing is "
        "said it is as it was trained.",
    )

    @field_validator("strength")
    @classmethod
    def _is_some_or_none(cls, strength: float) -> float:
        if 0 < strength < LEAST_STRENGTH:
            raise ValueError(f"expected 0, or at least {LEAST_STRENGTH:g}")
        return strength

    @model_validator(mode="after")
    def _is_of_a_model(self) -> "RefinerConfig":
        if self.sampling and self.checkpoint is None:
            raise ValueError("sampling is of the model that checkpoint names, which is not given")
        return self


RefinerT = TypeVar("RefinerT", bound=RefinerConfig, default=Any)


@dataclass(frozen=True, kw_only=True)
class RefinedStep:
    """A step of sampling that refines.

    given: clean latents (B, V, t, C, h, w) of the frames that are refined, on the step's grid. frames: which latent frames of the
    video those are, increasing; t of them. done: share of the steps that lie behind, in [0, 1): behind those cells, in the mean,
    that are denoised, where they take turns.
    """

    given: Tensor
    frames: tuple[int, ...]
    done: float


class Refiner(Part[RefinerT]):
    """What becomes of frames of a first model in the sampling of a second one; the base itself is SDEdit (arXiv 2108.01073).

    The second model's schedule is begun at ``strength``: at the given frames' latents with the noise of that level. From there on
    it is sampled as ever, by its own sampler, solver and guidance. What a refiner changes on the way is ``estimate``, of the
    whole grid after every denoising, and ``around``, of the network's windows. Both give the same for the same inputs, and for a
    clip the same alone as beside others; neither changes what it is given.
    requires: names of ClipBatch fields that ``crops`` reads.
    redraws: whether control maps are drawn anew for it, since ``crops`` shows other cameras.
    """

    Config: ClassVar[type[PartConfig]] = RefinerConfig
    requires: ClassVar[frozenset[str]] = frozenset()
    redraws: ClassVar[bool] = False

    @classmethod
    def refines(cls, config: RefinerT) -> bool:
        """Whether there is a second model at all."""
        return True

    def estimate(self, x0: Tensor, at: RefinedStep) -> Tensor:
        """The estimate (B, V, t, C, h, w) of the clean latents that the solver gets for x0, the network's.

        Where x0 is what was given it stays. Here the anchor is what was given.
        """
        if self.config.anchor == "none" or 0 not in at.frames:
            return x0
        held = x0.clone()
        first = at.frames.index(0)
        held[:, :, first] = at.given[:, :, first].to(held)
        return held

    def around(self, estimate: Estimate, attended: Attended) -> Estimate:
        """What is asked about windows in the network's place. attended: of the same inputs, the tokens that attention sees."""
        return estimate

    def looks(self, frames: int) -> float:
        """How often the network looks at every picture of a window of so many latent frames, crops counted: what a sample will
        cost is told by it.
        """
        return 1.0

    def crops(self, batch: ClipBatch) -> Crops | None:
        """The parts of the pictures that are refined, enlarged; None: whole pictures. Outside of them nothing changes."""
        return None


@dataclass(frozen=True, kw_only=True)
class Refined:
    """Frames of another model on their way through a sampling.

    latents: clean ones (B, V, t, C, h, w) of the frames. aligned: whether pictures are moved as the system's alignment says, as
    those of ``latents`` were.
    """

    latents: Tensor
    refiner: Refiner
    aligned: bool = True

    @property
    def strength(self) -> float:
        """Share of the schedule of noise levels, from its end, that is sampled."""
        return self.refiner.config.strength


def started_levels(prediction: Prediction, steps: int, refined: Refined | None = None, *, pixels: int) -> Tensor:
    """Levels, (steps + 1), the last one 0: the end of a schedule of more steps, of which these are the share ``strength``.

    With strength 1, or where nothing is refined, that is the schedule of so many steps. The strength is above 0.
    Raises: HvgError where the prediction has no schedule of so many.
    """
    strength = 1.0 if refined is None else refined.strength
    whole = max(steps, round(steps / strength))
    try:
        return prediction.sigma_schedule(whole, pixels=pixels)[-steps - 1 :]
    except ValueError as error:
        if refined is None:
            raise
        raise HvgError(
            f"refiner.strength={strength:g}: {steps} steps are the end of a schedule of {whole}: {error}"
        ) from error
