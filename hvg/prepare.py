"""Rendering a dataset ahead of training: clips and control maps as shards, and reading them back."""

from __future__ import annotations

import math
import multiprocessing
import os
import queue
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack
from functools import lru_cache
from itertools import product
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from hvg import __version__, outputs
from hvg.alignment import align
from hvg.bounds import ProcessCount
from hvg.build import build_alignment, build_conditioners, build_dataset
from hvg.config import RunConfig, all_options, compose, expand_sweep, parse_resolved
from hvg.data import drawn_ahead, needs_mesh, render_shard, shard_path, signal_key
from hvg.digests import settings_digest
from hvg.errors import ConfigError, DataError, HvgError
from hvg.here import choose_device
from hvg.latents import (
    EncodedClips,
    EncodedFile,
    Encoding,
    encoded_path,
    encodings,
    wanted_images,
    write_encoded,
)
from hvg.protocols import Alignment, Choose, Codec, Conditioner, Dataset
from hvg.provenance import usable_cores
from hvg.scored_clip import Surface
from hvg.settings import SLOTS
from hvg.shards import CLIP_IMAGES, FORMAT, ShardReader, whole_shard
from hvg.sources import source_digest
from hvg.types import ClipBatch

CLIPS_PER_SHARD = 32


class PrepareOptions(BaseModel):
    """What ``hvg prepare`` takes besides overrides."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    jobs: ProcessCount = Field(default_factory=usable_cores, description="Processes that render side by side.")


def prepared_runs(overrides: Sequence[str], log: Callable[[str], None]) -> dict[Path, list[RunConfig]]:
    """Folder of rendered clips -> the configurations whose maps it takes, one for each combination of ``pose=a,b``.

    ``pose=all`` (``camera=all``, ...) stands for every choice of that word; one that does not fit the rest is left out, which
    ``log`` is told. Raises: ConfigError with all problems of the overrides.
    """
    whole = {f"{slot}=all": slot for slot in SLOTS}
    open_slots = [whole[word] for word in overrides if word in whole]
    asked = expand_sweep([word for word in overrides if word not in whole])
    configs, problems = [], []
    for words in asked:
        try:
            configs.append(compose(words))
        except ConfigError as error:
            problems += error.problems
    if problems:
        raise ConfigError(list(dict.fromkeys(problems)))
    if open_slots:
        options = [[f"{slot}={name}" for name in all_options()[slot]] for slot in open_slots]
        configs = _those_that_fit(asked, list(product(*options)), log)
    folders: dict[Path, list[RunConfig]] = {}
    for config in configs:
        folders.setdefault(cache_folder(config), []).append(config)
    return folders


def _those_that_fit(
    runs: Sequence[Sequence[str]], choices: Sequence[Sequence[str]], log: Callable[[str], None]
) -> list[RunConfig]:
    """The configurations of the runs with each of the choices, as far as they have no problem; ``log`` is told of the others."""
    configs = []
    for words, chosen in product(runs, choices):
        try:
            configs.append(compose([*words, *chosen]))
        except ConfigError as error:
            log(f"left out: {' '.join(chosen)}: {error.problems[0].message}")
    return configs


def never_stored(configs: Sequence[RunConfig]) -> list[str]:
    """Which of the chosen parts draw a map that no file holds, a line each."""
    late = {
        f"{slot}={choice.name}"
        for config in configs
        for slot, choice in config.conditioners.items()
        if choice.cls.has_signal() and not choice.cls.per_picture(choice.config)
    }
    return [f"{word} draws its map of the views and frames of a step, so it is not stored" for word in sorted(late)]


def missing_from_cache(config: RunConfig, conditioners: Mapping[str, Conditioner]) -> str | None:
    """What training looks for in ``data.cache`` and has to make at every step instead, in a line; None where nothing is.

    conditioners: by slot.
    """
    if config.data.cache is None:
        return None
    place, shards = f"data.cache={config.data.cache}", shard_paths(config, "train")
    kept = frozenset.intersection(*(ShardReader(path).signals for path in shards)) if shards else frozenset[str]()
    slots = {f"{slot}={choice.name}": slot for slot, choice in config.conditioners.items()}
    keys, ahead = _slot_keys(config, conditioners), drawn_ahead(conditioners)
    drawn = [word for word, slot in slots.items() if slot in ahead and slot in keys and keys[slot] not in kept]
    meshes = [word for word, slot in slots.items() if needs_mesh([conditioners[slot]])]
    made = "clips are made, and control maps drawn, while training, which may take most of a step (`data` in the progress line)"
    remedy = "`hvg prepare` with the words of this run makes them ahead (with pose=all for every pose)"
    if not config.data.cache.is_dir():
        return f"{place}: there is no such folder; {made}; {remedy}"
    if not shards:
        return f"{place}: no clips are prepared for these dataset settings, in {cache_folder(config).name}; {made}; {remedy}"
    if meshes:
        return f"{place}: {', '.join(meshes)} reads the mesh of what a step sees, which is not stored; {made}"
    if drawn:
        return f"{place}: the control maps of {', '.join(drawn)} are not prepared; {made}; {remedy}"
    return None


def cache_folder(config: RunConfig) -> Path:
    """Where the rendered clips of a run's dataset lie: a name that changes with every setting they depend on, and the code."""
    choice = config.dataset
    settings = choice.config.model_dump(mode="json", exclude={"split"})
    code = [source_digest(part.cls.__module__) for part in (choice, config.body, config.renderer)]
    parts = [choice.name, settings, config.body.resolved(), config.renderer.resolved(), FORMAT, __version__, code]
    content = choice.cls.content(choice.config)
    name = settings_digest([*parts, content] if content else parts)
    return Path(config.data.cache or "cache") / f"{choice.name}-{name}"


