"""From a checkpoint or an export to a system."""

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml
from torch import Tensor

from hvg.config.build import Parts, adapt, build_part, build_parts
from hvg.config.composition import parse_resolved
from hvg.config.machine import choose_device, refuse_missing
from hvg.config.settings import PartChoice, RunConfig
from hvg.core.checkpoint import Checkpoint, find_checkpoint, is_exported, precision_of
from hvg.core.digests import components_digest, weights_digest
from hvg.core.errors import CheckpointError, HvgError
from hvg.core.next_commands import EXPORT
from hvg.data.signals import signal_keys
from hvg.model.ema import Averaging
from hvg.model.saved_run import exported_model, exported_settings, saved_run_of
from hvg.model.system import HumanVideoSystem
from hvg.model.trained_system import Base, TrainedSystem
from hvg.model.training_noise import TrainingNoise
from hvg.parts import registry
from hvg.parts.backbone import Backbone
from hvg.parts.optimizer import Group
from hvg.parts.part import Part
from hvg.parts.weights import load_shared_weights, load_weights

# How the names of an export's weights begin.
SYSTEM = "system."


def load_exported(
    folder: Path, change: Callable[[RunConfig], RunConfig] = lambda config: config
) -> tuple[HumanVideoSystem, RunConfig]:
    """The system that an export holds, ready to generate, and its configuration; ``change`` as in ``load_system``.

    Raises: CheckpointError for a folder that is no export, and where weights do not fit.
    """
    if not is_exported(folder):
        raise CheckpointError(f"{folder}: is no folder that `hvg export` wrote", then=EXPORT)
    run, frozen = exported_settings(folder)
    config = parse_resolved(yaml.safe_dump(run), str(folder))
    unknown = [key for key in frozen if key not in {*config.conditioners, *({"codec"} & config.parts.keys())}]
    if unknown:
        raise CheckpointError(f"{folder}: names a part '{unknown[0]}' that its settings do not have")
    config = change(located(config, frozen, str(folder)))
    refuse_missing([config], trains=False)
    system = as_video_model(build_system(config), config, folder)
    load_weights(system, exported_weights(folder), str(folder))
    return system.to(choose_device(config.device)).eval(), config


def exported_weights(folder: Path) -> dict[str, Tensor]:
    """Parameter name -> trained weights of an export."""
    return {name.removeprefix(SYSTEM): x for name, x in exported_model(folder).weights().items()}


def exported_precision(folder: Path) -> str | None:
    """Precision of the run's training, as of ``hvg.config.precision.trained_in``; None where it is not recorded."""
    found = exported_model(folder).settings().get("precision")
    return found if isinstance(found, str) else None


def portable(config: RunConfig, system: HumanVideoSystem) -> tuple[dict[str, Any], list[str]]:
    """The run's settings as plain values, and the root keys (or slots) of the parts whose ``path`` is the export itself."""
    frozen = [key for key, part in _parts(system).items() if part.frozen()]
    return located(config, frozen, ".").resolved(), frozen


def frozen_models(system: HumanVideoSystem) -> dict[str, Any]:
    """Component name -> published model, of all parts. Raises: HvgError where two parts have different ones of one name."""
    found: dict[str, Any] = {}
    for key, part in _parts(system).items():
        for name, model in part.frozen().items():
            if name in found and components_digest({name: model}) != components_digest({name: found[name]}):
                raise HvgError(f"{key}: has another {name} than another part, and an export holds one of each name")
            found.setdefault(name, model)
    return found


def adopt(system: HumanVideoSystem, components: Mapping[str, Any]) -> None:
    """Gives the parts published models that are loaded already."""
    for part in _parts(system).values():
        part.adopt(components)


def located(config: RunConfig, parts: list[str], folder: str) -> RunConfig:
    """The configuration with these parts' published models in ``folder``."""
    choices = {**config.parts, **config.conditioners}
    moved = {
        key: replace(choices[key], config=choices[key].config.model_copy(update={"path": folder})) for key in parts
    }
    slots = {slot: moved.get(slot, choice) for slot, choice in config.slots.items()}
    return config.model_copy(update={key: x for key, x in moved.items() if key not in config.slots} | {"slots": slots})


def _parts(system: HumanVideoSystem) -> dict[str, Part]:
    """The parts that may use published models, by their keys in a configuration."""
    return {"codec": system.codec, **system.conditioners}


def build_system(config: RunConfig, start: Callable[[Backbone], None] | None = None) -> TrainedSystem:
    """The run's system with seeded initial weights; ``start`` as in ``hvg.config.build.build_parts``."""
    return build_part(config.system).build(config, start)


def build_video_model(config: RunConfig, start: Callable[[Backbone], None] | None = None) -> HumanVideoSystem:
    """The same for ``system=human_video``."""
    return make_system(config, build_parts(config, start))


