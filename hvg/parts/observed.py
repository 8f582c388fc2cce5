"""Clips of a dataset with bodies as a fit observes them."""

from collections.abc import Sequence
from dataclasses import replace

import torch

from hvg.parts.scene import Choose, ClipsOf, Dataset, Fit
from hvg.values.clip import ClipBatch
from hvg.values.packed import PICTURES, unpacked


class ObservedClips(ClipsOf):
    """The same clips, each with the body that the fit makes of its true one."""

    def __init__(self, source: Dataset, fit: Fit) -> None:
        super().__init__(source)
        self._fit = fit

    def load(self, index: int) -> ClipBatch:
        return self._fit.observe(self._source.load(index))

    def load_part(self, index: int, choose: Choose, signals: frozenset[str]) -> ClipBatch | None:
        chosen = range(0)

        def remember(views: int, frames: int) -> tuple[Sequence[int], range]:
            nonlocal chosen
            cells = choose(views, frames)
            chosen = cells[1]
            return cells

        part = self._source.load_part(index, remember, signals)
        if part is None:
            return None
        if self._fit.needs(self._fit.config) & PICTURES:
            part = unpacked(part)
        if part.frame_index is None:
            # Errors go by the place of a frame in the whole clip.
            seen = self._fit.observe(replace(part, frame_index=torch.tensor([*chosen])[None]))
            return replace(seen, frame_index=None)
        return self._fit.observe(part)
