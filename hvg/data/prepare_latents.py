"""What frozen networks make of rendered clips, ahead of training: which files are missing, and one of them at a time."""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor

from hvg.config.build import build_conditioners, build_fit, build_part
from hvg.config.composition import parse_resolved
from hvg.config.machine import choose_device
from hvg.config.settings import RunConfig
from hvg.core.errors import DataError, HvgError
from hvg.data.cache import shard_paths
from hvg.data.latents import EncodedFile, Encoding, encoded_path, encodings, trained_sizes, write_encoded
from hvg.data.shards import ShardReader
from hvg.parts.as_seen import as_seen
from hvg.parts.scene import Alignment, Fit
from hvg.values.buckets import Picture
from hvg.values.resized import resize_clip


def owned_encodings(configs: Sequence[RunConfig]) -> list[tuple[RunConfig, list[str]]]:
    """Each configuration with the names of those of its encodings that none before it has of the same buckets; without those
    that add none.
    """
    owned, known = [], set[tuple[str, str]]()
    for config in configs:
        codec, conditioners = build_conditioners(config)
        sizes = str((config.data.trained_buckets, config.data.max_crop))
        names = [e.name for e in encodings(config, codec, conditioners.values()) if (e.name, sizes) not in known]
        known.update((name, sizes) for name in names)
        if names:
            owned.append((config, names))
    return owned


@dataclass(frozen=True)
class ToEncode:
    """Some clips of a shard, and the encodings of which each gets a file with them.

    text: the configuration. size: as of ``encoded_path``. names: of the encodings; none where all files are there.
    """

    text: str
    shard: Path
    size: Picture | None
    clips: Sequence[str]
    names: Sequence[str]


def to_encode(config: RunConfig, names: Sequence[str]) -> Iterator[ToEncode]:
    """What of the shards' clips training sees, and which of the encodings ``names`` have no whole file of it.

    A file that is made again keeps the clips that it has: another run's buckets may take other clips to the size.
    """
    for shard in map(ShardReader, shard_paths(config, "train")):
        for size, clips in trained_sizes(config, shard).items():
            paths = {name: encoded_path(shard.path, name, size) for name in names}
            missing = [name for name, path in paths.items() if not _holds(path, clips)]
            kept = [
                clip for clip in shard.keys if clip in clips or any(_holds(paths[name], [clip]) for name in missing)
            ]
            yield ToEncode(config.to_yaml(), shard.path, size, kept, missing)


def _holds(path: Path, clips: Sequence[str]) -> bool:
    """Whether a whole file has these clips."""
    try:
        EncodedFile(path, clips)
    except DataError:
        return False
    return True


def encode(task: ToEncode, ticks) -> None:
    """The encodings of some of a shard's clips, in a process of its own. Raises: HvgError where it would make others."""
    one_thread()
    config, fit, alignment, found = _encoders(task.text)
    if not found.keys() >= {*task.names}:
        raise HvgError(
            f"{task.shard}: code or weights of frozen networks have changed since this began; the same command begins anew"
        )
    wanted, shard, device = [found[name] for name in task.names], ShardReader(task.shard), choose_device(config.device)
    made: dict[str, dict[str, Mapping[str, Tensor]]] = {name: {} for name in task.names}
    for key in task.clips:
        clip = fit.observe(shard.load(shard.keys.index(key), images=("frames", "reference"), signals=()))
        clip = clip if task.size is None else resize_clip(clip, task.size)
        clip = as_seen(clip.to(device), alignment, config.data.background)
        with torch.no_grad():
            for encoding in wanted:
                made[encoding.name][key] = {k: x.cpu() for k, x in encoding.encode(clip).items()}
        ticks.put(1)
    for name, clips in made.items():
        write_encoded(encoded_path(task.shard, name, task.size), clips)


@lru_cache(maxsize=1)
def _encoders(text: str) -> tuple[RunConfig, Fit, Alignment, dict[str, Encoding]]:
    """The configuration, its fit, alignment and encodings by name; kept from one shard to the next."""
    config = parse_resolved(text, "prepare")
    codec, conditioners = build_conditioners(config)
    found = encodings(config, codec, conditioners.values())
    return config, build_fit(config), build_part(config.alignment), {encoding.name: encoding for encoding in found}


def one_thread() -> None:
    """One core for this process, and for those that it starts."""
    torch.set_num_threads(1)
    os.environ.setdefault("OMP_NUM_THREADS", "1")
