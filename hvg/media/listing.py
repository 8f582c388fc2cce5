"""Pictures and videos in folders, in natural order."""

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from hvg.core.errors import DataError

IMAGES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff"})
VIDEOS = frozenset({".mp4", ".mov", ".mkv", ".webm", ".avi", ".gif", ".m4v"})


def listed(folder: Path) -> list[Path]:
    """Paths in a folder, in natural order, without hidden ones."""
    return sorted((p for p in folder.iterdir() if not p.name.startswith(".")), key=lambda path: natural(path.name))


def images_in(folder: Path) -> dict[str, list[Path]]:
    """Name without suffix -> image files of that name (more than one is a mistake), in natural order."""
    # The folder itself says what is a folder: a million pictures are not asked one by one.
    with os.scandir(folder) as entries:
        found = [entry.name for entry in entries if not (entry.name.startswith(".") or entry.is_dir())]
    images: dict[str, list[Path]] = {}
    for path in (folder / name for name in sorted(found, key=natural)):
        if path.suffix.lower() in IMAGES:
            images.setdefault(path.stem, []).append(path)
    return images


def unique(images: Mapping[str, Sequence[Path]]) -> dict[str, Path]:
    """Name -> its one file. Raises: DataError for a name with two."""
    for paths in images.values():
        if len(paths) > 1:
            raise DataError(f"two images have one name: {paths[0]} and {paths[1].name}")
    return {name: paths[0] for name, paths in images.items()}


def natural(name: str) -> list[tuple[int, int, str]]:
    """Sorts frame-2 before frame-10."""
    return [(0, int(part), part) if part.isdecimal() else (1, 0, part) for part in re.split(r"(\d+)", name)]