def conditioner_signals(configs: Sequence[RunConfig]) -> dict[str, Conditioner]:
    """Signal key -> conditioner, over all configurations."""
    signals: dict[str, Conditioner] = {}
    for config in configs:
        signals |= slot_signals(config, build_conditioners(config)[1])
    return signals


def slot_signals(config: RunConfig, conditioners: Mapping[str, Conditioner]) -> dict[str, Conditioner]:
    """Signal key -> conditioner, for the conditioners of a configuration by slot."""
    return {key: conditioners[slot] for slot, key in _slot_keys(config, conditioners).items()}


def _slot_keys(config: RunConfig, conditioners: Mapping[str, Conditioner]) -> dict[str, str]:
    """Slot -> signal key, for those that draw a map."""
    return {
        slot: signal_key(part, config.conditioners[slot].name)
        for slot, part in conditioners.items()
        if part.has_signal()
    }


class RenderedClips(Dataset):
    """Clips from shards, which hold no mesh.

    A clip whose shard lacks a wanted control map is made anew by the source, mesh and all; every clip is where ``mesh`` asks
    for one.
    """

    def __init__(self, shards: Sequence[Path], source: Dataset, wanted: frozenset[str], mesh: bool = False) -> None:
        self._places = [(reader, i) for reader in map(ShardReader, shards) for i in range(len(reader))]
        self._source, self._wanted, self._mesh = source, wanted, mesh

    @classmethod
    def provides(cls, config) -> frozenset[str]:
        raise TypeError("rendered clips provide what their source provides")

    def __len__(self) -> int:
        return len(self._places)

    def load(self, index: int) -> ClipBatch:
        reader, place = self._places[index]
        if self._mesh or not self._wanted <= reader.signals:
            return self._source.load(index)
        return reader.load(place, images=CLIP_IMAGES | {f"signal-{key}" for key in self._wanted})

    def load_part(self, index: int, choose: Choose, signals: frozenset[str]) -> ClipBatch | None:
        reader, place = self._places[index]
        if self._mesh or not reader.signals >= self._wanted | signals:
            return None
        return reader.load(place, choose, CLIP_IMAGES | {f"signal-{key}" for key in signals})

    def surface(self, index: int) -> Surface:
        return self._source.surface(index)


def shard_paths(config: RunConfig, split: str) -> list[Path]:
    """The finished shards of a split in the cache; empty when one is missing."""
    found = sorted(cache_folder(config).glob(f"{split}-*-of-*.tar"))
    return found if found and len(found) == int(found[0].stem.rsplit("-", 1)[1]) else []


def open_clips(
    config: RunConfig, split: str, signals: Mapping[str, Conditioner] | None = None, mesh: bool = False
) -> Dataset:
    """The clips of a split: from the cache where it was prepared, else made on the fly.

    ``signals`` are the control maps (by key) that will be asked of the clips, ``mesh`` whether theirs will be.
    """
    source = build_dataset(config, split)
    paths = shard_paths(config, split) if config.data.cache else []
    return RenderedClips(paths, source, frozenset(drawn_ahead(signals or {})), mesh) if paths else source


