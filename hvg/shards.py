"""Rendered clips at rest: a WebDataset tar of PNG images, .npy arrays and JSON, with an index for random access.

A clip ``key`` is stored as ``key.meta.json``, ``key.<array>.npy`` and one PNG per image, named
``key.<image>.<view>.<frame>.png``. Frames and alpha share an RGBA image. What 8 bits do not hold exactly (float control maps,
frames off the 8-bit grid) is ``key.<image>.<view>.<frame>.npy`` instead: what is read is what was written. Nothing is
pickled. The index ``<shard>.index.json`` is written last, so a shard without one was not finished. It says which shard of how
many this is, how large its clips are, whom they show, a digest of the frames of each, and a checksum of every file and of itself:
each file is checked when it is read. Of older indices, which lack some of that, all are read; where files have no checksum, the
whole shard is checked once by its SHA-256, when its first clip is read.

Shards may come from anyone. Reading one takes the bytes that the index points at and never extracts a member, so what the
tar says of names, links, devices and sizes has no effect.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
import tarfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import IO, Any, TypeVar

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from hvg.arrays import array_bytes, read_array
from hvg.cameras import Cameras
from hvg.eight_bit import frames_from_uint8, frames_to_uint8, same_bits, signal_from_uint8, signal_to_uint8
from hvg.errors import DataError
from hvg.files import read_text, whole_file, write_text
from hvg.names import check_clip_names, clip_name_problem
from hvg.protocols import Choose
from hvg.types import BodyMotion, ClipBatch, Reference

T = TypeVar("T")

FORMAT = "hvg-shard-1"
# Of a clip in it. Version 1, which says nothing of its version, kept what holds for the whole clip among the parameters of
# every frame; the one body model that there was had one such.
CLIP_VERSION = 2
CONSTANTS_OF_VERSION_1 = frozenset({"shape"})

# The end of a shard's name that numbers it: ``-00001-of-00003``, ``-1`` or ``_01``.
NUMBER = re.compile(r"[-_.]?(\d+)(-of-(\d+))?$")

# (V, T, H, W) of a clip.
Size = tuple[int, int, int, int]

# The end of the name of one picture's file: its view, its frame, PNG or floats.
_CELL = re.compile(r"\.\d+\.\d+\.(png|npy)$")
# Images of a clip that are no control maps.
CLIP_IMAGES = frozenset({"frames", "reference", "driving"})


def _png(pixels: np.ndarray) -> bytes:
    """H W K uint8, K in 1, 3, 4 -> PNG bytes."""
    stream = io.BytesIO()
    Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels).save(stream, "png", compress_level=1)
    return stream.getvalue()


def _npy(value: Tensor) -> bytes:
    return array_bytes(value.numpy())


def _images(name: str, pixels: Tensor) -> dict[str, bytes]:
    """V T K H W uint8 -> PNG files; channel counts that PNG does not know are kept as one array."""
    if pixels.shape[2] not in (1, 3, 4):
        return {f"{name}.npy": _npy(pixels)}
    array = pixels.movedim(2, -1).numpy()
    return {
        f"{name}.{v:03d}.{t:03d}.png": _png(array[v, t]) for v in range(array.shape[0]) for t in range(array.shape[1])
    }


def _floats(name: str, values: Tensor) -> dict[str, bytes]:
    """V T K H W float -> one array a picture."""
    return {
        f"{name}.{v:03d}.{t:03d}.npy": _npy(values[v, t].contiguous())
        for v in range(values.shape[0])
        for t in range(values.shape[1])
    }


def _pictures(name: str, frames: Tensor, alpha: Tensor | None = None) -> dict[str, bytes]:
    """V T 3 H W in [-1, 1] and V T 1 H W in [0, 1] as files: 8 bits where they hold both exactly, else floats."""
    colour = frames_to_uint8(frames)
    coverage = None if alpha is None else _alpha_to_uint8(alpha)
    exact = same_bits(frames_from_uint8(colour), frames)
    if alpha is None or coverage is None:
        return _images(name, colour) if exact else _floats(name, frames)
    if exact and same_bits(_alpha_from_uint8(coverage), alpha):
        return _images(name, torch.cat([colour, coverage], dim=2))
    return _floats(name, torch.cat([frames, alpha], dim=2))


def _signal(name: str, signal: Tensor) -> dict[str, bytes]:
    """A control map V T K H W, float32, as files: in 8 bits or half precision where that loses nothing."""
    levels, half = signal_to_uint8(signal), signal.to(torch.float16)
    if same_bits(signal_from_uint8(levels), signal):
        return _images(name, levels)
    return _floats(name, half if same_bits(half.float(), signal) else signal)


def _alpha_to_uint8(alpha: Tensor) -> Tensor:
    """[0, 1] -> uint8, rounded to nearest."""
    return (alpha * 255).round().to(torch.uint8)


def _alpha_from_uint8(alpha: Tensor) -> Tensor:
    """uint8 -> float32 in [0, 1]."""
    return alpha.to(torch.float32) / 255


def encode_clip(clip: ClipBatch) -> dict[str, bytes]:
    """One clip (B = 1) as named files."""
    if len(clip.clip_id) != 1:
        raise ValueError(f"a clip has B = 1, this batch has {len(clip.clip_id)}")
    files: dict[str, bytes] = {}
    meta: dict = {"version": CLIP_VERSION, "clip_id": clip.clip_id[0], "subject": clip.subject[0]}
    meta["image_size"] = clip.cameras.image_size
    arrays = {"world_to_camera": clip.cameras.world_to_camera, "intrinsics": clip.cameras.intrinsics}
    arrays |= {name: getattr(clip, name) for name in ("task", "valid", "frame_index")}
    if clip.body is not None:
        meta["joint_names"] = clip.body.joint_names
        arrays |= _body_arrays("body", clip.body)
    if clip.reference is not None:
        reference = clip.reference
        files |= _pictures("reference", reference.frames, reference.alpha)
        if reference.cameras is not None:
            arrays["reference_world_to_camera"] = reference.cameras.world_to_camera
            arrays["reference_intrinsics"] = reference.cameras.intrinsics
            meta["reference_image_size"] = reference.cameras.image_size
        if reference.body is not None:
            arrays |= _body_arrays("reference_body", reference.body)
    if clip.frames is not None:
        files |= _pictures("frames", clip.frames[0], None if clip.alpha is None else clip.alpha[0])
    if clip.driving is not None:
        files |= _pictures("driving", clip.driving)
    if clip.caption is not None:
        meta["caption"] = clip.caption[0]
    for key, signal in clip.signals.items():
        files |= _signal(f"signal-{key}", signal[0])
    files |= {f"{name}.npy": _npy(value) for name, value in arrays.items() if value is not None}
    return {"meta.json": json.dumps(meta).encode(), **files}


def _body_arrays(prefix: str, body: BodyMotion) -> dict[str, Tensor | None]:
    named = {f"{prefix}_parameter-{key}": value for key, value in body.parameters.items()}
    named |= {f"{prefix}_constant-{key}": value for key, value in body.constants.items()}
    fields = {name: getattr(body, name) for name in ("joints", "bone_radii", "vertices", "faces")}
    return {**{f"{prefix}_{name}": value for name, value in fields.items()}, **named}


def decode_clip(
    files: Mapping[str, bytes], choose: Choose | None = None, images: frozenset[str] | None = None
) -> ClipBatch:
    """The clip (B = 1) that ``encode_clip`` wrote, or some of it; no file is asked for that is not needed.

    choose: which views and frames. images: which of ``frames`` (with alpha), ``reference``, ``driving`` and
    ``signal-<key>``; None: all.
    """
    meta = json.loads(files["meta.json"])
    arrays = {
        name[:-4]: _array(files[name])
        for name in files
        if name.endswith(".npy")
        and not _CELL.search(name)
        and (images is None or not name.startswith("signal-") or name[:-4] in images)
    }
    if meta.get("version", 1) < CLIP_VERSION:
        arrays = _with_constants(arrays)
    cameras = _cameras(arrays, "", meta["image_size"])
    cells = None if choose is None else choose(*cameras.shape[1:])
    pictures = _decode_images(files, cells, images)
    names = tuple(meta.get("joint_names", ()))
    clip = ClipBatch(
        cameras=cameras,
        clip_id=(meta["clip_id"],),
        subject=(str(meta["subject"]),),
        body=_body(arrays, "body", names),
        reference=_reference(pictures.get("reference"), arrays, meta, names),
        task=arrays.get("task"),
        valid=arrays.get("valid"),
        frame_index=arrays.get("frame_index"),
        caption=(meta["caption"],) if "caption" in meta else None,
        signals={name.removeprefix("signal-"): x[None] for name, x in arrays.items() if name.startswith("signal-")},
    )
    clip = clip if cells is None else clip.select(*cells)
    frames, alpha = _split_rgba(pictures.get("frames"))
    drawn = {name.removeprefix("signal-"): x[None] for name, x in pictures.items() if name.startswith("signal-")}
    return replace(
        clip,
        frames=None if frames is None else frames[None],
        alpha=None if alpha is None else alpha[None],
        driving=_colour(pictures["driving"]) if "driving" in pictures else None,
        signals={
            key: signal_from_uint8(signal) if signal.dtype == torch.uint8 else signal.float()
            for key, signal in {**clip.signals, **drawn}.items()
        },
    )


def _reference(
    pixels: Tensor | None, arrays: dict[str, Tensor], meta: dict[str, Any], joint_names: tuple[str, ...]
) -> Reference | None:
    frames, alpha = _split_rgba(pixels)
    if frames is None:
        return None
    return Reference(
        frames=frames,
        alpha=alpha,
        cameras=_cameras(arrays, "reference_", meta["reference_image_size"])
        if "reference_image_size" in meta
        else None,
        body=_body(arrays, "reference_body", joint_names),
    )


def _decode_images(
    files: Mapping[str, bytes], cells: tuple[Sequence[int], range] | None, images: frozenset[str] | None
) -> dict[str, Tensor]:
    """Image name -> V T K H W, uint8 or floats; the photo is always whole, and the driving video has one view."""
    grids: dict[str, dict[tuple[int, int], str]] = {}
    for name in files:
        # Pictures are of a view and a frame, all of them; arrays where they are in a picture's stead.
        if name.endswith(".png") or _CELL.search(name):
            image, view, frame, _ = name.rsplit(".", 3)
            if images is None or image in images:
                grids.setdefault(image, {})[int(view), int(frame)] = name
    stacked = {}
    for image, grid in grids.items():
        views: Sequence[int] = range(max(v for v, _ in grid) + 1)
        frames: Sequence[int] = range(max(t for _, t in grid) + 1)
        if cells is not None and image != "reference":
            views, frames = (views if image == "driving" else cells[0]), cells[1]
        stacked[image] = torch.stack(
            [torch.stack([_picture(grid[v, t], files[grid[v, t]]) for t in frames]) for v in views]
        )
    return stacked


def _array(data: bytes) -> Tensor:
    return torch.from_numpy(read_array(io.BytesIO(data), len(data)))


def _picture(name: str, data: bytes) -> Tensor:
    """A file of one picture -> K H W, uint8 or floats."""
    if name.endswith(".npy"):
        return _array(data)
    pixels = np.asarray(Image.open(io.BytesIO(data), formats=("PNG",)))
    pixels = pixels[..., None] if pixels.ndim == 2 else pixels
    return torch.from_numpy(pixels.copy()).movedim(-1, 0)


def _split_rgba(pixels: Tensor | None) -> tuple[Tensor | None, Tensor | None]:
    if pixels is None:
        return None, None
    if pixels.shape[2] == 3:
        return _colour(pixels), None
    alpha = pixels[:, :, 3:]
    return _colour(pixels[:, :, :3]), _alpha_from_uint8(alpha) if alpha.dtype == torch.uint8 else alpha


def _colour(pixels: Tensor) -> Tensor:
    """... 3 H W of a file -> the same in [-1, 1]; floats are what they were."""
    return frames_from_uint8(pixels) if pixels.dtype == torch.uint8 else pixels


def _cameras(arrays: dict[str, Tensor], prefix: str, image_size: list[int]) -> Cameras:
    height, width = image_size
    if not (isinstance(height, int) and isinstance(width, int)):
        raise ValueError(f"an image size of {image_size}")
    return Cameras(
        world_to_camera=arrays[f"{prefix}world_to_camera"],
        intrinsics=arrays[f"{prefix}intrinsics"],
        image_size=(height, width),
    )


def _body(arrays: dict[str, Tensor], prefix: str, joint_names: tuple[str, ...]) -> BodyMotion | None:
    if f"{prefix}_joints" not in arrays:
        return None

    def named(kind: str) -> dict[str, Tensor]:
        marker = f"{prefix}_{kind}-"
        return {key.removeprefix(marker): value for key, value in arrays.items() if key.startswith(marker)}

    joints, parameters = arrays[f"{prefix}_joints"], named("parameter")
    for key, value in parameters.items():
        if value.shape[:2] != joints.shape[:2]:
            raise ValueError(f"parameter '{key}' is {tuple(value.shape)}, the joints have {joints.shape[1]} frames")
    return BodyMotion(
        joints=joints,
        joint_names=joint_names,
        bone_radii=arrays.get(f"{prefix}_bone_radii"),
        vertices=arrays.get(f"{prefix}_vertices"),
        faces=arrays.get(f"{prefix}_faces"),
        parameters=parameters,
        constants=named("constant"),
    )


def _with_constants(arrays: dict[str, Tensor]) -> dict[str, Tensor]:
    """The arrays of a clip of version 1, named as now."""
    renamed = {
        f"{prefix}_parameter-{key}": f"{prefix}_constant-{key}"
        for prefix in ("body", "reference_body")
        for key in CONSTANTS_OF_VERSION_1
    }
    return {renamed.get(name, name): value for name, value in arrays.items()}


class _Members(Mapping[str, bytes]):
    """File name -> its bytes, read from a shard when asked for. places: name -> offset and size. checks: name -> CRC-32.

    Raises: ValueError for a file that is not what was written.
    """

    def __init__(
        self, stream: IO[bytes], places: Mapping[str, tuple[int, int]], checks: Mapping[str, int] | None
    ) -> None:
        self._stream, self._places, self._checks = stream, places, checks

    def __getitem__(self, name: str) -> bytes:
        offset, size = self._places[name]
        self._stream.seek(offset)
        data = self._stream.read(size)
        if self._checks is not None and zlib.crc32(data) != self._checks[name]:
            raise ValueError(f"{name} is not what was written (CRC-32 differs)")
        return data

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)


def write_shard(
    path: Path,
    clips: Iterable[ClipBatch],
    on_clip: Callable[[], None] = lambda: None,
    *,
    part: tuple[int, int] | None = None,
) -> None:
    """Writes a shard and then its index; until both are whole, neither is visible under its name.

    part: its number, from 0, and how many shards there are, so that a missing one is noticed; None where the name says it,
    as ``train-00001-of-00003.tar``, or nobody knows.
    """
    keys: list[str] = []
    sizes: list[Size] = []
    subjects: list[str] = []
    digests: list[str] = []
    checks: dict[str, int] = {}
    captions = True
    with whole_file(path) as partial:
        with tarfile.open(partial, "w", format=tarfile.GNU_FORMAT) as tar:
            for clip in clips:
                check_clip_names(clip.clip_id)
                keys.append(clip.clip_id[0])
                sizes.append((*clip.grid[1:], *clip.cameras.image_size))
                subjects.append(clip.subject[0])
                captions &= clip.caption is not None
                files = encode_clip(clip)
                digests.append(_frames_digest(files))
                for name, data in files.items():
                    member = tarfile.TarInfo(f"{clip.clip_id[0]}.{name}")
                    member.size, checks[member.name] = len(data), zlib.crc32(data)
                    tar.addfile(member, io.BytesIO(data))
                on_clip()
        with tarfile.open(partial) as tar:
            members = {m.name: (m.offset_data, m.size) for m in tar}
        with partial.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
        size = partial.stat().st_size
        index = {"format": FORMAT, "bytes": size, "sha256": digest, "captions": captions, "clips": keys, "sizes": sizes}
        index |= {"subjects": subjects, "digests": digests, "members": members, "crc32": checks}
        index |= {"part": part} if part else {}
        index_path(path).unlink(missing_ok=True)
    write_index(path, index)


def write_index(path: Path, index: Mapping[str, Any]) -> None:
    """Writes the index of a shard, with its checksum."""
    content = {key: value for key, value in index.items() if key != "checksum"}
    write_text(index_path(path), json.dumps({**content, "checksum": _checksum(content)}))


def _checksum(index: Mapping[str, Any]) -> int:
    """CRC-32 of what an index says besides."""
    return zlib.crc32(json.dumps(index).encode())


def _frames_digest(files: Mapping[str, bytes]) -> str:
    """Hexadecimal digest of the pictures of a clip, whatever it is called and whoever is said to be in it."""
    digest = hashlib.blake2b(digest_size=16)
    for name in sorted(files):
        if name.partition(".")[0] == "frames":
            digest.update(f"{name} {len(files[name])}\n".encode() + files[name])
    return digest.hexdigest()


def index_path(path: Path) -> Path:
    """Where a shard's index lies."""
    return path.with_name(path.name + ".index.json")


