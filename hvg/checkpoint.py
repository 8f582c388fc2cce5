"""Checkpoints: one safetensors file that holds a training state, written whole or not at all; and the moving average.

Tensors lie in the file as such; everything else of the state (counters, optimiser groups, the configuration) is JSON in
the file's metadata. Nothing is pickled, so that a checkpoint from anyone can be opened.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from hvg.errors import CheckpointError
from hvg.files import whole_file

FORMAT = "hvg-checkpoint-1"
PATTERN = re.compile(r"step-(\d+)\.ckpt")
# What an export holds: the list of its components, and the folder of the trained weights.
EXPORT_INDEX, EXPORT_MODEL = "model_index.json", "model"


def pack(state: Any, prefix: str = "") -> tuple[dict[str, Tensor], Any]:
    """Splits a nested state into named tensors and a JSON tree that refers to them.

    Raises: TypeError on a value that is neither a tensor nor plain data.
    """
    tensors: dict[str, Tensor] = {}

    def walk(value: Any, path: str) -> Any:
        if isinstance(value, Tensor):
            tensors[path] = value.detach().contiguous().cpu().clone()
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


def unpack(tensors: Mapping[str, Tensor], tree: Any) -> Any:
    """The nested state that ``pack`` split."""
    ((kind, value),) = tree.items()
    if kind == "tensor":
        return tensors[value]
    if kind == "dict":
        return {key: unpack(tensors, item) for key, item in value}
    if kind in ("list", "tuple"):
        items = [unpack(tensors, item) for item in value]
        return items if kind == "list" else tuple(items)
    return value


def write_checkpoint(path: Path, state: Mapping[str, Any]) -> None:
    """Writes ``state`` under ``path``; the name appears when the file is whole and on disk."""
    tensors, tree = pack(dict(state))
    with whole_file(path) as partial:
        save_file(tensors, partial, metadata={"format": FORMAT, "state": json.dumps(tree)})
        with partial.open("rb") as stream:
            os.fsync(stream.fileno())


def read_checkpoint(path: Path) -> dict[str, Any]:
    """The state that ``write_checkpoint`` wrote, on the CPU.

    Raises: CheckpointError that names the file when it is missing, damaged or of another kind.
    """
    if not path.is_file():
        raise CheckpointError(f"{path}: no such checkpoint{_nearby(path)}")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118  (safe_open is no mapping)
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path}: cannot be read as a checkpoint, it may be truncated ({error})") from error
    if metadata.get("format") != FORMAT:
        raise CheckpointError(
            f"{path}: not a checkpoint of this program (format {metadata.get('format')}, not {FORMAT})"
        )
    return unpack(tensors, json.loads(metadata["state"]))


def _nearby(path: Path) -> str:
    folder = path if path.is_dir() else path.parent
    found = latest_checkpoint(folder) or latest_checkpoint(folder / "checkpoints")
    return f"; did you mean {found}?" if found else ""


def latest_checkpoint(folder: Path) -> Path | None:
    """The checkpoint of the highest step in a folder, None where there is none."""
    if not folder.is_dir():
        return None
    steps = {int(m[1]): p for p in folder.iterdir() if (m := PATTERN.fullmatch(p.name))}
    return steps[max(steps)] if steps else None


def find_checkpoint(path: Path) -> Path:
    """The checkpoint at ``path``, or the newest one of the run folder that it is; the folder of an export as it is.

    Raises: CheckpointError where there is none.
    """
    if not path.is_dir() or is_exported(path):
        return path
    found = latest_checkpoint(path / "checkpoints") or latest_checkpoint(path)
    if found is None:
        raise CheckpointError(f"{path}: this folder holds no checkpoint")
    return found


def is_exported(path: Path) -> bool:
    """Whether ``hvg export`` wrote this folder."""
    return (path / EXPORT_INDEX).is_file() and (path / EXPORT_MODEL / "config.json").is_file()


def checkpoint_path(folder: Path, step: int) -> Path:
    """Where the checkpoint of a step lies."""
    return folder / f"step-{step:07d}.ckpt"


def load_weights(module: nn.Module, weights: Mapping[str, Tensor], source: str) -> None:
    """Loads all of a module's weights.

    Raises: CheckpointError that lists what is missing, unexpected or of another shape; nothing is loaded then.
    """
    own = module.state_dict()
    problems = [f"missing {key}" for key in own if key not in weights]
    problems += [f"unexpected {key}" for key in weights if key not in own]
    problems += [
        f"{key} has shape {tuple(weights[key].shape)}, the model {tuple(own[key].shape)}"
        for key in own
        if key in weights and own[key].shape != weights[key].shape
    ]
    if problems:
        shown = "; ".join(problems[:5]) + (f"; and {len(problems) - 5} more" if len(problems) > 5 else "")
        raise CheckpointError(f"{source}: does not fit the model: {shown}")
    module.load_state_dict(dict(weights))


def load_shared_weights(module: nn.Module, weights: Mapping[str, Tensor], source: str) -> list[str]:
    """Loads every weight whose name both have; returns a line each on what was kept, what is new and what is unused.

    Raises: CheckpointError when a shared weight has another shape, or nothing is shared; nothing is loaded then.
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
    module.load_state_dict(shared, strict=False)
    new, unused = [key for key in own if key not in weights], [key for key in weights if key not in own]
    lines = [f"{source}: {len(shared)} weights kept"]
    if new:
        lines.append(f"new: {', '.join(_places(new))}")
    return [*lines, f"unused: {', '.join(_places(unused))}"] if unused else lines


def _places(names: list[str]) -> list[str]:
    """``part.place (n)`` for weights that lie in the same place."""
    counts: dict[str, int] = {}
    for name in names:
        place = ".".join(name.split(".")[:2])
        counts[place] = counts.get(place, 0) + 1
    return [f"{place} ({count})" for place, count in counts.items()]


class MovingAverage:
    """Exponential moving average of a module's trainable weights in float32.

    The decay warms up as min(decay, (1 + n) / (10 + n)) at update n, so that early averages forget the initialisation.
    """

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.decay, self.updates = decay, 0
        self._live = {name: p for name, p in module.named_parameters() if p.requires_grad}
        self.average = {name: p.detach().float().clone() for name, p in self._live.items()}

    @torch.no_grad()
    def update(self) -> None:
        """Moves the average towards the weights."""
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        torch._foreach_lerp_(list(self.average.values()), [p.float() for p in self._live.values()], 1 - decay)
        self.updates += 1

    @torch.no_grad()
    def swap(self) -> None:
        """Exchanges average and weights; a second call undoes the first exactly."""
        for name, parameter in self._live.items():
            kept = parameter.detach().clone()
            parameter.copy_(self.average[name])
            self.average[name].copy_(kept)

    def state_dict(self) -> dict[str, Any]:
        return {"updates": self.updates, "average": dict(self.average)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        if set(state["average"]) != set(self.average):
            raise CheckpointError("the saved moving average belongs to another model")
        self.updates = int(state["updates"])
        for name, value in state["average"].items():
            self.average[name].copy_(value)
