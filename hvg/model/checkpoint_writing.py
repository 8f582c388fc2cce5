"""Writing checkpoints: every rank its share, visible once it is whole."""

import hashlib
import json
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import torch
from torch import Tensor

from hvg.core.checkpoint import CHECKPOINT_FORMAT, MANIFEST, latest_checkpoint, remove_checkpoint, signature_of
from hvg.core.errors import CheckpointError
from hvg.core.files import flush_to_disk
from hvg.core.ranks import from_all_ranks, rank_and_world
from hvg.parts.weights import has_diverged

# safetensors' names of types.
_TYPES = {
    torch.bfloat16: "BF16",
    torch.uint8: "U8",
    torch.bool: "BOOL",
    **{getattr(torch, f"float{bits}"): f"F{bits}" for bits in (16, 32, 64)},
    **{getattr(torch, f"int{bits}"): f"I{bits}" for bits in (8, 16, 32, 64)},
}

# What kept a process from writing.
Problem = OSError | CheckpointError | None


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
    def of(cls, name: str, tensor: Tensor) -> "Entry":
        """A tensor that this process holds."""
        return cls(name, tensor.dtype, tuple(tensor.shape), lambda: tensor)


@dataclass(frozen=True)
class Started:
    """A checkpoint that is begun.

    path: its place to be. partial: the folder in which it is written. content: of its manifest, but for its files. entries: what
    this process writes, into the file ``name``. every: all entries, in the order in which all processes read them.
    """

    path: Path
    partial: Path
    content: dict[str, Any]
    name: str
    entries: list[Entry]
    every: list[Entry]


def write_checkpoint(path: Path, state: Mapping[str, Any], entries: Sequence[Entry] = ()) -> None:
    """Writes ``state`` and ``entries`` under ``path``, each process of the group its share of the entries.

    Memory: one tensor more than the state itself. Raises: CheckpointError, in every process, when one of them could not
    write, or a learned tensor has diverged; then nothing is left of it. TypeError for state that is neither a tensor nor plain
    data.
    """
    begun = start_checkpoint(path, state, entries)
    written, error = write_share(begun.partial / begun.name, begun.entries, begun.every)
    files = from_all_ranks({begun.name: written})
    raise_together(path, error, begun.partial)
    if rank_and_world()[0] == 0:
        found = {key: value for file in files for key, value in file.items()}
        error = attempt(lambda: finish(begun, found))
    raise_together(path, error, begun.partial)


def start_checkpoint(path: Path, state: Mapping[str, Any], entries: Sequence[Entry]) -> Started:
    """Makes the folder in which a checkpoint is written, and says who writes what. All processes call it; raises as
    ``write_checkpoint``.
    """
    tensors, tree = pack(dict(state))
    every = [*entries, *(Entry.of(name, tensor) for name, tensor in tensors.items())]
    rank, world = rank_and_world()
    partial = path.with_name(f".{path.name}.partial")
    error = attempt(lambda: _fresh_folder(partial)) if rank == 0 else None
    raise_together(path, error, partial)
    known = {"step": state.get("global_step"), "precision": state.get("precision")}
    content = {"format": CHECKPOINT_FORMAT, **known, "world_size": world, "state": tree}
    return Started(path, partial, content, file_name(rank, world), every[rank::world], every)


def file_name(rank: int, world: int) -> str:
    """Name of the file with a process's share."""
    return f"tensors-{rank + 1:05d}-of-{world:05d}.safetensors"


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


def write_share(path: Path, mine: Sequence[Entry], every: Iterable[Entry] = ()) -> tuple[dict[str, Any], Problem]:
    """Writes this process's entries as a safetensors file; its size and hash, and what went wrong.

    every: all entries, which are read, also where writing has failed: the other processes read with it.
    """
    digest, size = hashlib.sha256(), 0
    streams: list[IO[bytes]] = []

    def put(data: Any) -> None:
        nonlocal size
        streams[0].write(data)
        digest.update(data)
        size += len(data)

    def begin() -> None:
        streams.append(path.open("wb"))
        put(_header(mine))

    def end() -> None:
        streams[0].close()
        flush_to_disk(path)

    error, own = attempt(begin), {id(entry) for entry in mine}
    for entry in every or mine:
        tensor = entry.read()
        if id(entry) in own and error is None:
            error = attempt(lambda: put(_checked_bytes(entry, tensor)))  # noqa: B023
    at_the_end = attempt(end) if streams else None
    return {"bytes": size, "sha256": digest.hexdigest()}, error or at_the_end


def _checked_bytes(entry: Entry, tensor: Tensor) -> Any:
    """The bytes of a tensor. Raises: CheckpointError where training has diverged."""
    values = tensor.detach().cpu().contiguous().reshape(-1)
    if entry.learned and has_diverged(values):
        raise CheckpointError(
            f"training has diverged, {entry.name} holds {float(values.abs().amax()):.3g}; a smaller "
            "training.learning_rate may keep it from that"
        )
    return values.view(torch.uint8).numpy().data


def _header(entries: Sequence[Entry]) -> bytes:
    """The beginning of a safetensors file: the header's length, and in JSON what lies where; filled up to 8 bytes."""
    table: dict[str, Any] = {"__metadata__": {"format": CHECKPOINT_FORMAT}}
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


def finish(begun: Started, files: Mapping[str, Any]) -> None:
    """Adds the manifest, which signs itself, and gives the folder its name. files: name -> size and hash."""
    content = {**begun.content, "files": dict(files)}
    (begun.partial / MANIFEST).write_text(json.dumps({**content, "sha256": signature_of(content)}), encoding="utf-8")
    flush_to_disk(begun.partial / MANIFEST)
    flush_to_disk(begun.partial)
    remove_checkpoint(begun.path)
    begun.partial.rename(begun.path)
    flush_to_disk(begun.path.parent)


def attempt(action: Callable[[], None]) -> Problem:
    """What kept an action from being done; None where nothing did."""
    try:
        action()
    except (OSError, CheckpointError) as error:
        return error
    return None


def raise_together(path: Path, error: Problem, partial: Path | None = None) -> None:
    """Raises: CheckpointError in every process when one has an error. partial: a folder that is removed then."""
    reasons = [reason for reason in from_all_ranks(error and reason_of(error)) if reason]
    if not reasons:
        return
    if partial is not None and rank_and_world()[0] == 0:
        shutil.rmtree(partial, ignore_errors=True)
    before = latest_checkpoint(path.parent)
    kept = f"{before} is as it was" if before else "there is none before it"
    raise CheckpointError(f"{path}: the checkpoint cannot be written: {reasons[0]}; {kept}") from error


def reason_of(error: Exception) -> str:
    """Why something could not be written, in a line."""
    return getattr(error, "strerror", "") or str(error)
