"""What data sets of recordings hold, kept on the disk for the processes that start later.

A file for each data set, its settings and its reader's code, in $HVG_LISTINGS, or ~/.cache/hvg/listings; nowhere if that is
empty. It holds each recording as JSON, with the times and sizes of the files and folders by which it was found: one that has
changed is looked at anew, and so is what could not be used. Functions are kept by name, those of the reader's own module alone.
"""

import importlib
import json
import os
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from hvg import __version__
from hvg.core.digests import settings_digest
from hvg.core.files import write_text
from hvg.core.kept_tensors import kept_folder
from hvg.core.sources import source_digest
from hvg.data.recordings import RecordedConfig, Recording, Survey, Track
from hvg.geometry.motion_files import load_motion
from hvg.media.folder_video import Place
from hvg.media.listing import Files

# Seconds that looking has to take to be worth a file.
WORTH = 1.0
_TUPLES = {"tuple": tuple, "list": list}


def listings_folder() -> Path | None:
    """$HVG_LISTINGS, or ~/.cache/hvg/listings; None where that is empty."""
    return kept_folder("HVG_LISTINGS", "~/.cache/hvg/listings")


class KeptListing:
    """Looks at recordings as ``survey`` does, but for those that an earlier process has seen and that are as they were.

    module: the reader's.
    """

    def __init__(self, survey: Survey, module: str, settings: str) -> None:
        self._survey, self._module, self._seconds = survey, module, 0.0
        folder = listings_folder()
        name = settings_digest([settings, module, survey.__qualname__, source_digest(module), __version__])
        self._path = folder and folder / f"{name}.json"
        self._known: dict[str, Any] = {}
        self._seen: dict[str, Any] = {}
        with suppress(OSError, ValueError, RecursionError):
            self._known = json.loads(self._path.read_bytes()) if self._path else {}

    def __call__(self, config: RecordedConfig, path: Path) -> Recording:
        """What the recording at ``path`` holds. Raises: as ``survey``."""
        with suppress(LookupError, TypeError, ValueError, AttributeError, ImportError):
            kept = self._known[str(path)]
            if kept["stamps"] == _stamps(kept["stamps"]):
                found = self._restored(kept["recording"])
                self._seen[str(path)] = kept
                return found
        started = time.monotonic()
        found = self._survey(config, path)
        self._seconds += time.monotonic() - started
        with suppress(TypeError):
            self._seen[str(path)] = {"stamps": _stamps(_places(path, found)), "recording": self._told(found)}
        return found

    def keep(self) -> None:
        """Writes what was seen, where much of it was new and there is a place for it."""
        if self._path is not None and self._seconds > WORTH:
            with suppress(OSError):
                write_text(self._path, json.dumps(self._seen))

    def _told(self, value: Any) -> Any:
        """A value as JSON. Raises: TypeError for one that JSON and this module do not know."""
        match value:
            case None | bool() | int() | float() | str():
                return value
            case Path():
                return {"path": str(value)}
            case Files() if all(isinstance(key, str) for key in value):
                return {"folder": str(value.folder), "names": dict(value.names)}
            case range():
                return {"range": [value.start, value.stop, value.step]}
            case list() | tuple():
                return {type(value).__name__: [self._told(item) for item in value]}
            case Mapping() if not isinstance(value, Files) and all(isinstance(key, str) for key in value):
                return {"map": {key: self._told(item) for key, item in value.items()}}
            case partial() if not value.keywords:
                name = (value.func.__module__, value.func.__qualname__)
                if self._function(*name) is value.func:
                    return {"call": name, "given": [self._told(item) for item in value.args]}
            case Track() | Recording():
                return {type(value).__name__: {key: self._told(item) for key, item in vars(value).items()}}
        raise TypeError(f"{type(value).__name__} is not kept")

    def _restored(self, told: Any) -> Any:
        """What was told. Raises: LookupError, TypeError, ValueError or AttributeError for what was not written here."""
        if not isinstance(told, dict):
            return told
        (kind, held), *more = told.items()
        match kind:
            case "path":
                return Path(held)
            case "folder":
                return Files(Path(held), dict(more)["names"])
            case "range":
                return range(*held)
            case "tuple" | "list":
                return _TUPLES[kind](self._restored(item) for item in held)
            case "map":
                return {key: self._restored(item) for key, item in held.items()}
            case "call":
                return partial(self._function(*held), *map(self._restored, dict(more)["given"]))
        return {"Track": Track, "Recording": Recording}[kind](**{k: self._restored(x) for k, x in held.items()})

    def _function(self, module: str, name: str) -> Callable[..., Any]:
        """A function of the reader's, or the one that reads motions. Raises: TypeError for any other."""
        if (module, name) == (load_motion.__module__, load_motion.__qualname__):
            return load_motion
        found = getattr(importlib.import_module(module), name, None) if module == self._module else None
        if found is None:
            raise TypeError(f"{module}.{name} is not the reader's")
        return found


def _places(path: Path, recording: Recording) -> list[str]:
    """Files and folders whose change makes another recording: its own, where its pictures lie, and what holds those."""
    places = [
        place for track in recording.tracks.values() for place in (track.frames, track.masks) if place is not None
    ]
    found = [path, *recording.files, *map(_folder, places)]
    around = [place.parent for place in found]
    return list(dict.fromkeys(str(place) for place in (*found, *(p for p in around if path in (p, *p.parents)))))


def _folder(place: Place) -> Path:
    return place if isinstance(place, Path) else next(iter(place.values())).parent


def _stamps(paths: Iterable[str]) -> dict[str, list[int]]:
    """Path -> when it changed, and a file's size. Raises: TypeError where one is not there."""
    try:
        found = {path: os.stat(path) for path in paths}
    except OSError as error:
        raise TypeError("a file is gone") from error
    return {path: [stat.st_mtime_ns, stat.st_size] for path, stat in found.items()}
