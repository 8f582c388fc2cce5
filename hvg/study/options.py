"""Type of the function to which a study reports its progress."""

from __future__ import annotations

from collections.abc import Callable

# Takes a task, its stage, what is done of how many, and a note that says how fast.
ReportProgress = Callable[[str, str, int, int, str], None]
