"""``hvg prepare``: clips, control maps and what frozen networks make of them, ahead of training."""

import json
import math
import multiprocessing
import queue
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from functools import lru_cache
from itertools import product
from multiprocessing.managers import SyncManager
from pathlib import Path
from typing import NamedTuple

from hvg.config.build import build_fit, true_clips
from hvg.config.composition import compose, parse_resolved
from hvg.config.groups import all_options
from hvg.config.machine import choose_device
from hvg.config.overrides import expand_sweep
from hvg.config.settings import SLOTS, RunConfig
from hvg.config.stages import stages_of
from hvg.core import outputs
from hvg.core.errors import ConfigError, DataError, HvgError
from hvg.core.exit_codes import end_with_parent
from hvg.core.files import remove_partial
from hvg.data.cache import cache_folder, picture_format, shard_paths
from hvg.data.picture_files import EXACT, PictureFormat
from hvg.data.prepare_latents import encode, one_thread, owned_encodings, to_encode
from hvg.data.recordings import told
from hvg.data.shard_writing import CLIPS_PER_SHARD, shard_path, write_shard
from hvg.data.shards import ShardReader, whole_shard
from hvg.data.signals import Signals, drawn_keys, fit_origin, is_drawn_ahead, mesh_readers, signals_of_all, without_mesh
from hvg.data.split_rules import SPLITS
from hvg.parts.scene import Dataset, Fit
from hvg.values.clip import ClipBatch


