"""Notes of a run in its folder, for who looks on: what it is (run.json), how far (progress.json), why it failed (error.txt)."""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from hvg.core.errors import DataError, HvgError, in_one_line
from hvg.core.files import read_text, regular_file, write_text

RECORD, PROGRESS, FAILURE = "run.json", "progress.json", "error.txt"
# Without its settings, a folder is none of a run.
CONFIG = "config.yaml"
# Seconds between two notes of progress within a stage.
BETWEEN_NOTES = 0.5


def read_run_record(folder: Path) -> dict[str, Any]:
    """Content of a run's ``run.json``; empty where there is none. Raises: DataError where it is damaged."""
    path = folder / RECORD
    try:
        found = json.loads(read_text(path)) if path.exists() else {}
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: damaged ({' '.join(str(error).split())}); delete it") from error
    if not isinstance(found, dict) or not isinstance(found.get("starts", []), list):
        raise DataError(f"{path}: damaged: it is no record of a run; delete it")
    return found


class RunProgress(BaseModel):
    """Progress of a run: ``done`` of ``total`` in a stage of it, ``train`` or ``evaluate``. note: how fast it goes."""

    model_config = ConfigDict(frozen=True)

    stage: str
    done: int
    total: int
    note: str


def read_progress(folder: Path) -> RunProgress | None:
    """Progress that a run noted last; None where it noted none. Raises: DataError for a damaged note."""
    path = folder / PROGRESS
    try:
        return RunProgress.model_validate_json(read_text(path), strict=True)
    except FileNotFoundError:
        return None
    except ValidationError as error:
        raise DataError(f"{path}: damaged: it does not say how far the run is; delete it") from error


def progress_notes(folder: Path) -> Callable[[str, int, int, str], None]:
    """Notes stage, what is done, of how many, and how fast: not more often than anybody looks."""
    last = {"time": 0.0, "stage": ""}

    def note(stage: str, done: int, total: int, speed: str) -> None:
        now = time.perf_counter()
        if stage != last["stage"] or done == total or now - last["time"] > BETWEEN_NOTES:
            last.update(time=now, stage=stage)
            write_text(folder / PROGRESS, json.dumps({"stage": stage, "done": done, "total": total, "note": speed}))

    return note


def forget_notes(folder: Path) -> None:
    """Removes what an earlier start noted."""
    for name in (PROGRESS, FAILURE):
        (folder / name).unlink(missing_ok=True)


@contextmanager
def failure_noted(folder: Path) -> Iterator[None]:
    """What ends a run inside, other than a signal, is noted in a line; of several processes that fail, the first one's.

    That one knows why; the others only miss it. A run that was refused before it had a folder leaves none.
    """
    try:
        yield
    except Exception as error:
        path = folder / FAILURE
        if (folder / CONFIG).exists() and not path.exists():
            # All of what is ours to say; of what a library says, the rest is often where in its code that was.
            lines = str(error) if isinstance(error, HvgError) else (str(error).splitlines() or [""])[0]
            write_text(path, f"{type(error).__name__}: {in_one_line(' '.join(lines.split()))}")
        raise


def read_failure(folder: Path) -> str | None:
    """Why a run failed, in one line; None where it did not, or nobody said."""
    try:
        # Whatever it holds.
        return " ".join(regular_file(folder / FAILURE).read_text(errors="replace").split())
    except FileNotFoundError:
        return None
