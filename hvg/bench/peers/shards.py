"""Rows: reading clips from our shards beside plain WebDataset with the same decoder.

Both read the same files in one process in turns, and make the same tensors of frames and alpha of each clip, in 8 bits.
WebDataset reads a tar from its beginning to its end and checks nothing; ours reads clips in any order, cameras and body too, and
checks each file's CRC-32.
"""

import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hvg.bench.peers.row import SHARDS_GOAL, How, Row
from hvg.bench.reading import first_clips, written
from hvg.bench.timing import Ratio, Side
from hvg.config.composition import compose
from hvg.core.errors import HvgError
from hvg.data.picture_files import PictureFormat, decode_picture
from hvg.data.shards import ShardReader

FORMATS = (PictureFormat(), PictureFormat("webp"), PictureFormat("jpeg", 95))


def rows() -> Iterator[Row]:
    """A clip of ``scale=gpu`` in every format."""
    for form in FORMATS:
        yield Row(
            name=f"shards {form}",
            ours="hvg.data.shards",
            theirs="webdataset WebDataset, the same decoder",
            what="a clip of 8 x 8 frames of 256 x 256, from the disk's cache",
            measure=partial(measure, form=form),
            goal=SHARDS_GOAL,
            needs=("webdataset",),
            install="pip install webdataset",
        )


def ours(path: Path) -> list[Tensor | None]:
    """Frames and alpha (1, V, T, K, H, W) of every clip."""
    reader = ShardReader(path)
    clips = [reader.load_packed(index, images=("frames",), signals=()) for index in range(len(reader))]
    return [pictures for clip in clips for pictures in (clip.frames, clip.alpha)]


def plain(path: Path) -> list[Tensor]:
    """The same by WebDataset: pictures of a clip decoded in their order."""
    from webdataset import WebDataset  # pyright: ignore[reportAttributeAccessIssue, reportMissingImports]

    found = []
    for sample in WebDataset(str(path), shardshuffle=False, empty_check=False):
        pixels = _stacked(sample, "frames")
        # In one picture, or beside it in files of its own.
        alpha = pixels[:, :, :, 3:] if pixels.shape[3] == 4 else _stacked(sample, "alpha-frames")
        found += [pixels[:, :, :, :3], alpha]
    return found


def _stacked(sample: dict[str, Any], image: str) -> Tensor:
    """Pictures of a name, (1, V, T, K, H, W) uint8."""
    names = sorted(name for name in sample if name.startswith(f"{image}."))
    views = len({name.split(".")[1] for name in names})
    return torch.stack([decode_picture(sample[name]) for name in names]).unflatten(0, (1, views, -1))


def measure(how: How, *, form: PictureFormat, words: tuple[str, ...] = ("scale=gpu",)) -> Ratio:
    """Raises: HvgError where the two read other pictures."""
    with tempfile.TemporaryDirectory() as folder:
        (path,) = written(first_clips(compose([*words]), 1), Path(folder), form)
        return of_shard(how, path)


def of_shard(how: How, path: Path) -> Ratio:
    """The same for a shard that is there."""
    both = zip(ours(path), plain(path), strict=True)
    if not all(a is not None and torch.equal(a, b) for a, b in both):
        raise HvgError(f"shards: {path} is not read alike by both sides")
    return how.compare("shards", Side(partial(ours, path)), Side(partial(plain, path)))
