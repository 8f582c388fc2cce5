"""Clips and shape of a training step: functions of (seed, step) alone, so the same on every rank and after a stop."""

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import torch

from hvg.config.settings import RunConfig
from hvg.core.errors import DataError
from hvg.core.random_keys import generator
from hvg.data.cache import shard_paths
from hvg.data.shards import ShardReader
from hvg.parts.scene import told_size
from hvg.values.buckets import Bucket, Group, alike, groups, sources_of


class Place(NamedTuple):
    """A position of the training order. clips: those of the step's group. index: of the position's clip among them."""

    clips: Sequence[int]
    index: int
    bucket: Bucket

    @property
    def clip(self) -> int:
        """Index of the position's clip in the dataset."""
        return self.clips[self.index]


def place_at(seed: int, found: Sequence[Group], position: int, clips_per_step: int) -> Place:
    """What the training order has at a position. clips_per_step: as of ``TrainingOrder``."""
    step, place = divmod(position, clips_per_step)
    number, earlier = _drawn_group(seed, step, found)
    group = found[number]
    index = clip_position(seed, earlier * clips_per_step + place, len(group.clips), number)
    return Place(group.clips, index, _bucket(seed, step, group.buckets))


def _drawn_group(seed: int, step: int, found: Sequence[Group]) -> tuple[int, int]:
    """Number of the group that a step draws from, and how many steps before it drew from that group.

    First which source, by the weights; then, of the steps that draw this source, which of its groups, by the clips in each.
    """
    sources = list(dict.fromkeys(group.source for group in found))
    chosen, own_step = group_of_step(seed, step, tuple(source.weight for source in sources), "sources")
    own = [number for number, group in enumerate(found) if group.source == sources[chosen]]
    label, counts = sources[chosen].label, tuple(len(found[number].clips) for number in own)
    number, earlier = group_of_step(seed, own_step, counts, *(("groups", label) if label else ()))
    return own[number], earlier


def _bucket(seed: int, step: int, buckets: Sequence[Bucket]) -> Bucket:
    if len(buckets) == 1:
        return buckets[0]
    # The word is of times when a bucket was a grid of views and frames: so runs of those times go on as they began.
    return buckets[int(torch.randint(len(buckets), (1,), generator=generator(seed, "grids", step)))]


def training_groups(config: RunConfig, count: int) -> list[Group]:
    """The ``count`` training clips of a run by source and by the buckets that each fits; all fit all where nothing says sizes.

    Raises: DataError where no clip fits any, and where a mixture does not know its clips.
    """
    data, dataset = config.data, config.dataset
    held = dataset.cls.holdings(dataset.config)
    # Files in the cache may hold fewer clips than the dataset.
    shards = [ShardReader(path) for path in (shard_paths(config, "train") if data.cache else [])]
    known = {clip: size for shard in shards for clip, size in zip(shard.keys, shard.sizes, strict=True)} or held.sizes
    sizes, told = list(known.values()), told_size(dataset.config)
    if not sizes and held.weights:
        raise DataError(f"dataset {dataset.name}: what its parts hold is not known: {'; '.join(held.notes)}")
    if not sizes and told:
        sizes = count * [told]
    if not sizes:
        return alike(count, *data.trained_buckets)
    if len(sizes) != count:
        raise DataError(f"dataset {dataset.name}: its files tell the sizes of {len(sizes)} clips, and it has {count}")
    found = groups(data.trained_buckets, sizes, data.max_crop, sources_of(known, held.weights))
    if not found:
        raise DataError(f"dataset {dataset.name}: none of {count} clips fits a bucket of data.buckets")
    return found


def clip_position(seed: int, position: int, count: int, group: int = 0) -> int:
    """Which of the ``count`` clips of a group is at a position of its endless order: each epoch is a fresh permutation."""
    epoch, place = divmod(position, count)
    return int(_epoch_order(seed, epoch, count, group)[place])


@lru_cache(maxsize=32)
def _epoch_order(seed: int, epoch: int, count: int, group: int) -> torch.Tensor:
    # The first group has the key of times when there was but one.
    return torch.randperm(count, generator=generator(seed, "order", epoch, *([group] if group else [])))


def group_of_step(seed: int, step: int, counts: Sequence[int], *key: str) -> tuple[int, int]:
    """The group of clips that a step draws from, and how many steps before it drew from that group.

    counts: clips of every group. A cycle of sum(counts) steps, over their common divisor, has of every group its share, in a
    fresh order, so that all clips are seen equally often. key: tells this choice from others.
    """
    if len(counts) == 1:
        return 0, step
    shares = tuple(count // math.gcd(*counts) for count in counts)
    cycle, place = divmod(step, sum(shares))
    order, earlier = _cycle(seed, cycle, shares, key or ("groups",))
    group = int(order[place])
    return group, cycle * shares[group] + int(earlier[place])


@lru_cache(maxsize=16)
def _cycle(seed: int, cycle: int, shares: tuple[int, ...], key: tuple[str, ...]) -> tuple[torch.Tensor, torch.Tensor]:
    """Group of every step of a cycle, and how many steps of the cycle before it are of the same."""
    steps = torch.repeat_interleave(torch.arange(len(shares)), torch.tensor(shares))
    order = steps[torch.randperm(len(steps), generator=generator(seed, *key, cycle))]
    earlier = torch.empty_like(order)
    for group, share in enumerate(shares):
        earlier[order == group] = torch.arange(share)
    return order, earlier
