"""Checks of what every control map promises."""

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from hvg.core.eight_bit import signal_as_stored
from hvg.parts.context import Context
from hvg.parts.control_map import map_problem
from hvg.parts.model import Conditioner
from hvg.testing.building import build, require
from hvg.testing.scene import tiny_batch
from hvg.values.clip import ClipBatch
from hvg.values.tensors import change

# A map may be drawn by sums in another order where it is drawn with other pictures; on an outline that decides.
_ROUNDING, _OUTLINE = 1e-3, 1e-3


def check_signal(cls: type[Conditioner], config: Any, context: Context) -> None:
    """Runs the checks of a control map below, where the part draws one. Raises: AssertionError, which promise is broken."""
    if not cls.has_signal():
        return
    for views, frames in ((1, 1), (3, 4)):
        check_signal_form(cls, config, context, tiny_batch(2, views, frames))
    check_signal_of_parts(cls, config, context, tiny_batch(2, 3, 4))


def check_signal_form(cls: type[Conditioner], config: Any, context: Context, batch: ClipBatch) -> None:
    """The map is (B, V, T, K, H, W) with the K that ``signal_channels`` says, in [-1, 1] or, where floats are kept, finite."""
    part = build(cls, config, context)
    signal = _drawn(part, batch)
    require(not signal.requires_grad, "the control map carries a gradient")
    require(bool(signal.isfinite().all()), "the control map is not finite everywhere")
    if cls.signal_storage(config) == "uint8":
        largest = float(signal.abs().max())
        require(largest <= 1 + 1e-5, f"the control map leaves [-1, 1]: up to {largest}; 8 bits cannot keep it")
    kept = signal_as_stored(signal, cls.signal_storage(config))
    require(bool(kept.isfinite().all()), f"the control map does not fit into {cls.signal_storage(config)}")


def check_signal_of_parts(cls: type[Conditioner], config: Any, context: Context, batch: ClipBatch) -> None:
    """Selecting views and frames, then drawing, gives what drawing, then selecting gives; colours of frames change nothing, nor
    do the photo's, but in a map that shows them (``photo_colours``).

    Of a part whose ``per_picture`` says that this does not hold, it is not asked.
    """
    if not cls.per_picture(config):
        return
    part = build(cls, config, context)
    whole, (_, views, frames) = _drawn(part, batch), batch.grid
    for chosen, span in (([views - 1], [frames - 1]), (list(range(1, views)), list(range(1, frames)))):
        selected = batch.select(chosen, span)
        expected = whole[:, chosen][:, :, span]
        # With a window's memory of the first view, and without one as in a training step.
        for drawn in (_drawn(part, selected), _drawn(part, replace(selected, origin=None))):
            require(
                _alike(drawn, expected),
                "the control map depends on which views and frames it is drawn with; let `per_picture` say False",
            )
    photo = batch.reference
    if cls.photo_colours(config) is None:
        photo = photo and change(photo, ("frames",), torch.neg)
    recoloured = replace(change(batch, ("frames",), torch.neg), reference=photo)
    require(
        _alike(_drawn(part, recoloured), whole),
        "the control map depends on the colours of frames or photo, which data.recolour changes; let `per_picture` say False",
    )


def _drawn(part: Conditioner, batch: ClipBatch) -> Tensor:
    with torch.no_grad():
        signal: Any = part.signal(batch)
    problem = map_problem(part, signal, batch)
    require(problem is None, f"{problem}")
    return signal


def _alike(a: Tensor, b: Tensor) -> bool:
    different = (a - b).abs() > _ROUNDING
    return a.shape == b.shape and float(different.float().mean()) <= _OUTLINE
