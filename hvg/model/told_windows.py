"""What the slots of a request tell the network of its windows, each asked once a clip, once a cell, or for every window.

What is told of a cell is encoded once, whichever windows hold it, and each window takes its own cells. As much of it as
``evaluation.kept_conditioning`` holds stays from step to step, on the device that it was made on, moments of the video from the
first on; beyond, a window's cells are encoded anew for it. What is told of windows gets the room that is left.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from itertools import groupby
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from hvg.core.on_device import upload
from hvg.data.signals import Signals
from hvg.model.known_latents import known_cells
from hvg.model.slots import condition_slots
from hvg.parts.model import Conditioner, OncePer
from hvg.values.clip import ClipBatch
from hvg.values.conditioning import Conditioning
from hvg.values.grid import Window, as_slice
from hvg.values.latent_time import grouped_frames
from hvg.values.tensors import combine, tensors_of

if TYPE_CHECKING:
    from hvg.model.system import HumanVideoSystem

# Pictures whose maps are drawn and encoded together, at most, but for one moment of all views.
TOGETHER = 64


class Given:
    """The ports that a slot gives, and what stands in for them, made when it is asked for."""

    def __init__(self, part: Conditioner, ports: Conditioning) -> None:
        self.part, self.ports = part, ports

    @cached_property
    def null(self) -> Conditioning:
        return self.part.null(self.ports)

    def nbytes(self) -> int:
        """Bytes that the ports hold, and what stands in for them."""
        return 2 * self.ports.nbytes()


class ToldWindows:
    """The slots' ports of windows of one request, whose pictures' sides are divided by ``shrink``."""

    def __init__(
        self,
        system: HumanVideoSystem,
        batch: ClipBatch,
        offsets: tuple[Tensor | None, Tensor | None],
        shrink: int,
        frames: Sequence[int],
    ) -> None:
        """batch: not aligned yet; ``offsets``, of pictures and of photos, say how. frames: the latent frames that windows of this
        size are of, increasing.
        """
        self.system, self.batch, self.shrink = system, batch, shrink
        self.offsets, self.reference_offsets = offsets
        slots = system.conditioners.items()
        self._once = {slot: part.once_per(part.config, system.first_view) for slot, part in slots}
        self._given_cells = known_cells(batch, system.temporal_stride)
        self._room = int(system.kept_conditioning * 2**30)
        self._place = {frame: place for place, frame in enumerate(frames)}
        clips, views, _ = batch.grid
        self._block = max(1, TOGETHER // (clips * views))
        self._blocks: dict[int, dict[str, Conditioning]] = {}
        self._of_windows: dict[tuple, dict[str, Given]] = {}

    def of(self, window: Window, clean: Tensor | None) -> dict[str, Given]:
        """Slot -> what it gives for a window, in merging order. clean: (v, t) bool, the cells known by now; None: none is."""
        cells = {slot: Given(self.system.conditioners[slot], ports) for slot, ports in self._cells(window).items()}
        given = {**self._clip, **cells, **self._window(window, clean)}
        return {slot: given[slot] for slot in self.system.conditioners}

    def _slots(self, once: OncePer) -> dict[str, Conditioner]:
        return {slot: part for slot, part in self.system.conditioners.items() if self._once[slot] == once}

    @cached_property
    def _clip(self) -> dict[str, Given]:
        """Of the slots that give the same for the whole clip."""
        slots = self._slots("clip")
        return self._asked(slots, self._aligned((0,), (next(iter(self._place)),), slots)) if slots else {}

    # --- cells ----------------------------------------------------------------------------------------------------

    def _cells(self, window: Window) -> dict[str, Conditioning]:
        """Of the slots that give the same for a cell in every window."""
        if "cell" not in self._once.values():
            return {}
        parts = list[dict[str, Conditioning]]()
        for block, group in groupby(window.frames, key=self._block_of):
            frames = [*group]
            if block is None:
                views, inside, encoded = range(len(window.views)), frames, self._encoded(window.views, frames)
            else:
                views, inside, encoded = window.views, self._frames_of(block), self._of_block(block)
            places = [inside.index(frame) for frame in frames]
            parts.append({slot: _chosen(x, views, places, len(inside)) for slot, x in encoded.items()})
        return {slot: _behind([part[slot] for part in parts]) for slot in parts[0]}

    def _of_block(self, block: int) -> dict[str, Conditioning]:
        if block not in self._blocks:
            self._blocks[block] = self._encoded(range(self.batch.grid[1]), self._frames_of(block))
        return self._blocks[block]

    def _block_of(self, frame: int) -> int | None:
        """Number of the block that holds a frame; None where it is not kept."""
        block = self._place[frame] // self._block
        return block if block < self._num_kept else None

    def _frames_of(self, block: int) -> list[int]:
        return [*self._place][block * self._block : (block + 1) * self._block]

    @cached_property
    def _num_kept(self) -> int:
        """Blocks that the room holds. By the first one's size, so that it goes neither by windows nor by who shares them."""
        if not self._room:
            return 0
        size = sum(x.nbytes for ports in self._of_block(0).values() for x in tensors_of(ports))
        count = min(self._room // max(size, 1), -(-len(self._place) // self._block))
        self._room -= count * size
        self._blocks = self._blocks if count else {}
        return count

    def _encoded(self, views: Sequence[int], frames: Sequence[int]) -> dict[str, Conditioning]:
        slots = self._slots("cell")
        given = self._asked(slots, self._aligned(views, frames, slots))
        return {slot: replace(each.ports, losses={}) for slot, each in given.items()}

    # --- windows --------------------------------------------------------------------------------------------------

    def _window(self, window: Window, clean: Tensor | None) -> dict[str, Given]:
        """Of the slots that go by what is denoised together, or by what of it is known."""
        slots = self._slots("window")
        key = (window.views, window.frames, None if clean is None else (*clean.flatten().tolist(),))
        if not slots or key in self._of_windows:
            return self._of_windows.get(key, {})
        part = self._aligned(window.views, window.frames, slots)
        # Those that look at pictures look at those that are given: what is finished by now has none.
        looking = {slot: each for slot, each in slots.items() if "frames" in each.needs(each.config)}
        others = {slot: each for slot, each in slots.items() if slot not in looking}
        given = None if self._given_cells is None else self._given_cells[list(window.views)][:, list(window.frames)]
        found = {
            **self._asked(looking, replace(part, known=self._known(given, part))),
            **self._asked(others, replace(part, known=self._known(clean, part))),
        }
        size = sum(each.nbytes() for each in found.values())
        if size <= self._room:
            self._room -= size
            self._of_windows[key] = found
        return found

    def _known(self, cells: Tensor | None, part: ClipBatch) -> Tensor | None:
        """Cells (v, t) of a window for all frames of each, (B, v, s t)."""
        if cells is None:
            return None
        cells = upload(cells.repeat_interleave(self.system.temporal_stride, dim=1), part.cameras.intrinsics.device)
        return cells.expand(len(part.clip_id), -1, -1)

    # --- both -----------------------------------------------------------------------------------------------------

    def _asked(self, slots: Mapping[str, Conditioner], part: ClipBatch) -> dict[str, Given]:
        given = condition_slots(slots, self.system.signal_keys, part)
        return {slot: Given(slots[slot], ports) for slot, ports in given.items()}

    def _aligned(self, views: Sequence[int], latents: Sequence[int], slots: Iterable[str]) -> ClipBatch:
        """The frames that latent frames stand for, s of each, aligned and with these slots' maps, of which each is drawn once;
        as if nothing of them were known.
        """
        system = self.system
        chosen = grouped_frames(latents, self.batch.grid[2], system.temporal_stride)
        frames = [*dict.fromkeys(chosen)]
        at = as_slice(views), as_slice(frames)
        offsets = None if self.offsets is None else self.offsets[:, at[0]][:, :, at[1]]
        part = replace(self.batch, known=None).select(*at)
        if system.first_view == "window":
            part = replace(part, origin=None)
        keys = {system.signal_keys[slot] for slot in slots}
        signals = Signals({key: drawn for key, drawn in system.signals.items() if key in keys})
        part = signals.shrunk(system.prepared(part, offsets, self.reference_offsets, signals), self.shrink)
        return part if frames == chosen else part.select(frames=[frames.index(frame) for frame in chosen])


def _chosen(ports: Conditioning, views: Sequence[int], frames: Sequence[int], length: int) -> Conditioning:
    """Ports of some views and frames, of those of ``length`` frames; a V axis of 1 stays."""
    v, t = as_slice(views), as_slice(frames)

    def choose(x: Tensor) -> Tensor:
        x = x.expand(-1, -1, length, *x.shape[3:])
        return (x if x.shape[1] == 1 else x[:, v])[:, :, t]

    return ports.map(choose)


def _behind(parts: Sequence[Conditioning]) -> Conditioning:
    """Ports of frames that follow each other, one after the other."""
    return parts[0] if len(parts) == 1 else combine(parts, lambda x: torch.cat(x, dim=2))
