"""Clips in folders of videos and pictures that any system made: finding them, and matching them by name."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from hvg.core.errors import DataError, HvgError
from hvg.media.folder_video import Place
from hvg.media.listing import VIDEOS, images_in, listed, natural, pictures_in, unique


@dataclass(frozen=True)
class FolderClip:
    """Where a clip's pictures lie, for every view by its name ("" where it is the only one); problem: why they cannot be told."""

    name: str
    views: Mapping[str, Place]
    problem: str = ""


def find_clips(folder: Path) -> dict[str, FolderClip]:
    """Name -> clip, in natural order. Raises: HvgError when there is no such folder, or it holds no clip."""
    if not folder.is_dir():
        raise HvgError(f"{folder}: no such folder")
    found = [_clip(_name(path), lambda path=path: _views(path)) for path in listed(folder) if _may_be_clip(path)]
    clips: dict[str, FolderClip] = {}
    for clip in [*found, *_sequences(images_in(folder))]:
        twice = f"{folder}: two clips are named '{clip.name}'"
        clips[clip.name] = FolderClip(clip.name, {}, twice) if clip.name in clips else clip
    if not clips:
        raise HvgError(f"{folder}: holds no videos, no folders and no images")
    return {name: clips[name] for name in sorted(clips, key=natural)}


def _clip(name: str, views: Callable[[], Mapping[str, Place]]) -> FolderClip:
    """The clip with what ``views`` finds, or with why it finds nothing."""
    try:
        return FolderClip(name, views())
    except DataError as error:
        return FolderClip(name, {}, str(error))


def _views(path: Path) -> Mapping[str, Place]:
    """View -> where its pictures lie, of a video file, a folder of frames (one view, "") or a folder of views."""
    if path.is_file():
        return {"": path}
    images, inner = images_in(path), [found for found in listed(path) if _may_be_clip(found)]
    if images and inner:
        raise DataError(f"{path} holds frames and also '{inner[0].name}'; a clip is a folder of frames or of views")
    if images:
        return {"": unique(images)}
    views: dict[str, Place] = {}
    for found in inner:
        if _name(found) in views:
            raise DataError(f"{path}: two views are named '{_name(found)}'")
        views[_name(found)] = found if found.is_file() else pictures_in(found)
    empty = [view for view, place in views.items() if not isinstance(place, Path) and not place]
    if empty or not views:
        raise DataError(f"{path / empty[0] if empty else path}: the folder holds no pictures")
    return views


def _may_be_clip(path: Path) -> bool:
    return path.is_dir() or path.suffix.lower() in VIDEOS


def _name(path: Path) -> str:
    return path.name if path.is_dir() else path.stem


def _sequences(images: Mapping[str, Sequence[Path]]) -> Iterator[FolderClip]:
    """A clip for every run of consecutive numbers behind one prefix; it has the name of its first frame."""
    runs: list[list[str]] = []
    for name in images:
        if runs and name == _successor(runs[-1][-1]):
            runs[-1].append(name)
        else:
            runs.append([name])
    for run in runs:
        frames = {name: images[name] for name in run}
        yield _clip(run[0], lambda frames=frames: {"": unique(frames)})


def _successor(name: str) -> str | None:
    """The name with the number at its end one higher, padded alike: a_010 of a_009, a_10 of a_9; None without a number."""
    match = re.fullmatch(r"(.*?)(\d+)", name)
    return None if match is None else match[1] + str(int(match[2]) + 1).zfill(len(match[2]))
