"""Outputs of frozen networks for clips, made once by ``hvg prepare latents`` and read by training.

Beside the rendered shards lies one folder for the codec's latents and one for each conditioner's features of the photo or of the
text, and one more for each size of ``data.buckets`` that pictures are brought to. Its name changes with everything that its
content depends on: the codec, its settings, weights and code, the alignment, the network, the size.
In it, ``<shard>.safetensors`` holds tensors ``<clip>.<name>``, (V, T, ...) float32 (V = T = 1 where they belong to the whole
clip; latent frames for T where the codec joins frames in time), and for each ``<clip>.<name>.crc32``, (V, T): raw numbers do
not show that a bit flipped. Nor does a name: the file's metadata hold a checksum of the names and shapes of all tensors, but
in older files. What is made of a text is there once for all clips with that text, which has the place of the clip's id
(``Encoding.keys``).
"""

import json
import math
import zlib
from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional

from hvg.config.settings import RunConfig
from hvg.core.digests import components_digest, settings_digest
from hvg.core.errors import DataError
from hvg.core.files import regular_file, whole_file
from hvg.core.next_commands import PREPARE_LATENTS
from hvg.core.sources import source_digest
from hvg.data.shards import ShardReader
from hvg.data.signals import fit_origin
from hvg.parts.model import Codec
from hvg.parts.part import Part, PartConfig
from hvg.parts.scene import Choose, ClipsOf, Dataset
from hvg.values.buckets import Picture, places
from hvg.values.clip import DRIVING_FIELDS, ClipBatch
from hvg.values.latent_clip import joined
from hvg.values.moved import align

ENCODING_FORMAT = "hvg-latents-1"
# How the name of a tensor with the checksums of another's cells ends.
CHECKSUMS = ".crc32"


def latent_coverage(batch: ClipBatch, latents: Tensor, stride: int = 1) -> Tensor | None:
    """Mean alpha (B, V, t, 1, h, w) of every latent cell, as the batch carries it or of its alpha; None without either.

    stride: of the latents in time, over whose frames the mean goes, too.
    """
    if batch.coverage is not None or batch.alpha is None:
        return batch.coverage
    height, width = latents.shape[-2:]
    cells = functional.adaptive_avg_pool2d(batch.alpha.flatten(0, 2), (height, width)).unflatten(0, batch.grid)
    return cells if stride == 1 else joined(cells, stride).mean(dim=3)


class Encoding(ABC):
    """Something frozen that is made of an aligned clip (B = 1) once.

    name: of its folder. what: it is, for messages. of_pictures: whether it is made of pictures; else the clip comes without.
    """

    name: str
    what: str
    of_pictures: bool = True

    def keys(self, captions: Mapping[str, str]) -> list[str]:
        """Names under which it is kept of clips, clip id -> caption or "": here the clips' own."""
        return list(captions)

    @abstractmethod
    def encode(self, clip: ClipBatch) -> dict[str, Tensor]:
        """Name -> tensor (V, T, ...), V = T = 1 for what belongs to the whole clip."""

    @abstractmethod
    def restore(self, clip: ClipBatch, file: "EncodedFile", choose: Choose | None) -> ClipBatch:
        """The clip (B = 1), of which ``choose`` took views and frames, with what the file holds of it."""


class PictureLatents(Encoding):
    """The codec's latents of every picture, and how much of every latent cell the person covers."""

    def __init__(self, config: RunConfig, codec: Codec) -> None:
        self._codec = codec
        self.name = f"latents-{settings_digest(picture_origin(config, codec))}"
        self.what = f"latents of the codec '{config.codec.name}'"

    def encode(self, clip: ClipBatch) -> dict[str, Tensor]:
        if clip.frames is None:
            raise DataError(f"clip '{clip.clip_id[0]}' has no frames to encode")
        latents = self._codec.encode(clip.frames)
        coverage = latent_coverage(clip, latents, self._codec.temporal_stride)
        return {"latents": latents[0]} | ({} if coverage is None else {"coverage": coverage[0]})

    def restore(self, clip: ClipBatch, file: "EncodedFile", choose: Choose | None) -> ClipBatch:
        tensors = file.read(clip.clip_id[0], choose and self._in_latents(choose, clip.grid[2]))
        coverage = tensors.get("coverage")
        return replace(clip, latents=tensors["latents"][None], coverage=None if coverage is None else coverage[None])

    def _in_latents(self, choose: Choose, frames: int) -> Choose:
        """The choice among latent frames that goes with a choice of ``frames`` frames: all, where those of a clip are joined."""
        if self._codec.temporal_stride == 1:
            return choose
        return lambda views, latents: (choose(views, frames)[0], range(latents))


def picture_origin(config: RunConfig, codec: Codec) -> list[Any]:
    """Settings that all encodings of pictures depend on: alignment, the fit by which it aligns, background and codec; and the
    code behind them.
    """
    choice = config.codec
    settings = settings_beside_weights(codec, choice.config, codec.memory_settings)
    made_by = [choice.name, settings, components_digest(codec.frozen())]
    code = [
        source_digest(module) for module in (type(codec).__module__, config.alignment.cls.__module__, align.__module__)
    ]
    return [ENCODING_FORMAT, config.alignment.resolved(), config.data.background, made_by, code, *fit_origin(config)]


