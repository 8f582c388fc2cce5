"""The ports that all slots of a system fill: in training, in sampling, and where a step is only counted."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from hvg.core.on_device import upload
from hvg.core.random_keys import generator
from hvg.parts.model import Conditioner
from hvg.values.clip import ClipBatch
from hvg.values.conditioning import Conditioning


def condition_slots(
    conditioners: Mapping[str, Conditioner],
    signal_keys: Mapping[str, str],
    batch: ClipBatch,
) -> dict[str, Conditioning]:
    """Each slot's ports for an aligned batch that carries the control maps, in merging order, whoever is told.

    signal_keys: slot -> the key of its map.
    """
    return {slot: part(batch.signals.get(signal_keys[slot]), batch) for slot, part in conditioners.items()}


def tell(
    conditioners: Mapping[str, Conditioner], given: Mapping[str, Conditioning], batch: ClipBatch
) -> dict[str, Conditioning]:
    """Each slot's ports, of ``condition_slots``, for the views that are told (``Conditioner.told``); others get its null."""
    views = {slot: part.told(batch) for slot, part in conditioners.items()}
    return keep(conditioners, given, {slot: told for slot, told in views.items() if told is not None})


def keep(
    conditioners: Mapping[str, Conditioner], given: Mapping[str, Conditioning], kept: Mapping[str, Tensor]
) -> dict[str, Conditioning]:
    """Each slot's ports where ``kept``, slot -> (B,) or (B, V), is true, its null elsewhere; all where a slot is not in it."""
    changed = {slot: given[slot].where(where, conditioners[slot].null(given[slot])) for slot, where in kept.items()}
    return {**given, **changed}


def weigh(
    conditioners: Mapping[str, Conditioner], given: Mapping[str, Conditioning], step: int
) -> dict[str, Conditioning]:
    """Each slot's ports with its own losses times their weight at a training step, called by the slot's name and theirs."""

    def losses(slot: str) -> dict[str, Tensor]:
        weight = conditioners[slot].loss_weight(step)
        return {f"{slot}_{name}": weight * value for name, value in given[slot].losses.items()}

    return {slot: replace(ports, losses=losses(slot)) for slot, ports in given.items()}


def drawn(
    conditioners: Mapping[str, Conditioner], seed: int, indices: Sequence[int], draw: Tensor
) -> dict[str, Tensor]:
    """Slot -> which clips (B) keep its signal, of the slots that are dropped in training.

    indices: places (B) of the clips in the training order. draw: (B) in [0, 1), for the slots that drop together; one that drops
    alone has draws of its own, keyed by (seed, slot, place).
    """

    def own(slot: str) -> Tensor:
        draws = [torch.rand((), generator=generator(seed, "dropout", slot, index)) for index in indices]
        return upload(torch.stack(draws), draw.device)

    parts = droppable(conditioners)
    draws = {slot: own(slot) if part.config.drops == "alone" else draw for slot, part in parts.items()}
    return {slot: draws[slot] >= part.config.dropout for slot, part in parts.items()}


def droppable(conditioners: Mapping[str, Conditioner]) -> dict[str, Conditioner]:
    """Slot -> conditioner, for those that some clips train without and that guidance leaves out."""
    return {slot: part for slot, part in conditioners.items() if part.config.dropout > 0}
