"""Settings of how a trained model is sampled."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from hvg.config.section import Section
from hvg.core.bounds import Count, Seed, SolverSteps

# Places in a list, from 0.
Places = Annotated[tuple[Annotated[int, Field(ge=0, le=1023)], ...], Field(max_length=1024)]


class EvaluationConfig(Section):
    """Settings of how a trained model is sampled, and where metrics find what they need."""

    steps: SolverSteps = Field(default=5, description="Solver steps per video.")
    clips: Count | None = Field(default=None, description="Test clips to score; null scores all.")
    seed: Seed = Field(default=0, description="Seed of the sampling noise, the same for every model of a study.")
    weights: Literal["ema", "raw"] = Field(default="ema", description="Which weights are sampled: averaged or raw.")
    known_views: Places = Field(
        default=(),
        description="Places, from 0, of a clip's views that are given, as captured cameras are: only the others are made and "
        "scored.",
    )
    unscored_views: Places = Field(
        default=(),
        description="Places of views that are not scored though they are made, so that models which are given some are compared "
        "with others on the same views.",
    )
    windows_per_call: Count | None = Field(
        default=None, description="Most windows of a sampler denoised at once: less memory; null: all of one shape."
    )
    kept_conditioning: float = Field(
        default=4.0,
        ge=0,
        le=1e6,
        description="GiB of encoded conditioning that sampling keeps between steps; what does not fit is encoded anew.",
    )
    reuse: SolverSteps = Field(
        default=1,
        description="Whether neighbouring steps share what the deep half of the network makes: all of it looks at the clip every "
        "so many-th time, its outer layers alone at the times between. 1: all of it always.",
    )
    kept_features: float = Field(
        default=16.0,
        ge=0.01,
        le=1e6,
        description="GiB that those features may take, with reuse above 1; a sample that needs more ends with an error.",
    )
    networks: Path | None = Field(
        default=None,
        description="Folder of the pretrained networks that metrics look through; null: $HVG_NETWORKS, or "
        "~/.cache/hvg/networks. `hvg weights` lists what is needed.",
    )
    any_network: bool = Field(
        default=False, description="Whether another file than the published one may stand under its name."
    )
    overlap: Literal["refuse", "allow"] = Field(
        default="refuse",
        description="What happens where subjects or clips of train are in val or test too, or those of val in test, as far as "
        "the dataset's files tell: refused; or allowed, and every record and report says how many.",
    )
