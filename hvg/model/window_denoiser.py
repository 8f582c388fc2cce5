"""Estimates of the clean latents of windows of one request, with their conditioning and guidance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from hvg.model.deep_steps import DeepSteps
from hvg.model.known_latents import KNOWN, hide_known
from hvg.model.sampling import guided_estimate
from hvg.model.slots import droppable
from hvg.model.told_windows import Given, ToldWindows
from hvg.parts.plan import Level, needed_branches
from hvg.parts.refiner import Refiner
from hvg.values.clip import ClipBatch
from hvg.values.conditioning import Conditioning
from hvg.values.grid import ViewGrid, Window
from hvg.values.moved import move_cameras

if TYPE_CHECKING:
    from hvg.model.system import HumanVideoSystem

_NOTHING = frozenset[str]()


class WindowDenoiser:
    """x0 of windows of one request.

    What slots tell of them is asked once where it stays the same (``ToldWindows``), and what the deep half of the network makes
    of them is made at some steps (``DeepSteps``).
    """

    def __init__(
        self,
        system: HumanVideoSystem,
        batch: ClipBatch,
        offsets: tuple[Tensor | None, Tensor | None],
        cells: tuple[int, int],
        frames: Mapping[int, Sequence[int]],
        strengths: Mapping[str, float],
        refiner: Refiner | None = None,
    ) -> None:
        """batch: not aligned yet; ``offsets``, of pictures and photos, say how. cells: (h, w) of the whole picture's latents.
        frames: shrink -> the latent frames that are denoised at that size. strengths: slot -> how strongly it is heard, where
        that is not as its settings say. refiner: what has a say in how windows are denoised.
        """
        self.system, self.batch, self.cells, self.frames = system, batch, cells, frames
        self.offsets, self.refiner = offsets, refiner
        self.frame_index, self.grid = system.places(replace(batch, cameras=move_cameras(batch.cameras, offsets[0])))
        self.deep = DeepSteps(system.reuse, system.kept_features)
        self._branches = system.guidance.branches([*droppable(system.conditioners)])
        known = {slot: part.config.strength for slot, part in system.conditioners.items()}
        self._strengths = {slot: strength for slot, strength in {**known, **strengths}.items() if strength != 1}
        self._who = {slot: part.told(batch) for slot, part in system.conditioners.items()}
        self._told: ToldWindows | None = None

    def __call__(self, x: Tensor, sigma: Level, windows: Sequence[Window], scales: Tensor) -> Tensor:
        shrink = self.cells[0] // x.shape[-2]
        clips = len(x) // len(windows)
        # Of a window's clips the same cells are clean.
        clean = (sigma[::clips] == 0)[..., 0, 0, 0].cpu() if isinstance(sigma, Tensor) else [None] * len(windows)
        given = [self.given(window, shrink, cells) for window, cells in zip(windows, clean, strict=True)]
        index = self.frame_index
        if index is not None:
            index = torch.cat([index[:, list(w.frames)] for w in windows])
        grid = ViewGrid.stack([self.grid.select(w.views, w.frames) for w in windows])
        level = torch.as_tensor(sigma, dtype=x.dtype, device=x.device).expand(*x.shape[:3], 1, 1, 1)
        places = (*((w.views, w.frames) for w in windows), shrink)

        def estimate(left_out: frozenset[str]) -> Tensor:
            conditioning = Conditioning.stack(
                [self.conditioning(told, w, left_out) for told, w in zip(given, windows, strict=True)]
            )
            seen = x
            if KNOWN in left_out and isinstance(sigma, Tensor):
                seen = hide_known(x, level, x.new_zeros(len(x), dtype=torch.bool), self.system.blank(x))
            return self._estimate((places, left_out), seen, level, conditioning, index, grid)

        needed = needed_branches(self._branches, scales)
        return guided_estimate(estimate(_NOTHING), ((estimate(self._branches[n]), scales[n]) for n in needed))

    def given(self, window: Window, shrink: int, clean: Tensor | None) -> dict[str, Given]:
        """Slot -> what it gives for a window. clean: (v, t) bool, the cells that are known by now; None: none is."""
        if self._told is None or self._told.shrink != shrink:
            self._told = ToldWindows(self.system, self.batch, self.offsets, shrink, self.frames[shrink])
        return self._told.of(window, clean)

    def conditioning(self, given: Mapping[str, Given], window: Window, left_out: frozenset[str]) -> Conditioning:
        """What the network hears of a window of which this is given, and of some slots what stands in for them."""
        return Conditioning.merge(
            each.null if slot in left_out else self._heard(slot, each, window) for slot, each in given.items()
        )

    def _heard(self, slot: str, given: Given, window: Window) -> Conditioning:
        """As strongly as it is to be heard, by the views that are told."""
        ports, who = given.ports, self._who[slot]
        if slot in self._strengths:
            ports = ports.strengthened(self._strengths[slot], given.null)
        return ports if who is None else ports.where(who[:, list(window.views)], given.null)

    def _estimate(
        self,
        asked: tuple,
        x: Tensor,
        level: Tensor,
        conditioning: Conditioning,
        index: Tensor | None,
        grid: ViewGrid,
    ) -> Tensor:
        """The network's estimate; ``asked`` tells it from what else is asked at a step."""
        system = self.system
        with self.deep.of(asked) as features:

            def denoise(
                noisy: Tensor, sigma: Tensor, told: Conditioning, frames: Tensor | None, views: ViewGrid
            ) -> Tensor:
                return system.denoise(noisy, sigma, told, frames, views, features)

            whole = denoise if self.refiner is None else self.refiner.around(denoise, system.attended)
            return whole(x, level, conditioning, index, grid)
