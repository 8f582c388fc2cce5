"""Pictures and videos in folders, in natural order."""

import os
import re
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from hvg.core.errors import DataError

IMAGES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff"})
VIDEOS = frozenset({".mp4", ".mov", ".mkv", ".webm", ".avi", ".gif", ".m4v"})
# Every digit as one, to see where names have any.
_ONE_DIGIT = str.maketrans("123456789", "0" * 9)

Key = TypeVar("Key", bound=Hashable)
Other = TypeVar("Other", bound=Hashable)


class Files(Mapping[Key, Path]):
    """Files of a folder, each by a key; a path is made when it is asked for, for there may be millions.

    names: key -> name of the file.
    """

    def __init__(self, folder: Path, names: Mapping[Key, str]) -> None:
        self.folder, self.names = folder, names

    def __getitem__(self, key: Key) -> Path:
        return self.folder / self.names[key]

    def __iter__(self) -> Iterator[Key]:
        return iter(self.names)

    def __len__(self) -> int:
        return len(self.names)

    def __contains__(self, key: object) -> bool:
        return key in self.names

    def keyed(self, keys: Mapping[Other, Key]) -> "Files[Other]":
        """Some of the files by other keys. keys: new -> old."""
        return Files(self.folder, {new: self.names[old] for new, old in keys.items()})


def listed(folder: Path) -> list[Path]:
    """Paths in a folder, in natural order, without hidden ones."""
    return sorted((p for p in folder.iterdir() if not p.name.startswith(".")), key=lambda path: natural(path.name))


def images_in(folder: Path) -> dict[str, list[Path]]:
    """Name without suffix -> image files of that name (more than one is a mistake), in natural order."""
    images: dict[str, list[Path]] = {}
    for name in _image_names(folder):
        images.setdefault(os.path.splitext(name)[0], []).append(folder / name)
    return images


def pictures_in(folder: Path, ending: str = "") -> Files[str]:
    """Name without suffix -> its one image file, in natural order; ending: of those that are looked at.

    Raises: DataError for a name with two.
    """
    pictures: dict[str, str] = {}
    for name in (name for name in _image_names(folder) if name.endswith(ending)):
        stem = os.path.splitext(name)[0]
        if stem in pictures:
            raise DataError(f"two images have one name: {folder / pictures[stem]} and {name}")
        pictures[stem] = name
    return Files(folder, pictures)


def _image_names(folder: Path) -> list[str]:
    """Names of image files in natural order, without hidden ones."""
    # The folder itself says what is a folder: a million pictures are not asked one by one.
    with os.scandir(folder) as entries:
        return in_order(
            entry.name
            for entry in entries
            if os.path.splitext(entry.name)[1].lower() in IMAGES and not (entry.name.startswith(".") or entry.is_dir())
        )


def in_order(names: Iterable[str]) -> list[str]:
    """Names in natural order."""
    found = list(names)
    # Where all have digits at the same places, letters are in that order.
    alike = len({name.translate(_ONE_DIGIT) for name in found}) < 2
    return sorted(found, key=None if alike else natural)


def unique(images: Mapping[str, Sequence[Path]]) -> dict[str, Path]:
    """Name -> its one file. Raises: DataError for a name with two."""
    for paths in images.values():
        if len(paths) > 1:
            raise DataError(f"two images have one name: {paths[0]} and {paths[1].name}")
    return {name: paths[0] for name, paths in images.items()}


def natural(name: str) -> list[tuple[int, int, str]]:
    """Sorts frame-2 before frame-10."""
    return [(0, int(part), part) if part.isdecimal() else (1, 0, part) for part in re.split(r"(\d+)", name)]
