"""Files of captions: what the clips of a data set on disk show, by name."""

import csv
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path

from pydantic import Field

from hvg.core.errors import DataError
from hvg.core.files import read_text
from hvg.data.splits import SplitConfig

_EXPECTED = "JSON of {NAME: TEXT}, or a .csv with a line NAME,TEXT for each"


class CaptionedConfig(SplitConfig):
    """Settings of a data set on disk whose clips may have captions."""

    captions: str | None = Field(
        None,
        description="File of what is said of clips: JSON {NAME: TEXT}, or a .csv of lines NAME,TEXT. A name is a clip's, or a "
        "recording's, whose clips all have it. null: clips carry no captions.",
    )


def captions_of(config: CaptionedConfig, clips: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """Clip -> caption, "" for none, of a data set's clips; nothing where it has no captions.

    clips: clip -> names by which the file may call it, its own first. Raises: DataError for a file that cannot be used.
    """
    if config.captions is None:
        return {}
    said = _read(Path(config.captions))
    return {clip: next((said[name] for name in names if name in said), "") for clip, names in clips.items()}


def caption_notes(config: CaptionedConfig, captions: Mapping[str, str], names: Iterable[str]) -> list[str]:
    """Notes for the user, a line each: on clips without a caption, of those of a split, and on names that are nobody's.

    names: all by which the file may call clips of any split.
    """
    if config.captions is None:
        return []
    silent = [clip for clip, text in captions.items() if not text]
    unknown = sorted(_read(Path(config.captions)).keys() - {*names})
    notes = (
        [f"{len(silent)} of {len(captions)} clips of {config.split} have no caption, such as '{silent[0]}'"]
        if silent
        else []
    )
    notes += [f"{len(unknown)} names are no clip's and no recording's, such as '{unknown[0]}'"] if unknown else []
    return [f"{config.captions}: {note}" for note in notes]


def captions_text(config: CaptionedConfig) -> list[str]:
    """The content of the file, where there is one, for digests."""
    return [] if config.captions is None else [read_text(Path(config.captions))]


def _read(path: Path) -> Mapping[str, str]:
    """Name -> caption. Raises: DataError that names the file, and what was expected."""
    if not path.is_file():
        raise DataError(f"{path}: there is no such file of captions; expected {_EXPECTED}")
    return _parsed(path, path.stat().st_mtime_ns)


@lru_cache(maxsize=8)
def _parsed(path: Path, changed: int) -> Mapping[str, str]:
    """changed: when the file was."""
    try:
        text = read_text(path)
        found = json.loads(text) if path.suffix == ".json" else _rows(text)
    except (ValueError, csv.Error, RecursionError) as error:
        raise DataError(
            f"{path}: cannot be read ({' '.join(str(error).split())[:100]}); expected {_EXPECTED}"
        ) from error
    if not isinstance(found, dict) or not found:
        raise DataError(f"{path}: holds no names; expected {_EXPECTED}")
    wrong = next((name for name, caption in found.items() if not isinstance(caption, str)), None)
    if wrong is not None:
        raise DataError(f"{path}: the caption of '{wrong}' is {str(found[wrong])[:40]!r}; expected a text")
    return {name: caption.strip() for name, caption in found.items()}


def _rows(text: str) -> dict[str, str]:
    """Of lines NAME,TEXT, of which the first may be the columns' names. Raises: ValueError for another line, and a name twice."""
    found: dict[str, str] = {}
    for number, row in enumerate(csv.reader(io.StringIO(text)), 1):
        if not row or (number == 1 and row[0].strip().lower() in ("name", "clip", "clip_id", "recording")):
            continue
        if len(row) != 2:
            raise ValueError(f"line {number} has {len(row)} columns; a text with a comma stands in quotes")
        name = row[0].strip()
        if name in found:
            raise ValueError(f"line {number} names '{name}' again")
        found[name] = row[1]
    return found
