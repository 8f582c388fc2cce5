"""Settings of how training noises a clip, and what every section of a run's settings is."""

from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from hvg.core.bounds import FrameCountFromZero


class Section(BaseModel):
    """A documented group of settings; frozen, unknown keys are forbidden."""

    model_config = ConfigDict(extra="forbid", frozen=True, arbitrary_types_allowed=True, allow_inf_nan=False)


def _rising(bounds: tuple[int, int]) -> tuple[int, int]:
    """The bounds. Raises: ValueError where the first is above the second."""
    if bounds[0] > bounds[1]:
        raise ValueError(f"expected [fewest, most], got {list(bounds)}")
    return bounds


KnownRange = Annotated[tuple[FrameCountFromZero, FrameCountFromZero], AfterValidator(_rising)]


class NoiseConfig(Section):
    """Settings of how training noises a clip."""

    noise_levels: Literal["clip", "view", "frame", "cell"] = Field(
        default="clip",
        description="What has a noise level of its own in training: a clip, each of its views, each latent frame, or each latent "
        "frame of each view, for samplers whose cells take turns (sampler=sliding).",
    )
    known_views: KnownRange = Field(
        default=(0, 0),
        description="Fewest and most views of a training clip that are given, drawn evenly, and which: they stay clean, are not "
        "scored by the loss, and known=mask tells of them. At least one is always made. For evaluation.known_views and `hvg "
        "sample known=`.",
    )
    known_frames: KnownRange = Field(
        default=(0, 0),
        description="Fewest and most latent frames at the start of a training clip that are given in all its views, likewise; "
        "for videos that go on from finished frames (sampler=carry_over).",
    )
    noise_offset: float = Field(
        default=0.0,
        ge=0,
        le=1,
        description="Spread of a number that is added to the noise of each latent channel of a training clip, the same in all "
        "its cells, so that the network learns to change how bright pictures are; AnimateAnyone's code has 0.05. Sampling "
        "starts from noise without it.",
    )
