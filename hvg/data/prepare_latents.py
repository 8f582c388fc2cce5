"""What frozen networks make of rendered clips, ahead of training: which files are missing, and one of them at a time."""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor

from hvg.config.build import build_conditioners, build_fit, build_part, told_captions
from hvg.config.composition import parse_resolved
from hvg.config.machine import choose_device
from hvg.config.settings import RunConfig
from hvg.core.errors import DataError, HvgError
from hvg.data.cache import shard_paths
from hvg.data.features import encodings
from hvg.data.latents import EncodedFile, Encoding, encoded_path, trained_sizes, write_encoded
from hvg.data.shards import ShardReader
from hvg.parts.as_seen import as_seen
from hvg.parts.scene import Alignment, Fit
from hvg.parts.text_conditioner import check_captions
from hvg.values.buckets import Picture
from hvg.values.resized import resize_clip


def owned_encodings(configs: Sequence[RunConfig]) -> list[tuple[RunConfig, list[Encoding]]]:
    """Each configuration with those of its encodings that none before it has of the same buckets; without those that add none.

    Raises: DataError for a caption that one of them cannot read, as far as captions are known.
    """
    owned, known = [], set[tuple[str, str]]()
    for config in configs:
        codec, conditioners = build_conditioners(config)
        check_captions(conditioners.values(), told_captions(config, "train"))
        sizes = str((config.data.trained_buckets, config.data.max_crop))
        found = [e for e in encodings(config, codec, conditioners.values()) if (e.name, sizes) not in known]
        known.update((encoding.name, sizes) for encoding in found)
        if found:
            owned.append((config, found))
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


def to_encode(config: RunConfig, owned: Sequence[Encoding]) -> Iterator[ToEncode]:
    """What of the shards' clips training sees, and which of the encodings have no whole file of it.

    A file that is made again keeps the clips that it has: another run's buckets may take other clips to the size.
    """
    for shard in map(ShardReader, shard_paths(config, "train")):
        for size, clips in trained_sizes(config, shard).items():
            missing = [encoding for encoding in owned if not _holds(encoding, shard, size, clips)]
            kept = [
                clip for clip in shard.keys if clip in clips or any(_holds(e, shard, size, [clip]) for e in missing)
            ]
            yield ToEncode(config.to_yaml(), shard.path, size, kept, [encoding.name for encoding in missing])


def _holds(encoding: Encoding, shard: ShardReader, size: Picture | None, clips: Sequence[str]) -> bool:
    """Whether there is a whole file of a shard's encoding with these clips."""
    try:
        captions = {clip: shard.texts[clip] for clip in clips}
        EncodedFile(encoded_path(shard.path, encoding.name, size), encoding.keys(captions))
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
    seen = any(encoding.of_pictures for encoding in wanted)
    for key in task.clips:
        clip = shard.load(shard.keys.index(key), images=("frames", "reference") if seen else (), signals=())
        if seen:
            clip = fit.observe(clip)
            clip = clip if task.size is None else resize_clip(clip, task.size)
            clip = as_seen(clip.to(device), alignment, config.data.background)
        else:
            clip = clip.to(device)
        with torch.no_grad():
            for encoding in wanted:
                (place,) = encoding.keys(clip.captions)
                if place not in made[encoding.name]:
                    made[encoding.name][place] = {k: x.cpu() for k, x in encoding.encode(clip).items()}
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
