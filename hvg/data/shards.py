"""Rendered clips at rest: a WebDataset tar of pictures, .npy arrays and JSON, with an index for random access.

A clip ``key`` is stored as ``key.meta.json``, ``key.<array>.npy`` and one file per image, named
``key.<image>.<view>.<frame>.png``, or ``.webp`` or ``.jpg``. Frames and alpha share an RGBA image where that is a PNG; else
alpha is ``key.alpha-<image>.<view>.<frame>.png``. What 8 bits do not hold exactly (float control maps, frames off the 8-bit
grid) is ``key.<image>.<view>.<frame>.npy`` instead: but for frames that are meant to lose something, what is read is what was
written. Nothing is pickled. The index ``<shard>.index.json`` is written last, so a shard without one was not finished. It says
which shard of how many this is, how large its clips are, whom they show, with which loss pictures are kept, a digest of the
frames of each, and a checksum of every file and of itself: each file is checked when it is read. Of older indices, which lack
some of that, all are read; where files have no checksum, the whole shard is checked once by its SHA-256, when its first clip is
read.

Shards may come from anyone. Reading one takes the bytes that the index points at and never extracts a member, so what the
tar says of names, links, devices and sizes has no effect.
"""

import hashlib
import io
import json
import re
import zlib
from collections.abc import Callable, Collection, Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import IO, Annotated, Any, TypeVar

import torch
from pydantic import BaseModel, Field, StrictBool, StrictInt, ValidationError, model_validator

from hvg.core.arrays import read_array
from hvg.core.errors import DataError
from hvg.core.files import read_text
from hvg.core.names import clip_name_problem
from hvg.core.next_commands import PREPARE
from hvg.data.clip_files import ALPHA, MOVING_MESH, SIGNAL, decode_cameras, decode_clip
from hvg.parts.scene import Choose
from hvg.values.clip import DRIVING_FIELDS, ClipBatch
from hvg.values.packed import unpacked

T = TypeVar("T")
SHARD_FORMAT = "hvg-shard-1"
# The end of a shard's name that numbers it: ``-00001-of-00003``, ``-1`` or ``_01``.
NUMBER = re.compile(r"[-_.]?(\d+)(-of-(\d+))?$")
Count = Annotated[StrictInt, Field(ge=1)]
CountFromZero = Annotated[StrictInt, Field(ge=0)]
# (V, T, H, W) of a clip.
Size = tuple[Count, Count, Count, Count]


class _Members(Mapping[str, bytes]):
    """File name -> its bytes, of one clip, read from a shard when asked for.

    places: name -> offset and size. checks: name, after the clip's -> CRC-32. Raises: ValueError for a file that is not what
    was written.
    """

    def __init__(
        self, stream: IO[bytes], clip: str, places: Mapping[str, tuple[int, int]], checks: Mapping[str, int] | None
    ) -> None:
        self._stream, self._clip, self._places, self._checks = stream, clip, places, checks

    def __getitem__(self, name: str) -> bytes:
        offset, size = self._places[name]
        self._stream.seek(offset)
        data = self._stream.read(size)
        if self._checks is not None and zlib.crc32(data) != self._checks[f"{self._clip}.{name}"]:
            raise ValueError(f"{name} is not what was written (CRC-32 differs)")
        return data

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)


def checksum_of(index: Mapping[str, Any]) -> int:
    """CRC-32 of what an index says besides."""
    return zlib.crc32(json.dumps(index).encode())


def index_path(path: Path) -> Path:
    """Path of a shard's index."""
    return path.with_name(path.name + ".index.json")


class _Index(BaseModel):
    """Contents of a shard as its index says, which may be older than some of the fields, or anybody's."""

    bytes: CountFromZero
    clips: list[str]
    members: dict[str, tuple[CountFromZero, CountFromZero]]
    crc32: dict[str, int] | None = None
    sha256: str | None = None
    sizes: list[Size] | None = None
    subjects: list[str] | None = None
    digests: list[str] | None = None
    captions: StrictBool | None = None
    texts: list[str] | None = None
    lossy: str | None = None
    part: tuple[CountFromZero, Count] | None = None
    left_out: dict[int, str] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _holds_together(self) -> "_Index":
        clips = set(self.clips)
        for clip in clips:
            if problem := clip_name_problem(clip):
                raise ValueError(f"clip {clip!r} {problem}")
        for field in ("sizes", "subjects", "digests", "texts"):
            found = getattr(self, field)
            if found is not None and len(found) != len(self.clips):
                raise ValueError(f"{field} of {len(found)} clips, it holds {len(self.clips)}")
        for name, (offset, size) in self.members.items():
            if name.partition(".")[0] not in clips:
                raise ValueError(f"{name!r} belongs to no clip")
            if offset + size > self.bytes:
                raise ValueError(f"{name!r} lies outside of the file, at {offset} with {size} bytes")
        if sum(size for _, size in self.members.values()) > self.bytes:
            raise ValueError("its files overlap")
        if self.crc32 is not None and not self.members.keys() <= self.crc32.keys():
            raise ValueError("it lacks the checksum of a file")
        return self


