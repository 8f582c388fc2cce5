"""Checkpoints: a folder that holds a training state by parameter name, independent of how many processes wrote it.

``manifest.json`` holds plain values (counters, schedules, the configuration) and each file's size and hash; tensors lie
whole, by name, in safetensors files beside it. Nothing is pickled, so that a checkpoint from anyone can be opened.
The folder gets its name when all of it is on disk.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from hvg.digests import file_digest, settings_digest
from hvg.errors import CheckpointError, DataError
from hvg.files import flush_to_disk, read_text
from hvg.ranks import from_all_ranks, rank_and_world

FORMAT = "hvg-checkpoint-2"
MANIFEST = "manifest.json"
PATTERN = re.compile(r"step-(\d+)\.ckpt")
FILE = re.compile(r"tensors-\d{5}-of-\d{5}\.safetensors")
# A weight as large as that is no weight: its square has no float32.
DIVERGED = 2.0**63
# What an export holds: the list of its components, and the folder of the trained weights.
EXPORT_INDEX, EXPORT_MODEL = "model_index.json", "model"
# safetensors' names of types.
_TYPES = {
    torch.float32: "F32",
    torch.float64: "F64",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}


@dataclass(frozen=True)
class Entry:
    """A tensor of a checkpoint, ``<section>/<name>``. read: gives it whole; all processes call it, in the same order.

    learned: whether a model computes with it, so that it must not be written where training has diverged.
    """

    name: str
    dtype: torch.dtype
    shape: tuple[int, ...]
    read: Callable[[], Tensor]
    learned: bool = False

    @classmethod
    def of(cls, name: str, tensor: Tensor) -> Entry:
        """A tensor that this process holds."""
        return cls(name, tensor.dtype, tuple(tensor.shape), lambda: tensor)


# --- writing ------------------------------------------------------------------------------------------------------


def write_checkpoint(path: Path, state: Mapping[str, Any], entries: Sequence[Entry] = ()) -> None:
    """Writes ``state`` and ``entries`` under ``path``, each process of the group its share of the entries.

    Memory: one tensor more than the state itself. Raises: CheckpointError, in every process, when one of them could not
    write, or a learned tensor has diverged; then nothing is left of it. TypeError for state that is neither a tensor nor plain
    data.
    """
    tensors, tree = pack(dict(state))
    entries = [*entries, *(Entry.of(name, tensor) for name, tensor in tensors.items())]
    rank, world = rank_and_world()
    partial = path.with_name(f".{path.name}.partial")
    error = _attempt(lambda: _fresh_folder(partial)) if rank == 0 else None
    _raise_together(path, partial, error)
    name = f"tensors-{rank + 1:05d}-of-{world:05d}.safetensors"
    written, error = _write_share(partial / name, entries, rank, world)
    files = from_all_ranks({name: written})
    _raise_together(path, partial, error)
    if rank == 0:
        found = {key: value for file in files for key, value in file.items()}
        known = {"step": state.get("global_step"), "precision": state.get("precision")}
        content = {"format": FORMAT, **known, "world_size": world, "files": found, "state": tree}
        error = _attempt(lambda: _finish(partial, path, content))
    _raise_together(path, partial, error)


def pack(state: Any, prefix: str = "state") -> tuple[dict[str, Tensor], Any]:
    """Splits a nested state into named tensors and a JSON tree that refers to them.

    Raises: TypeError on a value that is neither a tensor nor plain data.
    """
    tensors: dict[str, Tensor] = {}

    def walk(value: Any, path: str) -> Any:
        if isinstance(value, Tensor):
            tensors[path] = value.detach()
            return {"tensor": path}
        if isinstance(value, Mapping):
            return {"dict": [[_key(k), walk(v, f"{path}/{k}")] for k, v in value.items()]}
        if isinstance(value, (list, tuple)):
            kind = "tuple" if isinstance(value, tuple) else "list"
            return {kind: [walk(v, f"{path}/{i}") for i, v in enumerate(value)]}
        if value is None or isinstance(value, (bool, int, float, str)):
            return {"value": value}
        raise TypeError(f"checkpoint entry {path} is a {type(value).__name__}; tensors and plain data can be saved")

    return tensors, walk(state, prefix)


def _key(key: Any) -> Any:
    if not isinstance(key, (str, int)):
        raise TypeError(f"checkpoint keys are names or numbers, not {type(key).__name__}")
    return key


def unpack(tensors: Callable[[str], Tensor], tree: Any) -> Any:
    """The nested state that ``pack`` split; ``tensors`` gives one by its name."""
    ((kind, value),) = tree.items()
    if kind == "tensor":
        return tensors(value)
    if kind == "dict":
        return {key: unpack(tensors, item) for key, item in value}
    if kind in ("list", "tuple"):
        items = [unpack(tensors, item) for item in value]
        return items if kind == "list" else tuple(items)
    return value


def _write_share(
    path: Path, entries: Sequence[Entry], rank: int, world: int
) -> tuple[dict[str, Any], OSError | CheckpointError | None]:
    """Writes every ``world``-th entry as a safetensors file; its size and hash, and what went wrong.

    Goes on reading where writing has failed, for the other processes read with it.
    """
    mine = range(rank, len(entries), world)
    digest, size = hashlib.sha256(), 0
    error: OSError | CheckpointError | None = None
    stream = None

    def put(data: Any) -> None:
        nonlocal size
        assert stream is not None
        stream.write(data)
        digest.update(data)
        size += len(data)

    try:
        stream = path.open("wb")
        put(_header([entries[index] for index in mine]))
    except OSError as problem:
        error = problem
    for index, entry in enumerate(entries):
        tensor = entry.read()
        if index in mine and error is None:
            try:
                values = tensor.detach().cpu().contiguous().reshape(-1)
                if entry.learned and has_diverged(values):
                    raise CheckpointError(
                        f"training has diverged, {entry.name} holds {float(values.abs().amax()):.3g}; a smaller "
                        "training.learning_rate may keep it from that"
                    )
                put(values.view(torch.uint8).numpy().data)
            except (OSError, CheckpointError) as problem:
                error = problem
    try:
        if stream is not None:
            stream.close()
            flush_to_disk(path)
    except OSError as problem:
        error = error or problem
    return {"bytes": size, "sha256": digest.hexdigest()}, error


def has_diverged(weight: Tensor) -> bool:
    """Whether no model can compute with a weight any more: it holds NaN, or numbers whose squares float32 does not hold."""
    return weight.is_floating_point() and weight.numel() > 0 and not float(weight.abs().amax()) < DIVERGED


def _header(entries: Sequence[Entry]) -> bytes:
    """The beginning of a safetensors file: the header's length, and in JSON what lies where; filled up to 8 bytes."""
    table: dict[str, Any] = {"__metadata__": {"format": FORMAT}}
    end = 0
    for entry in entries:
        begin, end = end, end + torch.Size(entry.shape).numel() * entry.dtype.itemsize
        table[entry.name] = {"dtype": _TYPES[entry.dtype], "shape": list(entry.shape), "data_offsets": [begin, end]}
    text = json.dumps(table).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


