"""A reconstructor that a run has trained, for signals that show what it sees."""

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor

from hvg.config.parsing import read_yaml
from hvg.config.validation import validate
from hvg.core.checkpoint import Checkpoint, find_checkpoint, is_exported, saved_config
from hvg.core.errors import CheckpointError, ConfigError
from hvg.core.next_commands import TRAIN_RECONSTRUCTOR
from hvg.parts import registry
from hvg.parts.context import SceneContext
from hvg.parts.reconstructor import Reconstructor
from hvg.parts.weights import load_weights

# How the names of its weights begin in a checkpoint of the system that trains one.
PREFIX = "reconstructor."


def trained_reconstructor(path: Path, name: str, context: SceneContext) -> Reconstructor:
    """The reconstructor ``name`` with the settings and weights of a checkpoint, or of the newest one of a run folder; averaged
    weights where there are some.

    Raises: CheckpointError, in a line, where there is none, it holds another one or none at all, or one that was trained on
    bodies of another model than the context's.
    """
    found = find_checkpoint(path)
    run = _saved_run(found)
    settings = _part(run, "reconstructor", found)
    if (saved := settings.pop("name")) != name:
        raise CheckpointError(
            f"{found}: trained the reconstructor '{saved}', not '{name}'",
            then=f"{TRAIN_RECONSTRUCTOR} reconstructor={name}",
        )
    body = str(_part(run, "body", found)["name"])
    if type(context.body) is not registry.load("body", body):
        here = type(context.body).__module__.rpartition(".")[2]
        raise CheckpointError(f"{found}: its reconstructor was trained with body={body}, this run has body={here}")
    cls = registry.load("reconstructor", name)
    config, problems = validate(cls.Config, settings, f"{found}: reconstructor", cls.__name__)
    if problems:
        raise ConfigError(problems)
    # Its first weights are not kept, and must not change what is drawn next.
    with torch.random.fork_rng(devices=[]):
        part: Reconstructor = cls(config, context)
    load_weights(part, _weights(Checkpoint(found)), str(found))
    return part


def _saved_run(path: Path) -> Mapping[str, Any]:
    """The plain values of the configuration of a checkpoint."""
    if is_exported(path):
        raise CheckpointError(
            f"{path}: is an export of a video model, which holds no reconstructor", then=TRAIN_RECONSTRUCTOR
        )
    try:
        run = read_yaml(saved_config(path))
    except yaml.YAMLError as error:
        raise CheckpointError(f"{path}: holds a configuration that is no YAML: {error}") from error
    return run if isinstance(run, Mapping) else {}


def _part(run: Mapping[str, Any], key: str, path: Path) -> dict[str, Any]:
    """A part as a configuration has it, its name and its settings."""
    found = run.get(key)
    if not isinstance(found, Mapping) or not isinstance(found.get("name"), str):
        raise CheckpointError(f"{path}: trained no {key}; give a run that did", then=TRAIN_RECONSTRUCTOR)
    return dict(found)


def _weights(checkpoint: Checkpoint) -> dict[str, Tensor]:
    weights = {**checkpoint.section("weights"), **checkpoint.section("average")}
    return {name.removeprefix(PREFIX): x for name, x in weights.items() if name.startswith(PREFIX)}


class FrozenReconstructor:
    """A reconstructor outside of the module tree that uses it: not trained, saved or partitioned; a copy for every device.

    The one on the CPU never moves: processes that load clips have it, too.
    """

    def __init__(self, part: Reconstructor) -> None:
        self._copies = {torch.device("cpu"): part.eval().requires_grad_(False)}

    def on(self, device: torch.device) -> Reconstructor:
        """The reconstructor on a device."""
        if device not in self._copies:
            self._copies[device] = copy.deepcopy(self._copies[torch.device("cpu")]).to(device)
        return self._copies[device]
