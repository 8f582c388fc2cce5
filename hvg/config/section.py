"""The base of a run's sections of settings."""

from typing import ClassVar

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """A documented group of settings; frozen, unknown keys are forbidden.

    refused: inherited settings that it says why it does not take; help leaves them out.
    """

    refused: ClassVar[tuple[str, ...]] = ()

    model_config = ConfigDict(extra="forbid", frozen=True, arbitrary_types_allowed=True, allow_inf_nan=False)
