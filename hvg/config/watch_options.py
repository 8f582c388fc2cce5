"""Options of ``hvg watch``."""

from pathlib import Path

from pydantic import Field

from hvg.config.section import Section
from hvg.core.bounds import Count


class WatchOptions(Section):
    """Options of ``hvg watch``, besides runs."""

    out: Path | None = Field(
        None,
        description="Page to write; null: watch.html in the run folder, or in the folder that holds all runs that are named.",
    )
    every: float = Field(
        10.0, ge=1, le=3600, description="Seconds between two looks, and after which the page loads itself again."
    )
    once: bool = Field(False, description="Write the page and end, whatever the runs do.")
    clips: Count = Field(4, description="Validation clips of which the videos are shown.")
    overwrite: bool = Field(False, description="Replace `out` if something else is there.")
