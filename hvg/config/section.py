"""The base of a run's sections of settings."""

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """A documented group of settings; frozen, unknown keys are forbidden."""

    model_config = ConfigDict(extra="forbid", frozen=True, arbitrary_types_allowed=True, allow_inf_nan=False)
