"""Clips in folders of videos and pictures that any system made: finding them, and matching them by name."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from hvg.core.errors import DataError, HvgError
from hvg.media.folder_video import Place
from hvg.media.listing import VIDEOS, images_in, listed, natural, pictures_in, unique


@dataclass(frozen=True)
class FolderClip:
    """Where a clip's pictures lie, for every view by its name ("" where it is the only one); problem: why they cannot be told."""

    name: str
    views: Mapping[str, Place]
    problem: str = ""


# How far the channels of a grey video part when it is decoded.
GREY_TOLERANCE = 8
# A mask without anything brighter holds labels (0 and 1), not coverage.
DARK = 32


class MaskLook:
    """Is shown the frames of a mask, (3, H, W) uint8, and then knows whether it is one: white is the person, black the rest."""

    def __init__(self) -> None:
        self._colourful, self._brightest = False, 0

    def __call__(self, frame: Tensor) -> None:
        self._colourful = self._colourful or bool(((frame.amax(dim=0) - frame.amin(dim=0)) > GREY_TOLERANCE).any())
        self._brightest = max(self._brightest, int(frame.max()))

    def refuse_what_is_none(self) -> None:
        """Raises: DataError that says why it is no mask."""
        if self._colourful:
            raise DataError("the mask is coloured; white (255) is the person, black the rest")
        if 0 < self._brightest < DARK:
            raise DataError(f"the mask's brightest value is {self._brightest}; white (255) is the person")


def known_views(clip: FolderClip) -> Mapping[str, Place]:
    """View -> where its pictures lie. Raises: DataError where they cannot be told."""
    if clip.problem:
        raise DataError(clip.problem)
    return clip.views


def same_names(what: str, made: Mapping[str, object], truth: Mapping[str, object]) -> None:
    """Raises: DataError where names are missing or too many."""
    missing, extra = [n for n in truth if n not in made], [n for n in made if n not in truth]
    if missing:
        raise DataError(f"{len(missing)} of {len(truth)} {what} are missing, first '{missing[0]}'")
    if extra:
        raise DataError(f"{len(extra)} {what} have no counterpart in the reference, first '{extra[0]}'")


def find_clips(folder: Path) -> dict[str, FolderClip]:
    """Name -> clip, in natural order. Raises: HvgError when there is no such folder, or it holds no clip."""
    if not folder.is_dir():
        raise HvgError(f"{folder}: no such folder")
    found = [_clip(_name(path), lambda path=path: views_of(path)) for path in listed(folder) if _may_be_clip(path)]
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


def views_of(path: Path) -> Mapping[str, Place]:
    """View -> where its pictures lie, of a video file, a folder of frames (one view, "") or a folder of views.

    Raises: DataError where they cannot be told.
    """
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