def as_video_model(system: TrainedSystem, config: RunConfig, place: Path) -> HumanVideoSystem:
    """The system. Raises: CheckpointError, naming the place that it is from, where it is no video model."""
    if not isinstance(system, HumanVideoSystem):
        raise CheckpointError(f"{place}: holds system={config.system.name}; exports are of video models (human_video)")
    return system


def make_system(config: RunConfig, parts: Parts, kind: type[HumanVideoSystem] = HumanVideoSystem) -> HumanVideoSystem:
    """The system of these parts."""
    return kind(
        **vars(parts),
        signal_keys=signal_keys(config),
        seed=config.seed,
        foreground_weight=config.training.foreground_weight,
        noise=TrainingNoise(config.training),
        background=config.data.background,
        first_view=config.data.first_view,
        **{key: getattr(config.evaluation, key) for key in ("kept_conditioning", "reuse", "kept_features")},
        frame_index=config.data.frame_index,
        optimizer=lambda groups: make_optimizer(groups, config),
    )


def make_optimizer(groups: list[Group], config: RunConfig) -> tuple[Averaging, Callable[[int], float]]:
    """The run's optimiser with a moving average, and its schedule: linear warm-up, then cosine decay to a share of the peak, or
    halving.
    """
    training, part = config.training, build_part(config.optimizer)
    optimizer = Averaging(part, groups, training.learning_rate, training.ema_decay)

    def schedule(step: int) -> float:
        warm = min(1.0, (step + 1) / max(1, training.warmup_steps))
        if training.halve_every is not None:
            return warm * 0.5 ** (step // training.halve_every)
        cosine = 0.5 * (1 + math.cos(math.pi * min(1.0, step / training.steps)))
        return warm * (training.final_learning_rate + (1 - training.final_learning_rate) * cosine)

    return optimizer, schedule


def checkpoint_weights(path: Path, weights: str) -> dict[str, Tensor]:
    """Parameter name -> ``ema`` or ``raw`` weights of a checkpoint; an export holds one of them. Of one that holds only what
    was trained: of that with its base, what was added to layers added to their weights.
    """
    if is_exported(path):
        return exported_weights(path)
    opened = Checkpoint(path)
    if "base" not in opened.state:
        return _opened_weights(opened, weights)
    config = saved_run_of(opened)
    system = opened_system(config, opened, weights)
    merged(config, system)
    return dict(system.state_dict())


def _opened_weights(checkpoint: Checkpoint, weights: str) -> dict[str, Tensor]:
    loaded = checkpoint.section("weights")
    if weights == "ema":
        averages = checkpoint.section("average")
        # What was never trained has none.
        if not averages and checkpoint.state.get("global_step"):
            raise CheckpointError(f"{checkpoint.path}: holds no averaged weights; use evaluation.weights=raw")
        loaded.update(averages)
    return loaded


def trained_precision(path: Path) -> str | None:
    """Precision of a checkpoint or export, as of ``hvg.config.precision.trained_in``; None where not recorded."""
    if is_exported(path):
        return exported_precision(path)
    return precision_of(path)


def start_system(config: RunConfig, log: Callable[[str], None], weights: str | None = None) -> TrainedSystem:
    """The system of a new run: from ``checkpoint``, every weight that both have; else with a backbone's published ones. Then what
    its adapter makes of it.

    A backbone gets its weights before conditioners are built, so that a ReferenceNet copies those. log: takes a line
    about each file. weights: which of the checkpoint's, as of ``Base``. Raises: CheckpointError, HvgError for weights that do
    not fit, and for an adapter that does not.
    """
    if config.checkpoint is None:

        def published(backbone: Backbone) -> None:
            for line in backbone.load_pretrained():
                log(line)

        return _adapted(config, build_system(config, published), Base(""), log)
    path = find_checkpoint(Path(config.checkpoint))
    loaded, prefix = checkpoint_weights(path, weights or config.evaluation.weights), "backbone."
    own = {name.removeprefix(prefix): x for name, x in loaded.items() if name.startswith(prefix)}

    def shared(backbone: Backbone) -> None:
        load_shared_weights(backbone, own, str(path))

    system = build_system(config, shared)
    for line in load_shared_weights(system, loaded, str(path)):
        log(line)
    return _adapted(config, system, Base("", str(path.resolve()), weights), log)


def _adapted(config: RunConfig, system: TrainedSystem, base: Base, log: Callable[[str], None]) -> TrainedSystem:
    """The system with what its run's adapter trains and adds. base: where its weights are from, without their digest."""
    if "adapter" not in config.parts or not isinstance(system, HumanVideoSystem):
        return system
    before = dict(system.named_parameters())
    system.rates = adapt(config, system.backbone, system.conditioners)
    if config.adapter.cls.whole:
        return system
    fixed = {name: weight for name, weight in before.items() if not weight.requires_grad}
    system.base = replace(base, digest=weights_digest(fixed))
    trained, rest = (
        sum(weight.numel() for weight in system.parameters() if weight.requires_grad == trains)
        for trains in (True, False)
    )
    log(f"adapter={config.adapter.name}: {trained:,} weights train, {rest:,} do not ({system.base.digest[:12]})")
    return system


def opened_system(
    config: RunConfig, opened: Checkpoint, weights: str, log: Callable[[str], None] = lambda line: None
) -> TrainedSystem:
    """The system of a checkpoint with its ``ema`` or ``raw`` weights, on the CPU. What a checkpoint leaves out is made or read
    again, as by ``start_system``. log: takes a line about each file that this reads.

    Raises: CheckpointError, in a line, where that is not to be had or not what was trained on, and where weights do not fit.
    """
    base, adapter = _base_of(opened), config.parts.get("adapter")
    if (base is None) != (adapter is None or adapter.cls.whole):
        raise CheckpointError(
            f"{opened.path}: other weights were trained than adapter={adapter and adapter.name} trains; start a new run of it",
            then=f"hvg train checkpoint={opened.path} name=NAME",
        )
    system = build_system(config) if base is None else _system_of_base(config, opened, base, log)
    load_system_weights(system, opened, weights)
    return system


def _system_of_base(config: RunConfig, opened: Checkpoint, base: Base, log: Callable[[str], None]) -> TrainedSystem:
    """The system as a run started, with the weights that its checkpoint leaves out."""
    if base.checkpoint is not None:
        # The very one: a run folder may hold a newer one by now. An earlier stage's lies beside, wherever the run was moved.
        beside = [opened.path.with_name(Path(base.checkpoint).name)] if "stage" in opened.state else []
        there = [path for path in (Path(base.checkpoint), *beside) if path.exists()]
        config = config.model_copy(update={"checkpoint": there[0]}) if there else config
    try:
        system = start_system(config, log, base.weights)
    except HvgError as error:
        raise CheckpointError(
            f"{opened.path}: holds what was trained alone; the rest is not to be had: {error}"
        ) from error
    found = None if system.base is None else system.base.digest
    if found != base.digest:
        place = config.checkpoint or getattr(config.backbone.config, "weights", None) or f"seed {config.seed}"
        raise CheckpointError(
            f"{opened.path}: was trained on another base: the weights that it left as they were have the digest "
            f"{base.digest[:12]}, those of {place} {str(found)[:12]}"
        )
    return system


def _base_of(opened: Checkpoint) -> Base | None:
    """What the weights are that a checkpoint leaves out; None where it leaves none out. Raises: CheckpointError."""
    found = opened.state.get("base")
    if found is None:
        return None
    try:
        digest, *more = str(found["digest"]), found["checkpoint"], found.get("weights")
    except (TypeError, KeyError, AttributeError) as error:
        raise CheckpointError(f"{opened.path}: does not say what its base is: {error!r}") from error
    return Base(digest, *(None if x is None else str(x) for x in more))


def merged(config: RunConfig, system: TrainedSystem) -> RunConfig:
    """Adds what a run's adapter has added to layers to the weights of these; the configuration of a run that has them all."""
    if system.base is None or not isinstance(system, HumanVideoSystem):
        return config
    build_part(config.adapter).merge(system.backbone)
    system.rates, system.base = {}, None
    full = registry.load("adapter", "full")
    return config.model_copy(update={"adapter": PartChoice("adapter", "full", full, full.Config())})


def load_system_weights(system: TrainedSystem, checkpoint: Checkpoint, weights: str) -> None:
    """Loads ``ema`` or ``raw`` weights of a checkpoint, strictly: all, or those that train where the system has a base."""
    fixed = () if system.base is None else system.named_parameters(remove_duplicate=False)
    left_out = {name for name, weight in fixed if not weight.requires_grad}
    load_weights(system, _opened_weights(checkpoint, weights), str(checkpoint.path), left_out)


def load_system(
    path: Path, weights: str | None = None, change: Callable[[RunConfig], RunConfig] = lambda config: config
) -> tuple[TrainedSystem, RunConfig]:
    """The system that a checkpoint (or a run folder, or an export) holds, ready to generate, and its configuration.

    weights: ``ema`` or ``raw``; None as the configuration says; an export holds one of them. change: applied to the
    configuration before anything is built of it; it must not change a weight (see ``hvg.config.composition.recompose``).
    """
    if is_exported(path):
        return load_exported(path, change)
    checkpoint = Checkpoint(find_checkpoint(path))
    config = change(saved_run_of(checkpoint))
    refuse_missing([config], trains=False)
    system = opened_system(config, checkpoint, weights or config.evaluation.weights)
    return system.to(choose_device(config.device)).eval(), config
