"""Estimates of the clean latents of windows of one request, with their conditioning and guidance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from hvg.core.on_device import upload
from hvg.model.known_latents import KNOWN, hide_known, known_cells
from hvg.model.sampling import guided_estimate
from hvg.model.slots import condition_slots, droppable, strengthen, tell
from hvg.parts.plan import Level, needed_branches
from hvg.parts.refiner import Refiner
from hvg.values.clip import ClipBatch
from hvg.values.conditioning import Conditioning
from hvg.values.grid import ViewGrid, Window
from hvg.values.latent_time import grouped_frames
from hvg.values.moved import move_cameras

if TYPE_CHECKING:
    from hvg.model.system import HumanVideoSystem

_NOTHING = frozenset[str]()


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
        refiner: Refiner | None = None,
    ) -> None:
        """batch: not aligned yet; ``offsets`` say how. cells: (h, w) of the whole picture's latents. strengths: slot -> how
        strongly it is heard, where that is not as its settings say. refiner: what has a say in how windows are denoised.
        """
        self.system, self.batch, self.cells = system, batch, cells
        self._estimate = system.denoise if refiner is None else refiner.around(system.denoise, system.attended)
        self.offsets, self.reference_offsets = offsets, reference_offsets
        self.frame_index, self.grid = system.places(replace(batch, cameras=move_cameras(batch.cameras, offsets)))
        self._branches = system.guidance.branches([*droppable(system.conditioners)])
        known = {slot: part.config.strength for slot, part in system.conditioners.items()}
        self._strengths = {slot: strength for slot, strength in {**known, **strengths}.items() if strength != 1}
        self._given = known_cells(batch, system.temporal_stride)
        self._room = system.kept_conditioning * 2**30
        self._per_clip: dict[int, dict[str, Conditioning]] = {}
        self._windows: dict[tuple, dict[frozenset[str], Conditioning]] = {}

    def __call__(self, x: Tensor, sigma: Level, windows: Sequence[Window], scales: Tensor) -> Tensor:
        shrink = self.cells[0] // x.shape[-2]
        clips = len(x) // len(windows)
        # Of a window's clips the same cells are clean.
        clean = (sigma[::clips] == 0)[..., 0, 0, 0].cpu() if isinstance(sigma, Tensor) else [None] * len(windows)
        given = [self._condition(window, shrink, cells) for window, cells in zip(windows, clean, strict=True)]
        index = self.frame_index
        if index is not None:
            index = torch.cat([index[:, list(w.frames)] for w in windows])
        grid = ViewGrid.stack([self.grid.select(w.views, w.frames) for w in windows])
        level = torch.as_tensor(sigma, dtype=x.dtype, device=x.device).expand(*x.shape[:3], 1, 1, 1)

        def estimate(left_out: frozenset[str]) -> Tensor:
            conditioning = Conditioning.stack([told[left_out] for told in given])
            seen = x
            if KNOWN in left_out and isinstance(sigma, Tensor):
                seen = hide_known(x, level, x.new_zeros(len(x), dtype=torch.bool), self.system.blank(x))
            return self._estimate(seen, level, conditioning, index, grid)

        needed = needed_branches(self._branches, scales)
        return guided_estimate(estimate(_NOTHING), ((estimate(self._branches[n]), scales[n]) for n in needed))

    def _condition(self, window: Window, shrink: int, clean: Tensor | None) -> dict[frozenset[str], Conditioning]:
        """Slots that are left out -> the window's conditioning, for none and for every branch of the guidance.

        clean: (v, t) bool, the cells that are known by now; None: none is.
        """
        key = (window.views, window.frames, shrink, None if clean is None else (*clean.flatten().tolist(),))
        if key in self._windows:
            return self._windows[key]
        part = self._aligned(window.views, window.frames, shrink)
        part, system = replace(part, known=self._known(clean, part)), self.system
        asked = {**self._per_clip.get(shrink, {}), **self._looked_at(window, part)}
        given = condition_slots(system.conditioners, system.signal_keys, part, asked)
        self._per_clip[shrink] = {slot: given[slot] for slot, known in system.conditioners.items() if known.per_clip}
        given = tell(system.conditioners, strengthen(system.conditioners, given, self._strengths), part)
        null = {slot: system.conditioners[slot].null(given[slot]) for slot in _NOTHING.union(*self._branches)}
        found = {
            left_out: Conditioning.merge({**given, **{slot: null[slot] for slot in left_out}}.values())
            for left_out in {_NOTHING, *self._branches}
        }
        size = sum(conditioning.nbytes() for conditioning in found.values())
        if size <= self._room:
            self._room -= size
            self._windows[key] = found
        return found

    def _looked_at(self, window: Window, part: ClipBatch) -> dict[str, Conditioning]:
        """Ports of the slots that look at pictures: at those that are given, since what is finished by now has none."""
        looking = {slot: each for slot, each in self.system.conditioners.items() if "frames" in each.needs(each.config)}
        given = None if self._given is None else self._given[list(window.views)][:, list(window.frames)]
        return condition_slots(looking, self.system.signal_keys, replace(part, known=self._known(given, part)))

    def _known(self, cells: Tensor | None, part: ClipBatch) -> Tensor | None:
        """Cells (v, t) of a window for all frames of each, (B, v, s t)."""
        if cells is None:
            return None
        cells = upload(cells.repeat_interleave(self.system.temporal_stride, dim=1), part.cameras.intrinsics.device)
        return cells.expand(len(part.clip_id), -1, -1)

    def _aligned(self, views: Sequence[int], latents: Sequence[int], shrink: int) -> ClipBatch:
        """The frames that latent frames stand for, s of each, aligned and with their maps, of which each is drawn once."""
        chosen = grouped_frames(latents, self.batch.grid[2], self.system.temporal_stride)
        frames = [*dict.fromkeys(chosen)]
        offsets = None if self.offsets is None else self.offsets[:, list(views)][:, :, frames]
        part = self.batch.select(views, frames)
        if self.system.first_view == "window":
            part = replace(part, origin=None)
        part = self.system.signals.shrunk(self.system.prepared(part, offsets, self.reference_offsets), shrink)
        return part if frames == chosen else part.select(frames=list(map(frames.index, chosen)))
