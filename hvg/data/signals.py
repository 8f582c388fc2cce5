"""Control maps of clips: by which key they go, and drawing those that a batch does not carry."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

import torch

from hvg.core.digests import settings_digest
from hvg.core.eight_bit import signal_as_stored
from hvg.core.names import check_clip_names
from hvg.core.sources import source_digest
from hvg.parts.model import Conditioner
from hvg.parts.scene import Dataset as ClipDataset
from hvg.values.clip import ClipBatch


def signal_key(conditioner: Conditioner, name: str) -> str:
    """Name under which a conditioner's map is stored; it changes with every setting of the map, not of the encoder.

    And with the code that draws it, so that a map of other code is drawn anew.
    """
    settings = conditioner.config.model_dump(mode="json", exclude=set(conditioner.encoder_settings))
    return f"{name}-{settings_digest([settings, source_digest(type(conditioner).__module__)], 6)}"


def with_signals(clip: ClipBatch, conditioners: Mapping[str, Conditioner]) -> ClipBatch:
    """The clip with every conditioner's map, keyed by ``signal_key``; maps are rounded to what a file holds of them.

    ``conditioners``: signal key -> conditioner. Maps that the clip already carries are kept.
    """
    signals = dict(clip.signals)
    for key, conditioner in conditioners.items():
        if key not in signals:
            with torch.no_grad():
                signal = conditioner.signal(clip)
            if signal is not None:
                signals[key] = signal_as_stored(signal, conditioner.signal_storage(conditioner.config))
    return replace(clip, signals={key: signals[key] for key in conditioners if key in signals})


def drawn_ahead(conditioners: Mapping[str, Conditioner]) -> dict[str, Conditioner]:
    """Conditioners whose maps do not depend on the views and frames drawn together, so that clips may carry them."""
    return {key: part for key, part in conditioners.items() if part.per_picture(part.config)}


def needs_mesh(conditioners: Iterable[Conditioner]) -> bool:
    """Whether clips keep their mesh once the maps that can be drawn ahead are there."""
    return any(part.mesh_in_step(part.config) for part in conditioners)


def load_with_signals(
    clips: ClipDataset, index: int, conditioners: Mapping[str, Conditioner], mesh: bool = False
) -> ClipBatch:
    """Clip ``index`` with every control map that can be drawn ahead; with its mesh where ``mesh`` asks for it."""
    clip = clips.load(index)
    check_clip_names(clip.clip_id)
    clip = with_signals(clip, drawn_ahead(conditioners))
    return clip if mesh else without_mesh(clip)


def without_mesh(clip: ClipBatch) -> ClipBatch:
    """The clip without body vertices and faces, which few need once the signals are rendered (``needs_mesh``)."""
    body = clip.body and replace(clip.body, vertices=None, faces=None)
    reference = clip.reference
    if reference is not None and reference.body is not None:
        reference = replace(reference, body=replace(reference.body, vertices=None, faces=None))
    return replace(clip, body=body, reference=reference)
