"""``hvg export``: a trained model as a folder that diffusers opens, and the way back.

The folder is a diffusers pipeline: ``model/`` holds the run's configuration and all trained weights, ``vae/``,
``image_encoder/`` and ``feature_extractor/`` the published models that the run uses and does not train. Weights are
safetensors. ``hvg sample`` and ``hvg evaluate`` take the folder as ``checkpoint=``.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml
from torch import Tensor

from hvg import outputs
from hvg.checkpoint import EXPORT_INDEX, EXPORT_MODEL, find_checkpoint, is_exported, load_weights
from hvg.config import RunConfig, parse_resolved
from hvg.errors import CheckpointError, HvgError
from hvg.files import whole_folder, write_text
from hvg.here import choose_device, refuse_missing
from hvg.options import ExportOptions
from hvg.pretrained import Component
from hvg.protocols import Part
from hvg.system import HumanVideoSystem
from hvg.training import build_system, load_system, trained_precision

# How the names of an export's weights begin.
SYSTEM = "system."
# For `DiffusionPipeline.from_pretrained`, which knows no class of ours and takes the folder's word for it.
PIPELINE_CODE = '''"""Opened by diffusers; needs the package hvg."""

from hvg.pipeline import HumanVideoPipeline

__all__ = ["HumanVideoPipeline"]
'''


def export(options: ExportOptions) -> Iterator[str]:
    """Writes the folder, whole or not at all; yields lines for the user.

    Raises: HvgError where ``out`` exists.
    """
    outputs.try_folder(options.out, "out")
    if options.out.exists():
        raise HvgError(f"out={options.out}: exists already; give the name of a new folder")
    # Imported here because reading an export needs none of diffusers.
    from hvg.pipeline import HumanVideoModel, HumanVideoPipeline

    # It belongs to no machine: neither this one nor that of the training need be like the one that opens it.
    system, config = load_system(
        options.checkpoint, options.weights, lambda config: config.model_copy(update={"device": "auto"})
    )
    run, frozen = portable(config, system)
    precision = trained_precision(find_checkpoint(options.checkpoint))
    model = HumanVideoModel(run, frozen, precision, system=system.cpu())
    pipeline = HumanVideoPipeline(model, **frozen_models(system))
    with whole_folder(options.out) as partial:
        pipeline.save_pretrained(partial, max_shard_size="5GB")
        index = json.loads((partial / EXPORT_INDEX).read_text(encoding="utf-8"))
        # What opens it years from now is looked for at these names, wherever the classes are by then.
        index |= {"_class_name": ["pipeline", "HumanVideoPipeline"], "model": ["hvg.pipeline", "HumanVideoModel"]}
        write_text(partial / EXPORT_INDEX, json.dumps(index, indent=2))
        write_text(partial / "pipeline.py", PIPELINE_CODE)
    folders = ", ".join(f"{path.name}/" for path in sorted(options.out.iterdir()) if path.is_dir())
    yield f"wrote {folders} to {options.out}"
    yield f"open it with hvg.pipeline.HumanVideoPipeline.from_pretrained('{options.out}'), or as checkpoint={options.out}"


def load_exported(
    folder: Path, change: Callable[[RunConfig], RunConfig] = lambda config: config
) -> tuple[HumanVideoSystem, RunConfig]:
    """The system that an export holds, ready to generate, and its configuration; ``change`` as in ``load_system``.

    Raises: CheckpointError for a folder that is no export, and where weights do not fit.
    """
    if not is_exported(folder):
        raise CheckpointError(f"{folder}: is no folder that `hvg export` wrote")
    run, frozen = _settings(folder)
    config = parse_resolved(yaml.safe_dump(run), str(folder))
    unknown = [key for key in frozen if key != "codec" and key not in config.conditioners]
    if unknown:
        raise CheckpointError(f"{folder}: names a part '{unknown[0]}' that its settings do not have")
    config = change(located(config, frozen, str(folder)))
    refuse_missing([config], trains=False)
    system = build_system(config)
    load_weights(system, exported_weights(folder), str(folder))
    return system.to(choose_device(config.device)).eval(), config


def exported_weights(folder: Path) -> dict[str, Tensor]:
    """Parameter name -> trained weights of an export."""
    return {name.removeprefix(SYSTEM): x for name, x in _model(folder).weights().items()}


def exported_precision(folder: Path) -> str | None:
    """What the run was trained in, as of ``hvg.precision.trained_in``; None for an export that does not say."""
    found = _model(folder).settings().get("precision")
    return found if isinstance(found, str) else None


def portable(config: RunConfig, system: HumanVideoSystem) -> tuple[dict[str, Any], list[str]]:
    """The run's settings as plain values, and the root keys (or slots) of the parts whose ``path`` is the export itself."""
    frozen = [key for key, part in _parts(system).items() if part.frozen()]
    return located(config, frozen, ".").resolved(), frozen


def frozen_models(system: HumanVideoSystem) -> dict[str, Any]:
    """Component name -> published model, of all parts."""
    return {name: model for part in _parts(system).values() for name, model in part.frozen().items()}


def adopt(system: HumanVideoSystem, components: Mapping[str, Any]) -> None:
    """Gives the parts published models that are loaded already."""
    for part in _parts(system).values():
        part.adopt(components)


def located(config: RunConfig, parts: list[str], folder: str) -> RunConfig:
    """The configuration with these parts' published models in ``folder``."""
    choices = {"codec": config.codec, **config.conditioners}
    moved = {
        key: replace(choices[key], config=choices[key].config.model_copy(update={"path": folder})) for key in parts
    }
    slots = {slot: moved.get(slot, choice) for slot, choice in config.slots.items()}
    return config.model_copy(update={key: x for key, x in moved.items() if key not in config.slots} | {"slots": slots})


def _settings(folder: Path) -> tuple[dict[str, Any], list[str]]:
    """What ``portable`` gave. Raises: CheckpointError for a config.json that does not hold it."""
    settings = _model(folder).settings()
    run, frozen = settings.get("run"), settings.get("frozen")
    if not isinstance(run, dict) or not isinstance(frozen, list) or not all(isinstance(key, str) for key in frozen):
        raise CheckpointError(f"{folder}: {EXPORT_MODEL}/config.json is not one that `hvg export` wrote")
    return run, frozen


def _model(folder: Path) -> Component:
    return Component(place=str(folder), name=EXPORT_MODEL, setting="checkpoint")


def _parts(system: HumanVideoSystem) -> dict[str, Part]:
    """The parts that may use published models, by their keys in a configuration."""
    return {"codec": system.codec, **system.conditioners}