def settings_beside_weights(part: Part, config: PartConfig, without: frozenset[str]) -> dict[str, Any]:
    """A part's settings; where its networks lie (``path``, see ``Part.frozen``) does not matter, as their weights do."""
    return config.model_dump(mode="json", exclude={*without, *(["path"] if part.frozen() else [])})


def encoded_path(shard: Path, name: str, size: Picture | None = None) -> Path:
    """Path of the file with the encoding ``name`` of a shard's clips; size: that their pictures are brought to, if any."""
    folder = name if size is None else f"{name}-{size[0]}x{size[1]}"
    return shard.parent / folder / f"{shard.stem}.safetensors"


def write_encoded(path: Path, clips: Mapping[str, Mapping[str, Tensor]]) -> None:
    """Writes clip id -> name -> tensor (V, T, ...); until the file is whole, it is not visible under its name."""
    tensors: dict[str, Tensor] = {}
    for clip, named in clips.items():
        for name, value in named.items():
            value = value.detach().to("cpu", torch.float32).contiguous()
            checks = [[zlib.crc32(cell.numpy().tobytes()) for cell in row] for row in value]
            tensors |= {f"{clip}.{name}": value, f"{clip}.{name}{CHECKSUMS}": torch.tensor(checks)}
    with whole_file(path) as partial:
        partial.touch()
        mode = partial.stat().st_mode
        names = _names_checksum({name: tensor.shape for name, tensor in tensors.items()})
        # One entry: the library writes several in any order, and the same encodings are the same bytes.
        save_file(tensors, partial, metadata={"format": f"{ENCODING_FORMAT} {names}"})
        # The library keeps its files for whoever writes them; a cache is shared like any other file.
        partial.chmod(mode)


class EncodedFile:
    """Random access to the encodings of one shard's clips.

    Raises: DataError that names the file where it is missing, damaged, or lacks one of the clips.
    """

    def __init__(self, path: Path, clips: Sequence[str]) -> None:
        self.path = path
        if not path.exists():
            raise DataError(f"{path}: no such file", then=PREPARE_LATENTS)
        try:
            # The library's reader sees to it that places lie in the file, fit their shapes and do not overlap.
            with safe_open(regular_file(path), framework="pt") as file:
                form = (file.metadata() or {}).get("format", "")
            if form.partition(" ")[0] != ENCODING_FORMAT:
                raise DataError(f"{path}: format {form}, expected {ENCODING_FORMAT}")
            self._places = _places(path, clips)
        except (SafetensorError, ValueError) as error:
            raise self._damaged(str(error)) from error
        lacking = next((clip for clip, held in self._places.items() if not held), None)
        if lacking is not None:
            raise DataError(
                f"{path}: holds nothing of clip '{lacking}'; make it with the words of this run", then=PREPARE_LATENTS
            )

    def read(self, clip: str, choose: Choose | None = None) -> dict[str, Tensor]:
        """Name -> tensor of a clip (or text), of which ``choose`` takes views and frames; nothing else is read."""
        try:
            with self.path.open("rb") as stream:
                return {name: place.read(stream, choose) for name, place in self._places[clip].items()}
        except ValueError as error:
            raise self._damaged(f"clip '{clip}': {error}") from error

    def _damaged(self, reason: str) -> DataError:
        reason = " ".join(reason.split())
        return DataError(f"{self.path}: damaged ({reason}); delete it and make it again", then=PREPARE_LATENTS)


@dataclass(frozen=True)
class _Place:
    """Offsets at which a tensor (V, T, ...) float32 and the checksums (V, T) int64 of its cells begin in a file."""

    shape: tuple[int, ...]
    values: int
    checks: int

    def read(self, stream: IO[bytes], choose: Choose | None) -> Tensor:
        """The chosen views and frames. Raises: ValueError for a cell that is not what was written."""
        views, frames, *inner = self.shape
        chosen, span = (range(views), range(frames)) if choose is None else choose(views, frames)
        rows = [self._row(stream, view * frames + span.start, len(span)) for view in chosen]
        return torch.stack(rows).view(len(chosen), len(span), *inner)

    def _row(self, stream: IO[bytes], first: int, count: int) -> Tensor:
        """Neighbouring cells (count, N)."""
        size = 4 * math.prod(self.shape[2:])
        data = bytearray(_bytes(stream, self.values + first * size, count * size))
        checks = _bytes(stream, self.checks + 8 * first, 8 * count)
        for i in range(count):
            if zlib.crc32(data[i * size : (i + 1) * size]).to_bytes(8, "little") != checks[8 * i : 8 * i + 8]:
                raise ValueError(f"the numbers at byte {self.values + (first + i) * size} are not what was written")
        return torch.frombuffer(data, dtype=torch.float32).view(count, -1)