def open_training_clips(config: RunConfig, codec: Codec, conditioners: Mapping[str, Conditioner]) -> Dataset:
    """The clips that training reads; with ``data.latents=cached``, what ``hvg prepare latents`` made of them.

    conditioners: by slot. Raises: DataError where something was not prepared for these settings and weights, or is damaged.
    """
    signals = drawn_ahead(slot_signals(config, conditioners))
    if config.data.latents == "encode":
        return open_clips(config, "train", signals, needs_mesh(conditioners.values()))
    shards, made = shard_paths(config, "train"), encodings(config, codec, conditioners.values())
    if not shards or not set(signals) <= frozenset.intersection(*(ShardReader(path).signals for path in shards)):
        raise _unprepared(cache_folder(config), "the clips are not rendered with all control maps of this run")
    for encoding in made:
        if not all(encoded_path(shard, encoding.name).exists() for shard in shards):
            raise _unprepared(cache_folder(config) / encoding.name, f"there are no {encoding.what}")
    return EncodedClips(shards, made, wanted_images(config, signals))


def _unprepared(folder: Path, reason: str) -> DataError:
    return DataError(
        f"data.latents=cached: {reason} in {folder}, whose name stands for the settings, the alignment and the weights of "
        "the frozen networks; run `hvg prepare latents` with the settings of this run, or use data.latents=encode"
    )


def prepare(
    configs: Sequence[RunConfig],
    splits: Sequence[str] = ("train", "val", "test"),
    *,
    jobs: int,
    report: Callable[[int, int], None] = lambda done, total: None,
) -> Path:
    """Renders every split of the configurations' common dataset with all their control maps; returns the folder.

    For configurations with ``data.latents=cached``, their frozen networks then look at every training clip (on a GPU in one
    process). ``report(done, total)`` is called as work proceeds: a clip counts once for its rendering, and once for every
    configuration whose networks no other has. What is there already is kept; while another process makes it, this one waits.
    """
    with outputs.held_folder(cache_folder(configs[0]), "data.cache", wait=math.inf):
        return _prepare(configs, splits, jobs, report)


