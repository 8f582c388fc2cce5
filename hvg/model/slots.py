"""The ports that all slots of a system fill: in training, in sampling, and where a step is only counted."""

from collections.abc import Mapping

from hvg.parts.model import Conditioner
from hvg.values.clip import ClipBatch
from hvg.values.conditioning import Conditioning


def condition_slots(
    conditioners: Mapping[str, Conditioner],
    signal_keys: Mapping[str, str],
    batch: ClipBatch,
    known: Mapping[str, Conditioning] | None = None,
) -> dict[str, Conditioning]:
    """Each slot's ports for an aligned batch that carries the control maps, in merging order.

    signal_keys: slot -> the key of its map. known: slot -> ports that are not asked for again.
    """
    known = known or {}
    return {
        slot: known[slot] if slot in known else part(batch.signals.get(signal_keys[slot]), batch)
        for slot, part in conditioners.items()
    }


def droppable(conditioners: Mapping[str, Conditioner]) -> dict[str, Conditioner]:
    """Slot -> conditioner, for those that some clips train without and that guidance leaves out."""
    return {slot: part for slot, part in conditioners.items() if part.config.dropout > 0}