def _names_checksum(shapes: Mapping[str, Sequence[int]]) -> str:
    """CRC-32 of the names and shapes of a file's tensors, as text."""
    return str(zlib.crc32(json.dumps([[name, *shapes[name]] for name in sorted(shapes)]).encode()))


def _bytes(stream: IO[bytes], offset: int, size: int) -> bytes:
    stream.seek(offset)
    return stream.read(size)


def _places(path: Path, clips: Sequence[str]) -> dict[str, dict[str, _Place]]:
    """Clip -> name -> place, for these clips. Raises: ValueError where one has other numbers than ours.

    The library's own reader maps the file anew for every clip, which takes longer than to read what a step needs.
    """
    with path.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        header = json.loads(stream.read(length))
    expected = header.pop("__metadata__", {}).get("format", "").partition(" ")[2]
    if expected and expected != _names_checksum({key: entry["shape"] for key, entry in header.items()}):
        raise ValueError("the names of its tensors are not what was written")
    places: dict[str, dict[str, _Place]] = {clip: {} for clip in clips}
    for key, tensor in header.items():
        clip, _, name = key.partition(".")
        if clip not in places or name.endswith(CHECKSUMS):
            continue
        checks, shape = header.get(key + CHECKSUMS), tuple(tensor["shape"])
        kinds = (tensor["dtype"], checks and (checks["dtype"], checks["shape"]))
        if kinds != ("F32", ("I64", list(shape[:2]))) or math.prod(shape) == 0:
            raise ValueError(f"{key} is no float32 tensor (V, T, ...) with checksums")
        begins = (8 + length + entry["data_offsets"][0] for entry in (tensor, checks))
        places[clip][name] = _Place(shape, *begins)
    return places


class StoredClips(Dataset):
    """Clips of shards, and of each what training still decodes where all else was made ahead.

    images, signals: as for ``hvg.data.clip_files.decode_clip``.
    """

    def __init__(self, shards: Sequence[ShardReader], images: Collection[str], signals: Collection[str]) -> None:
        super().__init__()
        self._places = [(shard, i) for shard in shards for i in range(len(shard))]
        self._images, self._signals = images, signals

    @classmethod
    def provides(cls, config: Any) -> frozenset[str]:
        raise TypeError("stored clips provide what their source provides, but frames and alpha")

    def __len__(self) -> int:
        return len(self._places)

    def load(self, index: int) -> ClipBatch:
        shard, place = self._places[index]
        return shard.load(place, None, self._images, self._signals, mesh=False)

    def load_part(self, index: int, choose: Choose, signals: frozenset[str]) -> ClipBatch:
        shard, place = self._places[index]
        return shard.load_packed(place, choose, self._images, self._signals, mesh=False)


class EncodedClips(ClipsOf):
    """Clips for training, with what was made of them ahead in place of their frames.

    files: clip and size of its pictures -> the file of each encoding.
    """

    def __init__(
        self,
        source: Dataset,
        encodings: Sequence[Encoding],
        files: Mapping[tuple[str, Picture], Sequence[EncodedFile]],
    ) -> None:
        super().__init__(source)
        self._encodings, self._files = encodings, files

    def load(self, index: int) -> ClipBatch:
        return self._restored(self._source.load(index), None)

    def load_part(self, index: int, choose: Choose, signals: frozenset[str]) -> ClipBatch | None:
        part = self._source.load_part(index, choose, signals)
        return part and self._restored(part, choose)

    def at_size(self, size: Picture, codes: Mapping[str, Sequence[int]]) -> Dataset:
        """The same clips, with what was made of their pictures at another size."""
        return EncodedClips(self._source.at_size(size, codes), self._encodings, self._files)

    def _restored(self, clip: ClipBatch, choose: Choose | None) -> ClipBatch:
        files = self._files[clip.clip_id[0], clip.cameras.image_size]
        for encoding, file in zip(self._encodings, files, strict=True):
            clip = encoding.restore(clip, file, choose)
        return clip


def trained_sizes(config: RunConfig, shard: ShardReader) -> dict[Picture | None, list[str]]:
    """Size (height, width) -> the clips of a shard whose pictures training brings to it; None: those that keep their own."""
    found: dict[Picture | None, list[str]] = {}
    for clip, size in zip(shard.keys, shard.sizes, strict=True):
        fitting = places(config.data.trained_buckets, size, config.data.max_crop)
        for picture in dict.fromkeys(bucket.size for bucket in fitting):
            found.setdefault(None if picture == tuple(size[2:]) else picture, []).append(clip)
    return found


def wanted_images(config: RunConfig) -> set[str]:
    """Images, besides control maps, that training still decodes where all encodings were made ahead."""
    needed: set[str] = set()
    for choice in config.conditioners.values():
        # What has frozen features looks at the photo through them alone.
        looks = choice.cls.has_frozen_features(choice.config)
        needed |= choice.cls.needs(choice.config) - ({"reference"} if looks else set())
    return needed & {"reference", *DRIVING_FIELDS}