def render_shard(
    folder: Path,
    split: str,
    clips: Dataset,
    signals: Signals,
    fitted: Sequence[tuple[Fit, Signals]] = (),
    *,
    keep_mesh: bool = False,
    part: tuple[int, int] = (0, 1),
    pictures: PictureFormat = EXACT,
    on_clip: Callable[[], None] = lambda: None,
) -> Path:
    """Renders part ``part[0]`` of ``part[1]`` of a split, with its signals, to ``folder/<split>-<part>.tar``.

    fitted: fits, each with the signals that are drawn of what it makes of the bodies; the true ones are stored. keep_mesh: with
    their meshes.
    A shard that holds all of it is left alone; one that lacks a signal, or meshes, is made again with what it had. A clip that
    cannot be used is left out, and the shard says why (``ShardReader.left_out``); the next time it is tried again, as its files
    may have been mended. Returns its path.

    Raises: DataError where no clip of the part can be used.
    """
    number, count = part
    path = shard_path(folder, split, number, count)
    indices = range(len(clips) * number // count, len(clips) * (number + 1) // count)
    old = whole_shard(path)
    wanted = {key for drawn in (signals, *(drawn for _, drawn in fitted)) for key in drawn}
    holds_all = old is not None and old.signals >= wanted and (old.meshes or not keep_mesh)
    keep_mesh = keep_mesh or (old is not None and old.meshes)
    if old is not None and holds_all and not any(_can_be_used(clips, indices[k]) for k in old.left_out):
        for _ in indices:
            on_clip()
        return path

    def render(clip: ClipBatch) -> ClipBatch:
        maps = dict(signals.draw(clip).signals)
        for fit, drawn in fitted:
            maps |= drawn.draw(fit.observe(clip)).signals
        (name,) = clip.clip_id
        kept = old.load(old.keys.index(name), mesh=False).signals if old is not None and name in old.keys else {}
        clip = replace(clip, signals={**kept, **maps})
        return clip if keep_mesh else without_mesh(clip)

    left_out: dict[int, str] = {}

    def usable() -> Iterator[ClipBatch]:
        for index in indices:
            try:
                clip = render(clips.load(index))
            except DataError as error:
                left_out[index - indices.start] = " ".join(str(error).split())
                on_clip()
                continue
            yield clip
        if len(left_out) == len(indices):
            raise DataError(f"none of {len(indices)} clips of {path.name} can be used; the first: {left_out[0]}")

    write_shard(path, usable(), on_clip, part=part, left_out=left_out, pictures=pictures)
    return path


def _can_be_used(clips: Dataset, index: int) -> bool:
    try:
        clips.load(index)
    except DataError:
        return False
    return True


def unusable(config: RunConfig) -> list[str]:
    """Lines on what of a prepared dataset could not be used, and why."""
    choice = config.dataset
    lines = [f"{name}: {reason}" for name, reason in choice.cls.holdings(choice.config).unusable.items()]
    for split in SPLITS:
        for shard in map(ShardReader, shard_paths(config, split)):
            lines += [f"{shard.path.name}: {reason}" for reason in shard.left_out.values()]
    return lines


def prepared_lines(config: RunConfig) -> Iterator[str]:
    """Which frames of a dataset's files are in no clip, where it says so; and what its prepared shards hold."""
    held = config.dataset.cls.holdings(config.dataset.config)
    yield from (f"note: {note}" for note in held.notes if note not in told(held.unusable))
    counts = []
    for split in SPLITS:
        sizes = [size for path in shard_paths(config, split) for size in ShardReader(path).sizes]
        counts.append(f"{split} {len(sizes)} ({sum(views * frames for views, frames, *_ in sizes)})")
    yield f"clips, and in brackets their pictures: {', '.join(counts)}"


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
            configs += [stage.config for stage in stages_of(compose(words))]
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
            config = compose([*words, *chosen])
            # A map may be drawn by what is trained first, and is not there.
            drawn_keys(config)
        except ConfigError as error:
            log(f"left out: {' '.join(chosen)}: {error.problems[0].message}")
        except HvgError as error:
            log(f"left out: {' '.join(chosen)}: {error}")
        else:
            configs.append(config)
    return configs


def never_stored(configs: Sequence[RunConfig]) -> list[str]:
    """Lines that name the chosen parts whose maps no file holds."""
    late = {
        f"{slot}={choice.name}"
        for config in configs
        for slot, choice in config.conditioners.items()
        if choice.cls.has_signal() and not is_drawn_ahead(choice)
    }
    return [f"{word} draws its map of the views and frames of a step, so it is not stored" for word in sorted(late)]


def prepare(
    configs: Sequence[RunConfig],
    splits: Sequence[str] = SPLITS,
    *,
    jobs: int,
    report: Callable[[int, int], None] = lambda done, total: None,
) -> Path:
    """Renders every split of the configurations' common dataset with all their control maps; returns the folder.

    For configurations with ``data.latents=cached``, their frozen networks then look at every training clip (on a GPU in one
    process). ``report(done, total)`` is called as work proceeds: a clip counts once for its rendering, and once for every
    configuration whose networks no other has. What is there already is kept; while another process makes it, this one waits.
    """
    folder = cache_folder(configs[0])
    with outputs.held_folder(folder, "data.cache", wait=math.inf):
        remove_partial(folder)
        return _prepare(configs, splits, jobs, report)


def _prepare(
    configs: Sequence[RunConfig], splits: Sequence[str], jobs: int, report: Callable[[int, int], None]
) -> Path:
    """The same as ``prepare``, in a process that holds the folder's lock."""
    first = configs[0]
    counts = {split: len(true_clips(first, split)) for split in splits}
    # Only training reads what frozen networks made.
    owned = owned_encodings([config for config in configs if config.data.latents == "cached" and "train" in counts])
    done, total = 0, sum(counts.values()) + len(owned) * counts.get("train", 0)

    def advance(clips: int = 1) -> None:
        nonlocal done
        done += clips
        report(done, total)

    advance(0)
    folder, wanted = cache_folder(first), {key for config in configs for key in drawn_keys(config)}
    meshes = any(map(mesh_readers, configs))
    texts, tasks = tuple(config.to_yaml() for config in configs), []
    for split, count in counts.items():
        shards = -(-count // CLIPS_PER_SHARD)
        for number in range(shards):
            shard = whole_shard(shard_path(folder, split, number, shards))
            if shard is not None and shard.signals >= wanted and (shard.meshes or not meshes) and not shard.left_out:
                advance(len(shard))
            else:
                tasks.append((texts, folder, split, (number, shards)))
    _in_processes(jobs, _render, tasks, advance)
    while owned:
        # Its networks go before the processes that encode read their own.
        clips = list(to_encode(*owned.pop(0)))
        total += sum(len(task.clips) for task in clips) - counts["train"]
        for task in clips:
            if not task.names:
                advance(len(task.clips))
        at_once = 1 if choose_device(first.device).type == "cuda" else jobs
        _in_processes(at_once, encode, [(task,) for task in clips if task.names], advance)
    return folder


def _in_processes(
    jobs: int, function: Callable[..., None], tasks: Sequence[tuple], on_clip: Callable[[], None]
) -> None:
    """Calls ``function(*task, ticks)`` for each task; whatever it puts into ``ticks`` is a clip done."""
    if not tasks:
        return
    context = multiprocessing.get_context("spawn")
    manager = SyncManager(ctx=context)
    manager.start(end_with_parent)
    try:
        with manager, ProcessPoolExecutor(jobs, mp_context=context, initializer=end_with_parent) as pool:
            ticks = manager.Queue()
            futures = [pool.submit(function, *task, ticks) for task in tasks]
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
    except BrokenProcessPool as error:
        raise HvgError(
            "one of the processes that prepare clips was ended from outside, for want of memory perhaps; what is rendered "
            "is kept, the same command with a smaller jobs= continues"
        ) from error


def _render(texts: tuple[str, ...], folder: Path, split: str, part: tuple[int, int], ticks) -> None:
    """One shard, in a process of its own."""
    one_thread()
    drawing, clips = _drawing(texts, folder), _clips(texts[0], split)
    render_shard(
        folder,
        split,
        clips,
        drawing.signals,
        drawing.fitted,
        keep_mesh=drawing.meshes,
        part=part,
        pictures=picture_format(parse_resolved(texts[0], "prepare"), split),
        on_clip=lambda: ticks.put(1),
    )


class _Drawing(NamedTuple):
    """What a process makes: maps of true bodies, and of each fit's; and whether clips keep their meshes."""

    signals: Signals
    fitted: list[tuple[Fit, Signals]]
    meshes: bool


@lru_cache(maxsize=1)
def _drawing(texts: tuple[str, ...], folder: Path) -> _Drawing:
    """What is made for these configurations; kept from shard to shard.

    Raises: HvgError where this process would make other clips than those of ``folder``.
    """
    configs = [parse_resolved(text, "prepare") for text in texts]
    if cache_folder(configs[0]) != folder:
        raise HvgError(
            f"{folder}: the code or the files that clips are made of have changed since this began; the same command begins anew"
        )
    exact = [config for config in configs if not fit_origin(config)]
    groups: dict[str, list[RunConfig]] = {}
    for config in configs:
        if config not in exact:
            groups.setdefault(json.dumps(fit_origin(config)), []).append(config)
    fitted = [(build_fit(group[0]), signals_of_all(group).ahead) for group in groups.values()]
    return _Drawing(signals_of_all(exact).ahead, fitted, any(map(mesh_readers, configs)))


@lru_cache(maxsize=1)
def _clips(text: str, split: str) -> Dataset:
    """The clips of a split; kept from one shard to the next."""
    return true_clips(parse_resolved(text, "prepare"), split)
