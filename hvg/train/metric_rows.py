"""The rows of a run's metrics.jsonl: what was logged at a step, one JSON object a line."""

import json
from pathlib import Path
from typing import Any

from hvg.core.errors import DataError
from hvg.core.files import regular_file

# Names of what the optimiser did begin with it: its learning rate, and the norm of the gradient before it is clipped.
OPTIMIZER = "optimizer/"


def whole_lines(path: Path) -> list[str]:
    """The lines that were written whole, none where there is no file: a killed run may have left half of one at the end.

    Raises: DataError for what is no regular file.
    """
    if not path.exists():
        return []
    return regular_file(path).read_text(encoding="utf-8", errors="replace").split("\n")[:-1]


def read_rows(path: Path) -> list[dict[str, Any]]:
    """The rows of a file, as they were written. Raises: as ``parse_row``."""
    return [parse_row(line, path) for line in whole_lines(path)]


def parse_row(line: str, path: Path) -> dict[str, Any]:
    """Row of a line: the step and its numbers, by name. Raises: DataError naming ``path`` for a line that is no row."""
    try:
        row = json.loads(line)
        numbers = isinstance(row, dict) and all(type(value) in (int, float) for value in row.values())
        whole = numbers and type(row.get("step")) is int
    except (ValueError, RecursionError):
        whole = False
    if not whole:
        shown = line if len(line) <= 60 else f"{line[:60]}..."
        raise DataError(f"{path}: damaged: {shown!r} is no row of numbers with a step; delete that line")
    return row