def _fresh_folder(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)


def _finish(partial: Path, path: Path, content: Mapping[str, Any]) -> None:
    """Adds the manifest, which signs itself, and gives the folder its name."""
    (partial / MANIFEST).write_text(json.dumps({**content, "sha256": _signature(content)}), encoding="utf-8")
    flush_to_disk(partial / MANIFEST)
    flush_to_disk(partial)
    remove_checkpoint(path)
    partial.rename(path)
    flush_to_disk(path.parent)


def _signature(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()


def _attempt(action: Callable[[], None]) -> OSError | None:
    try:
        action()
    except OSError as error:
        return error
    return None


def _raise_together(path: Path, partial: Path, error: OSError | CheckpointError | None) -> None:
    """Raises in every process when one has an error."""
    reasons = [reason for reason in from_all_ranks(error and (getattr(error, "strerror", "") or str(error))) if reason]
    if not reasons:
        return
    if rank_and_world()[0] == 0:
        shutil.rmtree(partial, ignore_errors=True)
    before = latest_checkpoint(path.parent)
    kept = f"{before} is as it was" if before else "there is none before it"
    raise CheckpointError(f"{path}: the checkpoint cannot be written: {reasons[0]}; {kept}") from error


# --- reading ------------------------------------------------------------------------------------------------------


class Checkpoint:
    """An open checkpoint. Files are mapped, so that only the tensors asked for are read.

    state: the plain values; tensors in it are read. world_size: of the run that wrote it. precision: as of
    ``precision_of``.
    """

    def __init__(self, path: Path) -> None:
        """Raises: CheckpointError that names the folder when it is missing, incomplete, damaged or of another kind."""
        self.path = path
        content = _manifest(path)
        try:
            self.world_size = int(content["world_size"])
            self.precision = _precision(content)
            self._files: dict[str, dict[str, Any]] = dict(content["files"])
            self._verify()
            self.state: dict[str, Any] = dict(unpack(self.tensor, content["state"]))
        # A signed manifest of somebody's may still hold anything.
        except (TypeError, AttributeError, ValueError, KeyError, RecursionError) as error:
            raise CheckpointError(f"{path}: {MANIFEST} does not describe a training state ({error!r})") from error

    def _verify(self) -> None:
        for name, expected in self._files.items():
            if not FILE.fullmatch(name):
                raise CheckpointError(f"{self.path}: {MANIFEST} names '{name}', which is no file of a checkpoint")
            file = self.path / name
            if not file.is_file():
                raise CheckpointError(f"{self.path}: damaged: {name} is missing")
            if file.stat().st_size != expected["bytes"]:
                raise CheckpointError(
                    f"{self.path}: damaged: {name} has {file.stat().st_size} bytes, not {expected['bytes']}"
                )
            with file.open("rb") as stream:
                if hashlib.file_digest(stream, "sha256").hexdigest() != expected["sha256"]:
                    raise CheckpointError(f"{self.path}: damaged: {name} is not what was written (SHA-256 differs)")

    @cached_property
    def _places(self) -> dict[str, Any]:
        """Tensor's name -> the open file that holds it."""
        try:
            files = [safe_open(self.path / name, framework="pt") for name in self._files]
            return {key: file for file in files for key in file.keys()}  # noqa: SIM118  (safe_open is no mapping)
        except (SafetensorError, OSError) as error:
            raise CheckpointError(f"{self.path}: cannot be read as a checkpoint ({error})") from error

    def sections(self) -> dict[str, list[str]]:
        """Section -> the names in it."""
        found: dict[str, list[str]] = {}
        for key in self._places:
            section, _, name = key.partition("/")
            found.setdefault(section, []).append(name)
        return found

    def tensor(self, key: str) -> Tensor:
        """The tensor ``<section>/<name>``, on the CPU. Raises: CheckpointError where there is none."""
        if key not in self._places:
            raise CheckpointError(f"{self.path}: holds no {key}")
        return self._places[key].get_tensor(key)

    def facts(self, key: str) -> tuple[str, tuple[int, ...]]:
        """Type, in safetensors' words, and shape of a tensor, which is not read."""
        found = self._places[key].get_slice(key)
        return found.get_dtype(), tuple(found.get_shape())

    def section(self, section: str) -> dict[str, Tensor]:
        """Name -> tensor of a section; empty where there is none."""
        return {name: self.tensor(f"{section}/{name}") for name in self.sections().get(section, [])}


def precision_of(path: Path) -> str | None:
    """What the run was trained in, as of ``hvg.precision.trained_in``; None for a checkpoint that does not say.

    Raises: CheckpointError as ``Checkpoint``, which looks at the tensors too.
    """
    return _precision(_manifest(path))


def _precision(manifest: Mapping[str, Any]) -> str | None:
    found = manifest.get("precision")
    return found if isinstance(found, str) else None


def _manifest(path: Path) -> dict[str, Any]:
    if not path.exists():
        raise CheckpointError(f"{path}: no such checkpoint{_nearby(path)}")
    if path.is_file():
        raise CheckpointError(f"{path}: not a checkpoint of this version: those are folders{_nearby(path)}")
    try:
        content = json.loads(read_text(path / MANIFEST))
        found, signature = content["format"], content.pop("sha256")
    except FileNotFoundError as error:
        raise CheckpointError(f"{path}: damaged: {MANIFEST} is missing{_nearby(path)}") from error
    except (DataError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise CheckpointError(f"{path}: damaged: {MANIFEST} cannot be read ({error})") from error
    if found != FORMAT:
        raise CheckpointError(f"{path}: not a checkpoint of this program (format {found}, not {FORMAT})")
    if _signature(content) != signature:
        raise CheckpointError(f"{path}: damaged: {MANIFEST} is not what was written (SHA-256 differs)")
    return content


def saved_config(path: Path) -> str:
    """The configuration in a checkpoint, as YAML; its tensors are not looked at.

    Raises: CheckpointError as ``Checkpoint``, for what its manifest shows.
    """
    content = _manifest(path)
    try:
        state = dict(content["state"]["dict"])
        return str(state["config"]["value"])
    except (TypeError, AttributeError, ValueError, KeyError) as error:
        raise CheckpointError(f"{path}: {MANIFEST} does not describe a training state ({error!r})") from error


# --- folders of checkpoints ---------------------------------------------------------------------------------------


def checkpoint_path(folder: Path, step: int) -> Path:
    """Where the checkpoint of a step lies."""
    return folder / f"step-{step:07d}.ckpt"


def checkpoints(folder: Path) -> dict[int, Path]:
    """Step -> checkpoint, oldest first; those that are still being written, or removed, do not count.

    The step is what the checkpoint says; its name's where that cannot be read. Of two of one step the one with its name counts.
    """
    found: dict[int, Path] = {}
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        if match := PATTERN.fullmatch(path.name):
            step = _saved_step(path, int(match[1]))
            if step not in found or path == checkpoint_path(folder, step):
                found[step] = path
    return dict(sorted(found.items()))


def _saved_step(path: Path, named: int) -> int:
    # Asked first, because the error about a missing one would look for others nearby, here.
    if not (path / MANIFEST).is_file():
        return named
    try:
        step = _manifest(path).get("step")
    except CheckpointError:
        return named
    return step if isinstance(step, int) else named


def latest_checkpoint(folder: Path) -> Path | None:
    """The checkpoint of the highest step in a folder, None where there is none."""
    return next(reversed(checkpoints(folder).values()), None)


def latest_whole_checkpoint(folder: Path) -> tuple[Checkpoint | None, list[str]]:
    """The newest checkpoint that is as it was written, open, and one line about each newer one that is not.

    Raises: CheckpointError when there are checkpoints, but none is whole.
    """
    damaged = []
    for path in reversed(checkpoints(folder).values()):
        try:
            return Checkpoint(path), damaged
        except CheckpointError as error:
            damaged.append(str(error))
    if damaged:
        raise CheckpointError(f"{folder}: no checkpoint is whole: {'; '.join(damaged)}")
    return None, []


def find_checkpoint(path: Path) -> Path:
    """The checkpoint at ``path``, or the newest one of the run folder that it is; the folder of an export as it is.

    Raises: CheckpointError where there is none.
    """
    if not path.is_dir() or is_exported(path) or PATTERN.fullmatch(path.name) or (path / MANIFEST).is_file():
        return path
    found = latest_checkpoint(path / "checkpoints") or latest_checkpoint(path)
    if found is None:
        raise CheckpointError(f"{path}: this folder holds no checkpoint")
    return found


def checkpoint_digest(path: Path) -> str:
    """Digest of what ``find_checkpoint`` finds: of its manifest, which holds hashes of everything else; of an export, of the
    names, sizes and times of its model's files.
    """
    path = find_checkpoint(path)
    if not is_exported(path):
        return file_digest(path / MANIFEST)
    files = [(file.name, file.stat()) for file in sorted((path / EXPORT_MODEL).iterdir())]
    return settings_digest([(name, facts.st_size, facts.st_mtime_ns) for name, facts in files])


def keep_checkpoints(folder: Path, last: int, every: int) -> None:
    """Removes all but the newest ``last`` and those whose step is a multiple of ``every`` (0: none)."""
    found = checkpoints(folder)
    newest = list(found)[-last:]
    for step, path in found.items():
        if step not in newest and not (every and step % every == 0):
            remove_checkpoint(path)


def remove_checkpoint(path: Path) -> None:
    """Removes a checkpoint, if it is there; its name goes first."""
    if path.is_dir():
        gone = path.with_name(f".{path.name}.removed")
        shutil.rmtree(gone, ignore_errors=True)
        shutil.rmtree(path.rename(gone))
    else:
        path.unlink(missing_ok=True)


def remove_leftovers(folder: Path) -> None:
    """Removes what killed writes and removals left behind."""
    for path in [*folder.glob(".step-*.ckpt.partial"), *folder.glob(".step-*.ckpt.removed")]:
        shutil.rmtree(path, ignore_errors=True)


def set_aside(paths: Iterable[Path], reason: Literal["damaged", "later"]) -> list[Path]:
    """Renames checkpoints to ``<reason>-<name>``, so that none is taken for the newest any more; where they lie then.

    A damaged one takes the place of an earlier one; others are kept, each under a number of its own.
    """
    moved = []
    for path in paths:
        aside = path.with_name(f"{reason}-{path.name}")
        if reason == "damaged":
            shutil.rmtree(aside, ignore_errors=True)
        number = 1
        while aside.exists():
            number += 1
            aside = path.with_name(f"{reason}-{number}-{path.name}")
        moved.append(path.rename(aside))
    return moved


def _nearby(path: Path) -> str:
    folders = [path, path.parent, path.parent / "checkpoints"] if path.is_dir() else [path.parent]
    found = next((p for folder in folders if (p := latest_checkpoint(folder)) and p != path), None)
    return f"; did you mean {found}?" if found else ""


def is_exported(path: Path) -> bool:
    """Whether ``hvg export`` wrote this folder."""
    return (path / EXPORT_INDEX).is_file() and (path / EXPORT_MODEL / "config.json").is_file()


# --- weights ------------------------------------------------------------------------------------------------------


def load_weights(module: nn.Module, weights: Mapping[str, Tensor], source: str) -> None:
    """Loads all of a module's weights.

    Raises: CheckpointError that lists what is missing, unexpected or of another shape, or has diverged; nothing is
    loaded then.
    """
    own = module.state_dict()
    problems = [f"missing {key}" for key in own if key not in weights]
    problems += [f"unexpected {key}" for key in weights if key not in own]
    problems += [
        f"{key} has shape {tuple(weights[key].shape)}, the model {tuple(own[key].shape)}"
        for key in own
        if key in weights and own[key].shape != weights[key].shape
    ]
    problems += [
        f"{key} is {str(weights[key].dtype).removeprefix('torch.')}, the model's {str(own[key].dtype).removeprefix('torch.')}"
        for key in own
        if key in weights and own[key].is_floating_point() != weights[key].is_floating_point()
    ]
    if problems:
        shown = "; ".join(problems[:5]) + (f"; and {len(problems) - 5} more" if len(problems) > 5 else "")
        raise CheckpointError(f"{source}: does not fit the model: {shown}")
    _refuse_diverged(module, weights, source)
    module.load_state_dict(dict(weights))


def load_shared_weights(module: nn.Module, weights: Mapping[str, Tensor], source: str) -> list[str]:
    """Loads every weight whose name both have; returns a line each on what was kept, what is new and what is unused.

    Raises: CheckpointError when a shared weight has another shape or has diverged, or nothing is shared; nothing is loaded then.
    """
    own = module.state_dict()
    shared = {key: value for key, value in weights.items() if key in own}
    wrong = [
        f"{k} is {tuple(v.shape)}, here {tuple(own[k].shape)}" for k, v in shared.items() if v.shape != own[k].shape
    ]
    if wrong or not shared:
        raise CheckpointError(
            f"{source}: cannot be started from: {'; '.join(wrong[:5]) or 'no weight has the same name'}"
        )
    _refuse_diverged(module, shared, source)
    module.load_state_dict(shared, strict=False)
    new, unused = [key for key in own if key not in weights], [key for key in weights if key not in own]
    lines = [f"{source}: {len(shared)} weights kept"]
    if new:
        lines.append(f"new: {', '.join(_places(new))}")
    return [*lines, f"unused: {', '.join(_places(unused))}"] if unused else lines


def _refuse_diverged(module: nn.Module, weights: Mapping[str, Tensor], source: str) -> None:
    """Raises: CheckpointError for parameters that have diverged; what else a module keeps may be infinite."""
    names = [name for name, _ in module.named_parameters() if name in weights]
    bad = [name for name in names if has_diverged(weights[name])]
    if bad:
        raise CheckpointError(
            f"{source}: training had diverged: {len(bad)} of {len(names)} weights hold numbers such as "
            f"{float(weights[bad[0]].abs().amax()):.3g}, first {bad[0]}; take an earlier checkpoint"
        )


def _places(names: list[str]) -> list[str]:
    """``part.place (n)`` for weights that lie in the same place."""
    counts: dict[str, int] = {}
    for name in names:
        place = ".".join(name.split(".")[:2])
        counts[place] = counts.get(place, 0) + 1
    return [f"{place} ({count})" for place, count in counts.items()]