class ShardReader:
    """Random access to the clips of one shard.

    Raises: DataError that names the file when it is missing, unfinished, truncated or of another format.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        if not path.exists():
            raise DataError(f"{path}: no such shard", then=PREPARE)
        if not index_path(path).exists():
            raise DataError(
                f"{path}: the shard has no index {index_path(path).name}; it was not finished, make it again",
                then=PREPARE,
            )
        try:
            index = json.loads(read_text(index_path(path)))
            found = index.get("format")
        except (ValueError, AttributeError, RecursionError) as error:
            raise DataError(f"{index_path(path)}: no index of a shard ({' '.join(str(error).split())})") from error
        if found != SHARD_FORMAT:
            raise DataError(f"{path}: format {found}, expected {SHARD_FORMAT}", then=PREPARE)
        if path.stat().st_size != index.get("bytes"):
            raise DataError(
                f"{path}: {path.stat().st_size} bytes, its index says {index.get('bytes')}: truncated or replaced"
            )
        if "checksum" in index and index.pop("checksum") != checksum_of(index):
            raise DataError(f"{index_path(path)}: damaged: it is not what was written (its checksum differs)")
        try:
            known = _Index.model_validate(index)
        except ValidationError as error:
            first = error.errors()[0]
            problem = " ".join([".".join(map(str, first["loc"])), first["msg"]])
            raise DataError(f"{index_path(path)}: damaged: {' '.join(problem.split())}") from None
        self.keys, self._known = known.clips, known
        # Clips that belong here and could not be used, by their place among all of this part, and why.
        self.left_out: Mapping[int, str] = known.left_out
        self._members: dict[str, dict[str, tuple[int, int]]] = {key: {} for key in known.clips}
        for name, span in known.members.items():
            clip, _, file = name.partition(".")
            self._members[clip][file] = span
        # Digest that checks a shard whose files have no checksums; None once it was checked.
        self._digest = known.sha256 if known.crc32 is None else None
        named = NUMBER.search(path.stem)
        self.part = known.part or ((int(named[1]), int(named[3])) if named and named[3] else None)

    def __len__(self) -> int:
        return len(self.keys)

    @cached_property
    def signals(self) -> frozenset[str]:
        """Keys of the control maps that every clip carries."""
        per_clip = [
            {name.removeprefix(SIGNAL).split(".")[0] for name in members if name.startswith(SIGNAL)}
            for members in self._members.values()
        ]
        return frozenset(set.intersection(*per_clip)) if per_clip else frozenset()

    @cached_property
    def driving(self) -> frozenset[str]:
        """Which of ``DRIVING_FIELDS`` every clip carries."""
        per_clip = [{name.partition(".")[0] for name in members} for members in self._members.values()]
        return frozenset(DRIVING_FIELDS).intersection(*per_clip) if per_clip else frozenset()

    @cached_property
    def meshes(self) -> bool:
        """Whether every clip carries its body's mesh, and how bones carry that."""
        return all(members.keys() >= MOVING_MESH for members in self._members.values())

    @cached_property
    def sizes(self) -> list[Size]:
        """(V, T, H, W) of every clip; no picture is read. Raises: DataError for a clip that cannot be decoded."""
        return self._known.sizes or [self._decoded(i, _decode_size) for i in range(len(self))]

    @cached_property
    def subjects(self) -> dict[str, str]:
        """Clip id -> whom it shows; no picture is read. Raises: DataError for a clip that cannot be decoded."""
        names = self._known.subjects or [self._decoded(i, _decode_subject) for i in range(len(self))]
        return dict(zip(self.keys, names, strict=True))

    @cached_property
    def texts(self) -> dict[str, str]:
        """Clip id -> caption, "" for none; no picture is read. Raises: DataError for a clip that cannot be decoded."""
        texts = self._known.texts or [self._decoded(i, _decode_text) for i in range(len(self))]
        return dict(zip(self.keys, texts, strict=True))

    @cached_property
    def digests(self) -> dict[str, str]:
        """Clip id -> digest of its frames; empty where an index does not say it, as older ones do not."""
        return dict(zip(self.keys, self._known.digests or [], strict=False))

    @cached_property
    def eight_bit(self) -> bool:
        """Whether frames, photos, their alpha and driving videos are all kept in 8 bits."""
        return not any(name.endswith(".npy") for name in self._picture_names())

    @cached_property
    def lossy(self) -> str | None:
        """With which loss frames, photos and driving videos are kept, in words; None where they are what was given."""
        jpeg = any(name.endswith(".jpg") for name in self._picture_names())
        return self._known.lossy or ("jpeg" if jpeg else None)

    def _picture_names(self) -> Iterator[str]:
        pictures = {"frames", "reference", *DRIVING_FIELDS}
        names = (name for members in self._members.values() for name in members)
        return (name for name in names if name.partition(".")[0].removeprefix(ALPHA) in pictures)

    @cached_property
    def captions(self) -> bool:
        """Whether every clip carries a caption; where an index does not say so, as older ones do not, the clips do."""
        if self._known.captions is not None:
            return self._known.captions
        return all(self.load(place, images=(), signals=()).caption is not None for place in range(len(self)))

    def load(
        self,
        index: int,
        choose: Choose | None = None,
        images: Collection[str] | None = None,
        signals: Collection[str] | None = None,
        mesh: bool = True,
    ) -> ClipBatch:
        """Clip ``index`` with B = 1; the others say what of it, as for ``decode_clip``. The rest is not read."""
        return unpacked(self.load_packed(index, choose, images, signals, mesh))

    def load_packed(
        self,
        index: int,
        choose: Choose | None = None,
        images: Collection[str] | None = None,
        signals: Collection[str] | None = None,
        mesh: bool = True,
    ) -> ClipBatch:
        """The same, with pictures in 8 bits where files hold them so (``hvg.values.packed``)."""
        clip = self._decoded(index, lambda files: decode_clip(files, choose, images, signals, mesh))
        if clip.clip_id != (self.keys[index],):
            raise DataError(f"{self.path}: clip '{self.keys[index]}' calls itself {clip.clip_id[0]!r}")
        return clip

    def _decoded(self, index: int, decode: Callable[[Mapping[str, bytes]], T]) -> T:
        """Result of ``decode`` for the files of clip ``index``. Raises: DataError naming it."""
        key = self.keys[index]
        try:
            with self.path.open("rb") as stream:
                self._check_whole(stream)
                return decode(_Members(stream, key, self._members[key], self._known.crc32))
        except Exception as error:  # Damaged bytes make the readers of images and JSON raise nearly anything.
            if isinstance(error, OSError) and error.errno is not None:
                # The file system's, which may have it the next time; Pillow's have no number.
                raise
            reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
            raise DataError(f"{self.path}: clip '{key}' cannot be decoded: {reason}") from error

    def _check_whole(self, stream: io.BufferedReader) -> None:
        """Raises: ValueError for a shard, of an index without checksums of its files, that is not what was written."""
        if self._digest is not None and hashlib.file_digest(stream, "sha256").hexdigest() != self._digest:
            raise ValueError("the shard is not what was written (SHA-256 differs)")
        self._digest = None


