"""Estimates of the clean latents of windows of one request, with their conditioning and guidance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from hvg.model.sampling import classifier_free_guidance
from hvg.model.slots import condition_slots, droppable, strengthen, tell
from hvg.values.clip import ClipBatch
from hvg.values.conditioning import Conditioning
from hvg.values.grid import ViewGrid, Window
from hvg.values.moved import move_cameras

if TYPE_CHECKING:
    from hvg.model.system import HumanVideoSystem


class WindowDenoiser:
    """x0 of windows of one request: draws their conditioning once where it fits, anew at every step where it does not."""

    def __init__(
        self,
        system: HumanVideoSystem,
        batch: ClipBatch,
        offsets: Tensor | None,
        reference_offsets: Tensor | None,
        cells: tuple[int, int],
        strengths: Mapping[str, float],
    ) -> None:
        """batch: not aligned yet; ``offsets`` say how. cells: (h, w) of the whole picture's latents. strengths: slot -> how
        strongly it is heard, where that is not as its settings say.
        """
        self.system, self.batch, self.cells = system, batch, cells
        self.offsets, self.reference_offsets = offsets, reference_offsets
        whole = batch.view_grid()
        self.grid = replace(whole, cameras=move_cameras(whole.cameras, offsets))
        self._dropped = droppable(system.conditioners)
        known = {slot: part.config.strength for slot, part in system.conditioners.items()}
        self._strengths = {slot: strength for slot, strength in {**known, **strengths}.items() if strength != 1}
        self._room = system.kept_conditioning * 2**30
        self._per_clip: dict[int, dict[str, Conditioning]] = {}
        self._windows: dict[tuple, tuple[Conditioning, Conditioning | None]] = {}

    def __call__(self, x: Tensor, sigma: float, windows: Sequence[Window], scale: Tensor) -> Tensor:
        shrink = self.cells[0] // x.shape[-2]
        conditional, unconditional = zip(*(self._condition(window, shrink) for window in windows), strict=True)
        index = self.batch.frame_index
        if index is not None:
            index = torch.cat([index[:, list(w.frames)] for w in windows])
        grid = ViewGrid.stack([self.grid.select(w.views, w.frames) for w in windows])
        level = torch.as_tensor(sigma, dtype=x.dtype, device=x.device).expand(*x.shape[:3], 1, 1, 1)
        estimate = self.system.denoise(x, level, Conditioning.stack(conditional), index, grid)
        if not self._dropped or bool((scale == 1).all()):
            return estimate
        nothing = self.system.denoise(x, level, Conditioning.stack(unconditional), index, grid)
        return classifier_free_guidance(estimate, nothing, scale)

    def _condition(self, window: Window, shrink: int) -> tuple[Conditioning, Conditioning | None]:
        """The window's conditioning, and what stands in for it where guidance asks."""
        key = (window.views, window.frames, shrink)
        if key in self._windows:
            return self._windows[key]
        part = self._aligned(window.views, window.frames, shrink)
        system = self.system
        given = condition_slots(system.conditioners, system.signal_keys, part, self._per_clip.get(shrink))
        self._per_clip[shrink] = {slot: given[slot] for slot, known in system.conditioners.items() if known.per_clip}
        given = tell(system.conditioners, strengthen(system.conditioners, given, self._strengths), part)
        merged, unconditional = Conditioning.merge(given.values()), None
        if self._dropped:
            nothing = {slot: conditioner.null(given[slot]) for slot, conditioner in self._dropped.items()}
            unconditional = Conditioning.merge((given | nothing).values())
        size = sum(c.nbytes() for c in (merged, unconditional) if c is not None)
        if size <= self._room:
            self._room -= size
            self._windows[key] = merged, unconditional
        return merged, unconditional

    def _aligned(self, views: Sequence[int], frames: Sequence[int], shrink: int) -> ClipBatch:
        offsets = None if self.offsets is None else self.offsets[:, list(views)][:, :, list(frames)]
        part = self.batch.select(views, frames)
        if self.system.first_view == "window":
            part = replace(part, origin=None)
        return self.system.signals.shrunk(self.system.prepared(part, offsets, self.reference_offsets), shrink)