def _prepare(
    configs: Sequence[RunConfig], splits: Sequence[str], jobs: int, report: Callable[[int, int], None]
) -> Path:
    """As ``prepare``, by a process that has the folder for itself."""
    first = configs[0]
    counts = {split: len(build_dataset(first, split)) for split in splits}
    # Only training reads what frozen networks made.
    owned = _owned_encodings([config for config in configs if config.data.latents == "cached" and "train" in counts])
    done, total = 0, sum(counts.values()) + len(owned) * counts.get("train", 0)

    def advance(clips: int = 1) -> None:
        nonlocal done
        done += clips
        report(done, total)

    advance(0)
    folder, wanted = cache_folder(first), drawn_ahead(conditioner_signals(configs)).keys()
    texts, tasks = tuple(config.to_yaml() for config in configs), []
    for split, count in counts.items():
        shards = -(-count // CLIPS_PER_SHARD)
        for number in range(shards):
            shard = whole_shard(shard_path(folder, split, number, shards))
            if shard is not None and shard.signals >= wanted:
                advance(len(shard))
            else:
                tasks.append((texts, split, (number, shards)))
    on_gpu = choose_device(first.device).type == "cuda"
    with _Processes(jobs) as processes, _Processes(1) as one_process:
        processes.run(_render, tasks, advance)
        tasks = []
        for config, names in owned:
            for shard in map(ShardReader, shard_paths(first, "train")):
                missing = [name for name in names if not _is_encoded(shard, name)]
                if missing:
                    tasks.append((config.to_yaml(), shard.path, missing))
                else:
                    advance(len(shard))
        (one_process if on_gpu else processes).run(_encode, tasks, advance)
    return folder


class _Processes:
    """``jobs`` processes that are started with the first task and end with the context."""

    def __init__(self, jobs: int) -> None:
        self._jobs, self._stack = jobs, ExitStack()
        self._started: tuple[ProcessPoolExecutor, Any] | None = None

    def __enter__(self) -> _Processes:
        return self

    def __exit__(self, *error: Any) -> None:
        self._stack.close()

    def run(self, function: Callable[..., None], tasks: Sequence[tuple], on_clip: Callable[[], None]) -> None:
        """Calls ``function(*task, ticks)`` for each task; whatever it puts into ``ticks`` is a clip done."""
        if not tasks:
            return
        pool, ticks = self._start()
        try:
            self._follow(pool, [pool.submit(function, *task, ticks) for task in tasks], ticks, on_clip)
        except BrokenProcessPool as error:
            raise HvgError(
                "one of the processes that prepare clips was ended from outside, for want of memory perhaps; what is rendered "
                "is kept, the same command with a smaller jobs= continues"
            ) from error

    @staticmethod
    def _follow(pool: ProcessPoolExecutor, futures: Sequence[Future], ticks: Any, on_clip: Callable[[], None]) -> None:
        while not all(future.done() for future in futures) or not ticks.empty():
            try:
                ticks.get(timeout=0.2)
                on_clip()
            except queue.Empty:
                failed = next((f for f in futures if f.done() and f.exception()), None)
                if failed is not None:
                    pool.shutdown(cancel_futures=True)
                    failed.result()
        for future in futures:
            future.result()

    def _start(self) -> tuple[ProcessPoolExecutor, Any]:
        if self._started is None:
            context = multiprocessing.get_context("spawn")
            ticks = self._stack.enter_context(context.Manager()).Queue()
            pool = self._stack.enter_context(ProcessPoolExecutor(self._jobs, mp_context=context))
            self._started = pool, ticks
        return self._started


def _render(texts: tuple[str, ...], split: str, part: tuple[int, int], ticks) -> None:
    """One shard, in a process of its own."""
    _one_thread()
    folder, signals = _drawing(texts)
    render_shard(folder, split, _clips(texts[0], split), signals, part=part, on_clip=lambda: ticks.put(1))


@lru_cache(maxsize=1)
def _drawing(texts: tuple[str, ...]) -> tuple[Path, dict[str, Conditioner]]:
    """Where the clips of these configurations lie, and what draws their maps; kept from one shard to the next."""
    configs = [parse_resolved(text, "prepare") for text in texts]
    return cache_folder(configs[0]), drawn_ahead(conditioner_signals(configs))


@lru_cache(maxsize=1)
def _clips(text: str, split: str) -> Dataset:
    """The clips of a split; kept from one shard to the next."""
    return build_dataset(parse_resolved(text, "prepare"), split)


def _owned_encodings(configs: Sequence[RunConfig]) -> list[tuple[RunConfig, list[str]]]:
    """Each configuration with the names of those of its encodings that none before it has; without those that add none."""
    owned, known = [], set[str]()
    for config in configs:
        codec, conditioners = build_conditioners(config)
        names = [e.name for e in encodings(config, codec, conditioners.values()) if e.name not in known]
        known.update(names)
        if names:
            owned.append((config, names))
    return owned


def _is_encoded(shard: ShardReader, name: str) -> bool:
    try:
        EncodedFile(encoded_path(shard.path, name), shard.keys)
    except DataError:
        return False
    return True


def _encode(text: str, path: Path, names: Sequence[str], ticks) -> None:
    """The encodings of one shard's clips, in a process of its own."""
    _one_thread()
    config, alignment, found = _encoders(text)
    wanted, shard, device = [found[name] for name in names], ShardReader(path), choose_device(config.device)
    made: dict[str, dict[str, Mapping[str, Tensor]]] = {name: {} for name in names}
    for index in range(len(shard)):
        clip = shard.load(index, images=frozenset({"frames", "reference"})).to(device)
        background = clip.cameras.intrinsics.new_tensor(config.data.background) * 2 - 1
        clip = align(clip, alignment.offsets(clip), alignment.reference_offsets(clip), background)
        with torch.no_grad():
            for encoding in wanted:
                made[encoding.name][clip.clip_id[0]] = {k: x.cpu() for k, x in encoding.encode(clip).items()}
        ticks.put(1)
    for name, clips in made.items():
        write_encoded(encoded_path(path, name), clips)


@lru_cache(maxsize=1)
def _encoders(text: str) -> tuple[RunConfig, Alignment, dict[str, Encoding]]:
    """The configuration, its alignment and its encodings by name; kept from one shard to the next."""
    config = parse_resolved(text, "prepare")
    codec, conditioners = build_conditioners(config)
    found = encodings(config, codec, conditioners.values())
    return config, build_alignment(config), {encoding.name: encoding for encoding in found}


def _one_thread() -> None:
    torch.set_num_threads(1)
    os.environ.setdefault("OMP_NUM_THREADS", "1")
