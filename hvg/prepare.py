"""Rendering a dataset ahead of training: clips and control maps as shards, and reading them back."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import queue
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import torch
from pydantic import BaseModel, ConfigDict, Field, PositiveInt

from hvg import __version__
from hvg.build import build_dataset, build_parts
from hvg.config import RunConfig, parse_resolved
from hvg.data import render_shard, shard_path, signal_key
from hvg.protocols import Conditioner, Dataset
from hvg.provenance import usable_cores
from hvg.scored_clip import Surface
from hvg.shards import FORMAT, ShardReader, whole_shard
from hvg.types import ClipBatch

CLIPS_PER_SHARD = 32


class PrepareOptions(BaseModel):
    """What ``hvg prepare`` takes besides overrides."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    jobs: PositiveInt = Field(default_factory=usable_cores, description="Processes that render side by side.")


def cache_folder(config: RunConfig) -> Path:
    """Where the rendered clips of a run's dataset lie: a name that changes with every setting they depend on."""
    choice = config.dataset
    settings = choice.config.model_dump(mode="json", exclude={"split"})
    parts = [choice.name, settings, config.body.resolved(), config.renderer.resolved(), FORMAT, __version__]
    digest = hashlib.blake2b(json.dumps(parts, sort_keys=True).encode(), digest_size=8).hexdigest()
    return Path(config.data.cache or "cache") / f"{choice.name}-{digest}"


def conditioner_signals(configs: Sequence[RunConfig]) -> dict[str, Conditioner]:
    """Signal key -> conditioner, over all configurations."""
    signals: dict[str, Conditioner] = {}
    for config in configs:
        parts = build_parts(config)
        signals |= {
            signal_key(part, config.conditioners[slot].name): part
            for slot, part in parts.conditioners.items()
            if part.has_signal()
        }
    return signals


class RenderedClips(Dataset):
    """Clips from shards. A clip whose shard lacks a wanted control map is made anew by the source, mesh and all."""

    def __init__(self, shards: Sequence[Path], source: Dataset, wanted: frozenset[str]) -> None:
        self._places = [(reader, i) for reader in map(ShardReader, shards) for i in range(len(reader))]
        self._source, self._wanted = source, wanted

    @classmethod
    def provides(cls, config) -> frozenset[str]:
        raise TypeError("rendered clips provide what their source provides")

    def __len__(self) -> int:
        return len(self._places)

    def load(self, index: int) -> ClipBatch:
        reader, place = self._places[index]
        clip = reader.load(place)
        return clip if self._wanted <= clip.signals.keys() else self._source.load(index)

    def surface(self, index: int) -> Surface:
        return self._source.surface(index)


def shard_paths(config: RunConfig, split: str) -> list[Path]:
    """The finished shards of a split in the cache; empty when one is missing."""
    found = sorted(cache_folder(config).glob(f"{split}-*-of-*.tar"))
    return found if found and len(found) == int(found[0].stem.rsplit("-", 1)[1]) else []


def open_clips(config: RunConfig, split: str, signals: Mapping[str, Conditioner] | None = None) -> Dataset:
    """The clips of a split: from the cache where it was prepared, else made on the fly.

    ``signals`` are the control maps (by key) that will be asked of the clips.
    """
    source = build_dataset(config, split)
    paths = shard_paths(config, split) if config.data.cache else []
    return RenderedClips(paths, source, frozenset(signals or ())) if paths else source


def prepare(
    configs: Sequence[RunConfig],
    splits: Sequence[str] = ("train", "val", "test"),
    *,
    jobs: int,
    report: Callable[[int, int], None] = lambda done, total: None,
) -> Path:
    """Renders every split of the configurations' common dataset with all their control maps; returns the folder.

    ``report(clips done, clips in all)`` is called as work proceeds. What is there already is kept.
    """
    first = configs[0]
    counts = {split: len(build_dataset(first, split)) for split in splits}
    folder, wanted = cache_folder(first), conditioner_signals(configs).keys()
    tasks, done = [], 0
    for split, count in counts.items():
        shards = -(-count // CLIPS_PER_SHARD)
        for number in range(shards):
            shard = whole_shard(shard_path(folder, split, number, shards))
            if shard is not None and shard.signals >= wanted:
                done += count * (number + 1) // shards - count * number // shards
            else:
                tasks.append((split, (number, shards)))
    total = sum(counts.values())
    report(done, total)
    if not tasks:
        return folder
    texts = [config.to_yaml() for config in configs]
    context = multiprocessing.get_context("spawn")
    with context.Manager() as manager:
        ticks = manager.Queue()
        with ProcessPoolExecutor(jobs, mp_context=context) as pool:
            futures = [pool.submit(_render, texts, split, part, ticks) for split, part in tasks]
            while not all(future.done() for future in futures) or not ticks.empty():
                try:
                    ticks.get(timeout=0.2)
                    done += 1
                    report(done, total)
                except queue.Empty:
                    failed = next((f for f in futures if f.done() and f.exception()), None)
                    if failed is not None:
                        pool.shutdown(cancel_futures=True)
                        failed.result()
            for future in futures:
                future.result()
    return cache_folder(first)


def _render(texts: list[str], split: str, part: tuple[int, int], ticks) -> None:
    """One shard, in a process of its own."""
    torch.set_num_threads(1)
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    configs = [parse_resolved(text, "prepare") for text in texts]
    folder = cache_folder(configs[0])
    clips = build_dataset(configs[0], split)
    render_shard(folder, split, clips, conditioner_signals(configs), part=part, on_clip=lambda: ticks.put(1))
