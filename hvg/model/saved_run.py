"""The configuration that a checkpoint or an export was trained with; no weight is loaded."""

from pathlib import Path
from typing import Any

import yaml

from hvg.config.composition import parse_resolved
from hvg.config.settings import RunConfig
from hvg.config.stages import stage_config
from hvg.core.checkpoint import EXPORT_MODEL, Checkpoint, find_checkpoint, is_exported
from hvg.core.errors import CheckpointError
from hvg.core.next_commands import EXPORT
from hvg.model.training_state import saved_config_of
from hvg.parts.pretrained import Component


def trained_config(path: Path) -> RunConfig:
    """The configuration of the model that a checkpoint, a run folder (its newest checkpoint) or an export holds.

    Raises: CheckpointError for a path that is none of them, or that is damaged; ConfigError for settings that do not hold here.
    """
    found = find_checkpoint(path)
    if is_exported(found):
        return parse_resolved(yaml.safe_dump(exported_settings(found)[0]), str(found))
    return saved_run_of(Checkpoint(found))


def saved_run_of(opened: Checkpoint) -> RunConfig:
    """The configuration that a checkpoint's weights were trained with: of a run with stages, that of its stage."""
    config = parse_resolved(saved_config_of(opened), str(opened.path))
    return stage_config(config, opened.state.get("stage"))


def exported_settings(folder: Path) -> tuple[dict[str, Any], list[str]]:
    """Settings of an export's run, and keys of the parts whose published model lies in it.

    Raises: CheckpointError for a config.json that does not hold them.
    """
    settings = exported_model(folder).settings()
    run, frozen = settings.get("run"), settings.get("frozen")
    if not isinstance(run, dict) or not isinstance(frozen, list) or not all(isinstance(key, str) for key in frozen):
        raise CheckpointError(f"{folder}: {EXPORT_MODEL}/config.json is not one that `hvg export` wrote", then=EXPORT)
    return run, frozen


def exported_model(folder: Path) -> Component:
    """The trained weights of an export, and its settings."""
    return Component(place=str(folder), name=EXPORT_MODEL, setting="checkpoint")
