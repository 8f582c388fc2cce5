"""Pictures of people that somebody else's reconstruction made, from a folder."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache, cached_property
from pathlib import Path
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from hvg.core.digests import file_digest
from hvg.core.eight_bit import frames_from_uint8
from hvg.core.errors import DataError, did_you_mean
from hvg.core.required import required
from hvg.media.folder_clips import FolderClip, MaskLook, find_clips, known_views, same_names
from hvg.media.folder_video import Place
from hvg.media.images import read_image_8bit
from hvg.media.video import video_frames
from hvg.parts.context import SceneContext
from hvg.parts.part import PartConfig
from hvg.parts.reconstructor import Reconstructor, Seen
from hvg.values.cameras import project
from hvg.values.clip import ClipBatch

# A frame (3, H, W) uint8 and its own alpha (1, H, W), None where it has none, with the file that it is from.
_Frame = tuple[Path, Tensor, Tensor | None]


class FilesConfig(PartConfig):
    """Settings of the folders."""

    path: Path = Field(
        description="Folder of the pictures: a folder for each clip by its id, in it one for each view, in it the frames; or a "
        "video for each view. A clip of one view needs none for it."
    )
    masks: Path | None = Field(
        None, description="Folder of masks with the same names, white is the person; null: the pictures' own alpha."
    )
    background: Literal["white", "black"] = Field(
        "white", description="What is behind the person in pictures that come with masks."
    )


class Files(Reconstructor[FilesConfig]):
    """What a reconstruction of any kind drew of each clip: pictures with alpha, or pictures and masks.

    Clips go by their id, views and frames by their place in natural order (view-2 before view-10). Nothing is resized, skipped
    or replaced: a clip has as many views there as in the data, and pictures of its size. Files hold no depth: a person stands as
    a card where the pelvis is.
    """

    requires = frozenset({"body", "cameras"})

    def __init__(self, config: FilesConfig, context: SceneContext) -> None:
        super().__init__(config, context)

    @classmethod
    def learns(cls, config: FilesConfig) -> bool:
        return False

    @classmethod
    def content(cls, config: FilesConfig) -> str:
        """Digest of all files in both folders, by name. Raises: DataError for a folder that is not there."""
        digest = hashlib.blake2b(digest_size=16)
        for folder in (config.path, *([config.masks] if config.masks else [])):
            if not folder.is_dir():
                raise DataError(f"{folder}: no such folder")
            for path in sorted(path for path in folder.rglob("*") if path.is_file()):
                found = path.stat()
                digest.update(
                    f"{path.relative_to(folder)} {_digest(path, found.st_mtime_ns, found.st_size)}\n".encode()
                )
        return digest.hexdigest()

    @torch.no_grad()
    def render(
        self, batch: ClipBatch, pixels: Tensor | None = None, draws: Sequence[torch.Generator] | None = None
    ) -> Seen:
        """Raises: DataError that names what is missing, or does not fit the clip."""
        clips = [self._clip(batch.clips(slice(b, b + 1))) for b in range(batch.grid[0])]
        colour, alpha = (torch.stack(x).to(batch.cameras.intrinsics) for x in zip(*clips, strict=True))
        body = required(batch.body, "ClipBatch.body")
        _, depth = project(body.place("pelvis")[:, None, :, None], batch.cameras)
        card = torch.where(alpha > 0, depth.clamp_min(0)[..., None], 0)
        seen = Seen(colour=colour, alpha=alpha, depth=card)
        return seen if pixels is None else seen.at(pixels)

    @cached_property
    def _pictures(self) -> Mapping[str, FolderClip]:
        return find_clips(self.config.path)

    @cached_property
    def _masks(self) -> Mapping[str, FolderClip] | None:
        return None if self.config.masks is None else find_clips(self.config.masks)

    def _clip(self, clip: ClipBatch) -> tuple[Tensor, Tensor]:
        """Colour times alpha (V, T, H, W, 3) and alpha (V, T, H, W) of one clip."""
        grid, (name,) = clip.view_grid(), clip.clip_id
        views = _views(self.config.path, self._pictures, name, int(grid.num_views[0]))
        masks: Mapping[str, Place] = {}
        if self.config.masks and self._masks:
            masks = _views(self.config.masks, self._masks, name, len(views))
            with _of(f"clip '{name}' in {self.config.masks}"):
                same_names("views", masks, views)
        order = range(clip.grid[2]) if clip.frame_index is None else clip.frame_index[0].tolist()
        made = []
        for view in (list(views)[v] for v in grid.view_index[0].tolist()):
            frames = _chosen(self.config.path / name / view, views[view], order)
            shown = _covered(frames) if not masks else self._masked(name, view, frames, views[view], masks[view], order)
            made.append(_of_size(frames, shown, clip.cameras.image_size))
        colour, alpha = (torch.stack(x) for x in zip(*made, strict=True))
        return colour, alpha

    def _masked(
        self, name: str, view: str, frames: Sequence[_Frame], pictures: Place, masks: Place, order: Sequence[int]
    ) -> list[tuple[Tensor, Tensor]]:
        """Colour times alpha (3, H, W), and alpha (H, W), of frames whose masks lie in files of their own."""
        where = required(self.config.masks, "masks") / name / view
        if not isinstance(pictures, Path) and not isinstance(masks, Path):
            with _of(where):
                same_names("masks", masks, pictures)
        behind, look, made = 1.0 if self.config.background == "white" else -1.0, MaskLook(), []
        for (path, frame, own), (mask_path, mask, _) in zip(frames, _chosen(where, masks, order), strict=True):
            if own is not None and bool((own < 255).any()):
                raise DataError(
                    f"{path} has transparent pixels, and {mask_path} says the same once more; expected one of both"
                )
            if mask.shape != frame.shape:
                raise DataError(f"{mask_path} is {_size(mask)}, its picture {path} is {_size(frame)}")
            look(mask)
            alpha = mask[0].float() / 255
            colour = frames_from_uint8(frame) - (1 - alpha) * behind
            made.append((colour.clamp(-alpha, alpha), alpha))
        with _of(where):
            look.refuse_what_is_none()
        return made


@cache
def _digest(path: Path, changed: int, size: int) -> str:
    """Digest of a file, read once for as long as its time and size stay: several ask for it before a run begins."""
    return file_digest(path)


def _views(folder: Path, clips: Mapping[str, FolderClip], name: str, count: int) -> Mapping[str, Place]:
    """The views of a clip. Raises: DataError where the clip is not there, or not with so many views."""
    if name not in clips:
        raise DataError(f"{folder}: there is no clip '{name}'. {did_you_mean(name, clips)}".strip())
    with _of(folder):
        views = known_views(clips[name])
    if len(views) != count:
        names = ", ".join(views) or "none"
        raise DataError(f"{folder / name}: found {len(views)} views ({names}), expected the clip's {count}")
    return views


def _chosen(where: Path, place: Place, order: Sequence[int]) -> list[_Frame]:
    """Frames by their number, counted from 0. where: named in messages. Raises: DataError where one is not there."""
    wanted: set[int] = set(order)
    found: dict[int, _Frame] = {}
    for number, frame in enumerate(_frames(place, wanted)):
        if number in wanted:
            found[number] = frame
        if number == max(wanted):
            break
    missing = sorted(wanted - set(found))
    if missing:
        count = "fewer" if isinstance(place, Path) else str(len(place))
        raise DataError(f"{where}: found {count} frames, expected frame {missing[0]} of the clip, counted from 0")
    return [found[number] for number in order]


def _frames(place: Place, wanted: set[int]) -> Iterator[_Frame]:
    """The frames of a video, or pictures, of which only the wanted ones are read."""
    if isinstance(place, Path):
        for frame, _ in video_frames(place):
            yield place, torch.from_numpy(frame.copy()).movedim(-1, 0), None
        return
    for number, path in enumerate(place.values()):
        yield (path, *read_image_8bit(path)) if number in wanted else (path, torch.empty(0), None)


def _covered(frames: Sequence[_Frame]) -> list[tuple[Tensor, Tensor]]:
    """Colour times alpha (3, H, W), and alpha (H, W), of frames with alpha of their own."""
    for path, _, alpha in frames:
        if alpha is None:
            raise DataError(
                f"{path} has no alpha, so that nothing says where the person is; expected one, or masks=FOLDER"
            )
    shares = [(frame, alpha[0].float() / 255) for _, frame, alpha in frames if alpha is not None]
    return [(frames_from_uint8(frame) * share, share) for frame, share in shares]


def _of_size(
    frames: Sequence[_Frame], shown: Sequence[tuple[Tensor, Tensor]], size: tuple[int, int]
) -> tuple[Tensor, Tensor]:
    """(T, H, W, 3) and (T, H, W). Raises: DataError for a frame of another size (height, width)."""
    for path, frame, _ in frames:
        if tuple(frame.shape[1:]) != tuple(size):
            raise DataError(
                f"{path} is {_size(frame)}, expected {size[1]} x {size[0]}, the size of the clip's pictures"
            )
    colour, alpha = (torch.stack(x) for x in zip(*shown, strict=True))
    return colour.movedim(1, -1), alpha


def _size(frame: Tensor) -> str:
    return f"{frame.shape[-1]} x {frame.shape[-2]}"


@contextmanager
def _of(where: Path | str) -> Iterator[None]:
    """Puts in front of a DataError what it is about."""
    try:
        yield
    except DataError as error:
        raise DataError(f"{where}: {error}") from None
