"""Random numbers of a fit's errors, each a function of who is fitted and of a frame's place in the whole clip."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from hvg.core.random_keys import numpy_generator


@dataclass(frozen=True, kw_only=True)
class ErrorDraws:
    """The draws of one clip, or of its photos.

    key: says who is fitted. frames: (T,) int64, places in the whole clip, from 0. correlation: after so many frames a noise has
    fallen to 1 / e of what it was, 0: it is new in every frame. steady: share of its variance that is the whole clip's.
    """

    key: tuple[int | str, ...]
    frames: Tensor
    correlation: float
    steady: float

    def generator(self, *what: int | str) -> np.random.Generator:
        return numpy_generator(*self.key, *what)

    def noise(self, what: str, *shape: int) -> Tensor:
        """Normal numbers (T, *shape) float32 of unit variance: a steady part and an autoregressive process of first order,
        which starts as it goes on.
        """
        # The first rows are the same however many follow.
        fresh = self.generator(what).standard_normal((int(self.frames.max()) + 1, *shape))
        kept = math.exp(-1 / self.correlation) if self.correlation else 0.0
        for place in range(1, len(fresh)):
            fresh[place] = kept * fresh[place - 1] + math.sqrt(1 - kept**2) * fresh[place]
        steady = self.generator(what, "steady").standard_normal(shape)
        mixed = math.sqrt(self.steady) * steady + math.sqrt(1 - self.steady) * fresh[self.frames.numpy()]
        return torch.from_numpy(mixed).float()

    def sign(self, what: str) -> float:
        """1 or -1."""
        return float(self.generator(what).choice((-1, 1)))

    def swing(self, what: str, period: float) -> Tensor:
        """A sine (T,) of unit mean square over frames, ``period`` of them long, from anywhere on."""
        turns = self.frames / period + self.generator(what).uniform()
        return math.sqrt(2) * torch.sin(2 * math.pi * turns).float()

    def spans(self, what: str, share: float, length: int) -> Tensor:
        """(T,) bool: spans of ``length`` frames, somewhere in every stretch of ``length / share`` of them."""
        # A share near 0 would be a stretch without end.
        stretch = min(length / share, 1e9)
        places = self.frames.double() + self.generator(what).uniform(0, stretch)
        number = (places / stretch).floor()
        starts = {int(n): self.generator(what, int(n)).uniform(0, stretch - length) for n in number.unique()}
        since = places - number * stretch - torch.tensor([starts[int(n)] for n in number], dtype=torch.double)
        return (since >= 0) & (since < length)
