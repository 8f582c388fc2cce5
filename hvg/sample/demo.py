"""What ``hvg demo`` brings: a small trained model, and people with photo and motion whom it has never seen.

``hvg demo make=FOLDER checkpoint=RUN`` makes it. docs/demo.md says of which run what lies here was made, and by which command.
"""

import json
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hvg.config.command_options import SampleOptions
from hvg.config.demo_options import DemoOptions
from hvg.core.checkpoint import is_exported
from hvg.core.errors import HvgError

# Beside this file, in the source tree and where hvg is installed.
FOLDER = Path(__file__).parent / "demo_files"
MODEL, PEOPLE, RECORD = "model", "people", "demo.json"
PHOTO, MOTION = "photo.png", "motion.npz"
# The ways in which the words of `hvg sample` say which frames of a motion are taken.
_SPEEDS = {"stride", "real_time"}


@dataclass(frozen=True)
class DemoFiles:
    """model: a folder that every command takes as ``checkpoint=``. people: photo and motion of each."""

    model: Path
    people: Sequence[tuple[Path, Path]]


def demo_files(folder: Path = FOLDER) -> DemoFiles:
    """What hvg brings. Raises: HvgError where it is not there."""
    people = [(place / PHOTO, place / MOTION) for place in sorted((folder / PEOPLE).glob("*"))]
    missing = [path for files in people for path in files if not path.is_file()]
    if missing or not people or not is_exported(folder / MODEL):
        raise HvgError(
            f"{folder}: the demo's files are not all there; install hvg anew, or make them: hvg demo make={folder} checkpoint=RUN"
        )
    return DemoFiles(folder / MODEL, people)


def as_sampled(options: DemoOptions) -> SampleOptions:
    """The same request as one of ``hvg sample``. Raises: HvgError for a subject that there is not, or where no files are."""
    files = demo_files()
    if options.subject >= len(files.people):
        raise HvgError(
            f"subject={options.subject}: hvg brings {len(files.people)} people; give 0 to {len(files.people) - 1}"
        )
    photo, motion = files.people[options.subject]
    given = {name: getattr(options, name) for name in options.model_fields_set if name in SampleOptions.model_fields}
    bound: dict[str, Any] = {"checkpoint": files.model, "reference": (photo,)}
    free: dict[str, Any] = {name: getattr(options, name) for name in ("out", "images", "grid")}
    free |= {} if options.driving is not None else {"motion": motion}
    free |= {} if given.keys() & _SPEEDS or "motion" not in free else {"real_time": True}
    said = {name: value for name, value in given.items() if value is not None or name not in bound}
    words: dict[str, Any] = bound | free | said
    return SampleOptions(**words)


def as_words(options: SampleOptions, overrides: Sequence[str]) -> str:
    """The command of ``hvg sample`` that asks for the same."""
    told: dict[str, Any] = dict.fromkeys(("checkpoint", "reference")) | options.model_dump(
        mode="json", exclude_unset=True
    )
    told["reference"] = told["reference"][0] if len(options.reference) == 1 else told["reference"]
    words = [f"{name}={x if isinstance(x, str) else json.dumps(x, separators=(',', ':'))}" for name, x in told.items()]
    return shlex.join(["hvg", "sample", *words, *overrides])
