"""Ports of the chosen backbone, and the ports and fields that the chosen conditioners fill and read."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hvg.core.errors import HvgError, did_you_mean

if TYPE_CHECKING:
    from hvg.config.settings import PartChoice, RunConfig
    from hvg.parts.model import Conditioner
    from hvg.values.conditioning import ConditioningSpec, Ports


def ports(config: RunConfig) -> Ports:
    """Ports of the backbone behind the chosen codec."""
    return config.backbone.cls.ports(config.backbone.config, config.codec.cls.shape(config.codec.config))


def temporal_stride(config: RunConfig) -> int:
    """Frames that the run's codec joins in a latent frame, as of ``LatentShape``; 1 for a system without a codec."""
    return config.codec.cls.shape(config.codec.config).temporal_stride if "codec" in config.parts else 1


def specs(config: RunConfig) -> dict[str, ConditioningSpec]:
    """Slot -> the ports that its conditioner fills, in merging order.

    Raises: HvgError when a conditioner needs a port that the backbone lacks.
    """
    available = ports(config)
    return {slot: spec_of(choice, available) for slot, choice in config.conditioners.items()}


def image_cell(config: RunConfig) -> tuple[int, int]:
    """Pixels to a latent cell, and latent cells to a cell of the backbone's coarsest level: sides divide by both."""
    available = ports(config)
    strides = [site.stride for site in (*available.residuals.values(), *available.memory.values())]
    return available.latent_stride, max(strides, default=1)


def picture_size(config: RunConfig) -> tuple[int, int] | None:
    """(height, width) of the dataset's pictures; None where its files decide it."""
    size = getattr(config.dataset.config, "image_size", None)
    if size is None:
        return None
    return tuple(size) if isinstance(size, (tuple, list)) else (size, size)


def spec_of(choice: PartChoice[Conditioner], available: Ports) -> ConditioningSpec:
    try:
        return choice.cls.spec(choice.config, available)
    except KeyError as error:
        # A conditioner that looks up the site it fills need not test for it first.
        site = str(error.args[0])
        known = {**available.residuals, **available.all_memory}
        raise HvgError(
            f"{choice.name} needs the port '{site}', which this backbone lacks. {did_you_mean(site, known)}"
        ) from error


def path_of_slot(config: RunConfig, slot: str) -> str:
    return f"slots.{slot}" if slot in config.slots else slot


def sees_time(config: RunConfig) -> bool:
    """Whether the chosen backbone sees a clip's frames together."""
    choice = config.parts.get("backbone")
    return choice is None or choice.cls.sees_time(choice.config)


def makes_single_pictures(config: RunConfig) -> bool:
    """Whether every view and frame is made by itself, whatever window it is denoised in."""
    return not sees_time(config) and config.view_attention.name == "none"


def backbone_notes(config: RunConfig) -> list[str]:
    """Notes for the user on the chosen backbone, a line each."""
    if sees_time(config):
        return []
    alone = "every view and frame is" if makes_single_pictures(config) else "every frame, with its views, is"
    return [f"backbone={config.backbone.name}: {alone} made by itself; nothing holds the frames of a video together"]


def slot_notes(config: RunConfig) -> list[str]:
    """Notes for the user on the chosen conditioners, a line each."""
    provided = config.dataset.cls.provides(config.dataset.config)
    return [
        f"{path_of_slot(config, slot)}={choice.name}: {note}"
        for slot, choice in config.conditioners.items()
        for note in (*choice.cls.notes(choice.config, provided), *_motion_notes(config, choice))
    ]


def _motion_notes(config: RunConfig, choice: PartChoice[Conditioner]) -> list[str]:
    """A note where the body's motion may be in a map, and no training step has a second frame in which it shows."""
    together = choice.cls.has_signal() and not choice.cls.per_picture(choice.config)
    moving = any(field.partition(".")[0] == "body" for field in choice.cls.needs(choice.config))
    if not (together and moving) or any(bucket.frames > 1 for bucket in config.data.trained_buckets):
        return []
    return [
        "its map is drawn from the pictures that a step sees together, and training steps have 1 frame (data.frames); a map "
        "that looks at other frames is never trained with any"
    ]


def needed_fields(config: RunConfig, training: bool = True) -> dict[str, tuple[str, frozenset[str]]]:
    """Key of the configuration -> the part that is chosen there, and the ClipBatch fields that it reads. training: whether
    those that its own losses and the fit of a data set's bodies read are among them.
    """
    needed: dict[str, tuple[str, frozenset[str]]] = {}
    if "alignment" in config.parts:
        needed["alignment"] = config.alignment.name, config.alignment.cls.requires
    if training:
        needed["fit"] = config.fit.name, config.fit.cls.needs(config.fit.config)
    if "reconstructor" in config.parts:
        needed["reconstructor"] = config.reconstructor.name, config.reconstructor.cls.needs(config.reconstructor.config)
    if "guidance" in config.parts:
        needed["guidance"] = config.guidance.name, config.guidance.cls.requires
    if "refiner" in config.parts:
        needed["refiner"] = config.refiner.name, config.refiner.cls.requires
    for slot, choice in config.conditioners.items():
        of_losses = choice.cls.loss_needs(choice.config) if training else frozenset[str]()
        needed[path_of_slot(config, slot)] = choice.name, choice.cls.needs(choice.config) | of_losses
    return needed