def _decode_size(files: Mapping[str, bytes]) -> Size:
    """(V, T, H, W) of a clip, of its cameras."""
    matrices = read_array(io.BytesIO(data := files["world_to_camera.npy"]), len(data))
    cameras = decode_cameras(
        {name: torch.from_numpy(matrices) for name in ("world_to_camera", "intrinsics")},
        "",
        json.loads(files["meta.json"])["image_size"],
    )
    _, views, frames = cameras.shape
    return views, frames, *cameras.image_size


def _decode_subject(files: Mapping[str, bytes]) -> str:
    return str(json.loads(files["meta.json"])["subject"])


def _decode_text(files: Mapping[str, bytes]) -> str:
    return str(json.loads(files["meta.json"]).get("caption", ""))


def check_complete(parts: Mapping[Path, tuple[int, int] | None]) -> tuple[str, ...]:
    """Notes for the user on the shards that were found, a line each. parts: ``ShardReader.part`` of each.

    Raises: DataError where one is missing, or they are of two sets.
    """
    sets: dict[str, dict[Path, tuple[int, int] | None]] = {}
    for path, part in parts.items():
        sets.setdefault(NUMBER.sub("", path.stem), {})[path] = part
    notes = []
    for name, found in sets.items():
        known = {path: part for path, part in found.items() if part is not None}
        first = next(iter(found))
        if not known:
            notes.append(
                f"nothing says how many shards {first.parent / name}*.tar there are, so a missing one is not noticed "
                "(hvg.data.shard_writing.write_shard takes part=(number, count))"
            )
            continue
        unknown, counts = [path for path in found if path not in known], {count for _, count in known.values()}
        if unknown or len(counts) > 1 or len({*known.values()}) < len(known):
            raise DataError(f"{first.parent}: the shards {', '.join(path.name for path in found)} are not of one set")
        missing = sorted({*range(counts.pop())} - {number for number, _ in known.values()})
        if missing:
            numbers = ", ".join(map(str, missing[:5])) + (", ..." if len(missing) > 5 else "")
            raise DataError(
                f"{first.parent}: {len(missing)} of {len(missing) + len(known)} shards {name}*.tar are missing: number "
                f"{numbers} (the first is 0)"
            )
    return tuple(notes)


def whole_shard(path: Path) -> ShardReader | None:
    """The shard at ``path``; None where there is none, or it is damaged."""
    try:
        return ShardReader(path)
    except DataError:
        return None
