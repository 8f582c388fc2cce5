"""Checkpoints: a folder that holds a training state by parameter name, independent of how many processes wrote it.

``manifest.json`` holds plain values (counters, schedules, the configuration) and each file's size and hash; tensors lie
whole, by name, in safetensors files beside it. Nothing is pickled, so that a checkpoint from anyone can be opened.
The folder gets its name when all of it is on disk.
"""

import hashlib
import json
import re
import shlex
import shutil
from collections.abc import Callable, Collection, Iterable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from safetensors import SafetensorError, safe_open
from torch import Tensor

from hvg.core.digests import file_digest, settings_digest
from hvg.core.errors import CheckpointError, DataError
from hvg.core.files import read_text

CHECKPOINT_FORMAT = "hvg-checkpoint-2"
MANIFEST = "manifest.json"
PATTERN = re.compile(r"step-(\d+)\.ckpt")
FILE = re.compile(r"tensors-\d{5}-of-\d{5}\.safetensors")
# Names in an export: the list of its components, and the folder of the trained weights.
EXPORT_INDEX, EXPORT_MODEL = "model_index.json", "model"


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


def signature_of(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()


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
    """Precision of the run's training, as of ``hvg.config.precision.trained_in``; None where it is not recorded.

    Raises: CheckpointError as ``Checkpoint``, which looks at the tensors too.
    """
    return _precision(_manifest(path))


def _precision(manifest: Mapping[str, Any]) -> str | None:
    found = manifest.get("precision")
    return found if isinstance(found, str) else None


def _manifest(path: Path) -> dict[str, Any]:
    if not path.exists():
        raise CheckpointError(
            f"{path}: no such checkpoint{_nearby(path)}", then="" if _nearby(path) else _training(path)
        )
    if path.is_file():
        raise CheckpointError(f"{path}: not a checkpoint of this version: those are folders{_nearby(path)}")
    try:
        content = json.loads(read_text(path / MANIFEST))
        found, signature = content["format"], content.pop("sha256")
    except FileNotFoundError as error:
        raise CheckpointError(f"{path}: damaged: {MANIFEST} is missing{_nearby(path)}") from error
    except (DataError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise CheckpointError(f"{path}: damaged: {MANIFEST} cannot be read ({error})") from error
    if found != CHECKPOINT_FORMAT:
        raise CheckpointError(f"{path}: not a checkpoint of this program (format {found}, not {CHECKPOINT_FORMAT})")
    if signature_of(content) != signature:
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


def checkpoint_path(folder: Path, step: int) -> Path:
    """Path of the checkpoint of a step."""
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
        raise CheckpointError(f"{path}: this folder holds no checkpoint", then=_training(path))
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


def keep_checkpoints(folder: Path, last: int, every: int, always: Collection[int] = ()) -> None:
    """Removes all but the newest ``last``, those whose step is a multiple of ``every`` (0: none), and those of ``always``."""
    found = checkpoints(folder)
    kept = {*list(found)[-last:], *always}
    for step, path in found.items():
        if step not in kept and not (every and step % every == 0):
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


def _training(path: Path) -> str:
    """The command that trains the run that ``path`` is meant to be of, as far as its place tells."""
    run = path.parent.parent if PATTERN.fullmatch(path.name) and path.parent.name == "checkpoints" else path
    return f"hvg train name={shlex.quote(run.name) if run.parent == Path('runs') else 'NAME'}"


def is_exported(path: Path) -> bool:
    """Whether ``hvg export`` wrote this folder."""
    return (path / EXPORT_INDEX).is_file() and (path / EXPORT_MODEL / "config.json").is_file()
