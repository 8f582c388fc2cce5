"""Writing clips to tar shards with an index."""

import hashlib
import io
import json
import tarfile
import zlib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from hvg.core.files import remove_partial, whole_file, write_text
from hvg.core.names import check_clip_names
from hvg.data.clip_files import encode_clip, encode_frames
from hvg.data.picture_files import EXACT, PictureFormat
from hvg.data.shards import SHARD_FORMAT, Size, checksum_of, index_path, whole_shard
from hvg.values.clip import ClipBatch


def write_shard(
    path: Path,
    clips: Iterable[ClipBatch],
    on_clip: Callable[[], None] = lambda: None,
    *,
    part: tuple[int, int] | None = None,
    left_out: Mapping[int, str] | None = None,
    pictures: PictureFormat = EXACT,
) -> None:
    """Writes a shard and then its index; until both are whole, neither is visible under its name.

    clips: each with B = 1, a name of its own and the same fields. pictures: how frames, photos and driving videos are kept;
    alpha and control maps are always kept to the bit.

    part: its number, from 0, and how many shards there are, so that a missing one is noticed; None where the name says it,
    as ``train-00001-of-00003.tar``, or nobody knows. left_out: clips that belong here but cannot be used: place among those of
    this part -> why; it is looked at when the last of ``clips`` was given.
    """
    keys: list[str] = []
    sizes: list[Size] = []
    subjects: list[str] = []
    digests: list[str] = []
    checks: dict[str, int] = {}
    texts: list[str] = []
    captions = True
    with whole_file(path) as partial:
        with tarfile.open(partial, "w", format=tarfile.GNU_FORMAT) as tar:
            for clip in clips:
                check_clip_names(clip.clip_id)
                keys.append(clip.clip_id[0])
                sizes.append((*clip.grid[1:], *clip.cameras.image_size))
                subjects.append(clip.subject[0])
                captions &= clip.caption is not None
                texts.append("" if clip.caption is None else clip.caption[0])
                files = encode_clip(clip, pictures)
                # Of the frames as they were given, so that a copy is known in whatever way it is kept.
                digests.append(_frames_digest(files if pictures == EXACT else encode_frames(clip)))
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
        index = {
            "format": SHARD_FORMAT,
            "bytes": size,
            "sha256": digest,
            "captions": captions,
            "clips": keys,
            "sizes": sizes,
        }
        index |= {"subjects": subjects, "digests": digests, "texts": texts, "members": members, "crc32": checks}
        index |= ({"part": part} if part else {}) | ({"left_out": left_out} if left_out else {})
        index |= {"lossy": str(pictures)} if pictures.is_lossy else {}
        index_path(path).unlink(missing_ok=True)
    write_index(path, index)


CLIPS_PER_SHARD = 32


def shard_path(folder: Path, split: str, number: int, count: int) -> Path:
    """Path of shard ``number`` of ``count`` of a split."""
    return folder / f"{split}-{number:05d}-of-{count:05d}.tar"


def write_shards(
    folder: Path,
    split: str,
    count: int,
    load: Callable[[int], ClipBatch],
    *,
    pictures: PictureFormat = EXACT,
    per_shard: int = CLIPS_PER_SHARD,
    report: Callable[[int, int], None] = lambda done, total: None,
) -> list[Path]:
    """Writes the ``count`` clips of a split, ``load(0)`` and so on, as shards that ``dataset=shards`` reads; their paths.

    A shard that is whole already is left as it is, so a command that was stopped goes on where it was; delete the folder
    to write it anew. pictures: as of ``write_shard``. report: is told of the clips done, and of all.
    """
    shards = -(-count // per_shard)
    paths = [shard_path(folder, split, number, shards) for number in range(shards)]
    for number, path in enumerate(paths):
        indices = range(number * per_shard, min(count, (number + 1) * per_shard))
        if whole_shard(path) is None:
            remove_partial(folder, path.stem)
            write_shard(path, map(load, indices), part=(number, shards), pictures=pictures)
        report(indices.stop, count)
    return paths


def write_index(path: Path, index: Mapping[str, Any]) -> None:
    """Writes the index of a shard, with its checksum."""
    content = {key: value for key, value in index.items() if key != "checksum"}
    write_text(index_path(path), json.dumps({**content, "checksum": checksum_of(content)}))


def _frames_digest(files: Mapping[str, bytes]) -> str:
    """Hexadecimal digest of the pictures of a clip, whatever it is called and whoever is said to be in it."""
    digest = hashlib.blake2b(digest_size=16)
    for name in sorted(files):
        if name.partition(".")[0] == "frames":
            digest.update(f"{name} {len(files[name])}\n".encode() + files[name])
    return digest.hexdigest()