class ShardReader:
    """Random access to the clips of one shard.

    Raises: DataError that names the file when it is missing, unfinished, truncated or of another format.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        if not path.exists():
            raise DataError(f"{path}: no such shard (make it with `hvg prepare`)")
        if not index_path(path).exists():
            raise DataError(
                f"{path}: the shard has no index {index_path(path).name}; it was not finished, make it again"
            )
        try:
            index = json.loads(read_text(index_path(path)))
            found = index.get("format")
        except (ValueError, AttributeError, RecursionError) as error:
            raise DataError(f"{index_path(path)}: no index of a shard ({' '.join(str(error).split())})") from error
        if found != FORMAT:
            raise DataError(f"{path}: format {found}, expected {FORMAT}")
        if path.stat().st_size != index.get("bytes"):
            raise DataError(
                f"{path}: {path.stat().st_size} bytes, its index says {index.get('bytes')}: truncated or replaced"
            )
        if "checksum" in index and index.pop("checksum") != _checksum(index):
            raise DataError(f"{index_path(path)}: damaged: it is not what was written (its checksum differs)")
        try:
            self.keys, self._members = _places(index)
            self._checks = _checks(index, self._members)
            # What tells, of a shard whose files have no checksums, that it is what was written; None once it was asked.
            self._digest: str | None = index.get("sha256") if self._checks is None else None
            self._sizes, self.part = _sizes(index), _part(path, index)
            self._captions: bool | None = index.get("captions")
            self._subjects, self._digests = (_texts(index, name) for name in ("subjects", "digests"))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise DataError(f"{index_path(path)}: damaged: {type(error).__name__}: {error}") from error

    def __len__(self) -> int:
        return len(self.keys)

    @cached_property
    def signals(self) -> frozenset[str]:
        """Keys of the control maps that every clip carries."""
        per_clip = [
            {name.removeprefix("signal-").split(".")[0] for name in members if name.startswith("signal-")}
            for members in self._members.values()
        ]
        return frozenset(set.intersection(*per_clip)) if per_clip else frozenset()

    @cached_property
    def sizes(self) -> list[Size]:
        """(V, T, H, W) of every clip; no picture is read. Raises: DataError for a clip that cannot be decoded."""
        return self._sizes or [self._decoded(i, _decode_size) for i in range(len(self))]

    @cached_property
    def subjects(self) -> dict[str, str]:
        """Clip id -> whom it shows; no picture is read. Raises: DataError for a clip that cannot be decoded."""
        names = self._subjects or [self._decoded(i, _decode_subject) for i in range(len(self))]
        return dict(zip(self.keys, names, strict=True))

    @cached_property
    def digests(self) -> dict[str, str]:
        """Clip id -> digest of its frames; empty where an index does not say it, as older ones do not."""
        return dict(zip(self.keys, self._digests, strict=True)) if self._digests else {}

    @cached_property
    def eight_bit(self) -> bool:
        """Whether frames, photos and driving videos are all kept in 8 bits."""
        names = (name for members in self._members.values() for name in members)
        return not any(name.endswith(".npy") and name.partition(".")[0] in CLIP_IMAGES for name in names)

    @cached_property
    def captions(self) -> bool:
        """Whether every clip carries a caption; where an index does not say so, as older ones do not, the clips do."""
        if self._captions is not None:
            return self._captions is True
        return all(self.load(place, images=frozenset()).caption is not None for place in range(len(self)))

    def load(self, index: int, choose: Choose | None = None, images: frozenset[str] | None = None) -> ClipBatch:
        """Clip ``index`` with B = 1; choose, images: what of it, as for ``decode_clip``. The rest is not read."""
        clip = self._decoded(index, lambda files: decode_clip(files, choose, images))
        if clip.clip_id != (self.keys[index],):
            raise DataError(f"{self.path}: clip '{self.keys[index]}' calls itself {clip.clip_id[0]!r}")
        return clip

    def _decoded(self, index: int, decode: Callable[[Mapping[str, bytes]], T]) -> T:
        """What ``decode`` makes of the files of clip ``index``. Raises: DataError naming it."""
        key = self.keys[index]
        try:
            with self.path.open("rb") as stream:
                self._check_whole(stream)
                return decode(_Members(stream, self._members[key], None if self._checks is None else self._checks[key]))
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


def _places(index: dict[str, Any]) -> tuple[list[str], dict[str, dict[str, tuple[int, int]]]]:
    """The clips of an index, and clip -> file -> offset and size. Raises: ValueError for what a shard cannot hold."""
    keys: list[str] = [str(key) for key in index["clips"]]
    members: dict[str, dict[str, tuple[int, int]]] = {key: {} for key in keys}
    for key in keys:
        if problem := clip_name_problem(key):
            raise ValueError(f"clip {key!r} {problem}")
    for name, (offset, size) in index["members"].items():
        if not (isinstance(offset, int) and isinstance(size, int) and 0 <= offset <= offset + size <= index["bytes"]):
            raise ValueError(f"{name!r} lies outside of the file, at {offset} with {size} bytes")
        key, _, rest = name.partition(".")
        members[key][rest] = (offset, size)
    if sum(size for files in members.values() for _, size in files.values()) > index["bytes"]:
        raise ValueError("its files overlap")
    return keys, members


def _checks(index: dict[str, Any], members: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, int]] | None:
    """Clip -> file -> CRC-32, as an index says; None where it does not. Raises: KeyError where it lacks that of a file."""
    found = index.get("crc32")
    return found and {key: {name: found[f"{key}.{name}"] for name in files} for key, files in members.items()}


def _sizes(index: dict[str, Any]) -> list[Size] | None:
    """(V, T, H, W) of every clip, as an index says; None where it does not. Raises: ValueError for what is no size."""
    sizes = index.get("sizes")
    if sizes is None:
        return None
    if len(sizes) != len(index["clips"]):
        raise ValueError(f"sizes of {len(sizes)} clips, it holds {len(index['clips'])}")
    return [(_whole(views), _whole(frames), _whole(h), _whole(w)) for views, frames, h, w in sizes]


def _texts(index: dict[str, Any], name: str) -> list[str] | None:
    """What an index says of every clip under ``name``; None where it does not. Raises: ValueError for what is no text."""
    texts = index.get(name)
    if texts is None:
        return None
    if len(texts) != len(index["clips"]) or not all(isinstance(text, str) for text in texts):
        raise ValueError(f"{name} are not a text for each of {len(index['clips'])} clips")
    return texts


def _part(path: Path, index: dict[str, Any]) -> tuple[int, int] | None:
    """A shard's number and how many there are, as its index or its name says. Raises: ValueError for what is no number."""
    named = NUMBER.search(path.stem)
    if index.get("part") is not None:
        number, count = index["part"]
        return _whole(number, least=0), _whole(count)
    return (int(named[1]), int(named[3])) if named and named[3] else None


def _whole(value: Any, least: int = 1) -> int:
    if not isinstance(value, int) or value < least:
        raise ValueError(f"{value!r} is no whole number from {least} on")
    return value


def _decode_size(files: Mapping[str, bytes]) -> Size:
    """(V, T, H, W) of a clip, of its cameras."""
    matrices = read_array(io.BytesIO(data := files["world_to_camera.npy"]), len(data))
    cameras = _cameras(
        {name: torch.from_numpy(matrices) for name in ("world_to_camera", "intrinsics")},
        "",
        json.loads(files["meta.json"])["image_size"],
    )
    _, views, frames = cameras.shape
    return views, frames, *cameras.image_size


def _decode_subject(files: Mapping[str, bytes]) -> str:
    return str(json.loads(files["meta.json"])["subject"])


def check_complete(parts: Mapping[Path, tuple[int, int] | None]) -> tuple[str, ...]:
    """What a user has to know of shards that were found, a line each. parts: ``ShardReader.part`` of each.

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
                "(hvg.shards.write_shard takes part=(number, count))"
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
