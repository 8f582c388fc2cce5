"""Interface of reconstructors: from the photo of a person to that person seen by any camera in any pose."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor, nn

from hvg.parts.part import ConfigT, Part
from hvg.values.clip import ClipBatch
from hvg.values.tensors import map_tensors

if TYPE_CHECKING:
    from hvg.parts.context import SceneContext


@dataclass(frozen=True, kw_only=True)
class Seen:
    """A person at pixels of one or more pictures, before nothing.

    colour: (..., 3), sRGB in [-1, 1] times alpha, so that it is 0 where nobody is. alpha: (...) in [0, 1], share of the pixel
    that the person covers. depth: (...) z in camera space of what is seen there, metres, 0 where alpha is 0.
    """

    colour: Tensor
    alpha: Tensor
    depth: Tensor

    def on(self, background: Tensor) -> Tensor:
        """The colours (..., 3) of the person before a background (3) or (..., 3), sRGB in [-1, 1]."""
        return self.colour + (1 - self.alpha[..., None]) * background

    def at(self, pixels: Tensor) -> Seen:
        """Of whole pictures, (B, V, T, H, W), what is seen at pixels (B, N), as of ``Reconstructor.render``."""
        clip = torch.arange(len(pixels), device=pixels.device)[:, None]
        return map_tensors(self, lambda x: x.flatten(1, 4)[clip, pixels])


class Reconstructor(Part[ConfigT], nn.Module):
    """Makes of the photo of a person what that person looks like from any camera in any pose.

    requires: names of the ClipBatch fields that it reads. It sees bodies as signals do (``body``, and the photo's), as a fit
    has them.
    """

    requires: ClassVar[frozenset[str]] = frozenset({"reference", "body", "cameras"})

    def __init__(self, config: ConfigT, context: SceneContext) -> None:
        super().__init__(config, context)

    @classmethod
    def needs(cls, config: ConfigT) -> frozenset[str]:
        """The ClipBatch fields that one with these settings reads: ``requires``, unless they depend on the settings."""
        return cls.requires

    @classmethod
    def learns(cls, config: ConfigT) -> bool:
        """Whether it has weights, and so has to be trained before it is used."""
        return True

    @classmethod
    def content(cls, config: ConfigT) -> str:
        """Text of what its pictures depend on besides settings and weights, such as a digest of files."""
        return ""

    def flops(self, rays: int, photo: tuple[int, int]) -> int | None:
        """FLOPs of a forward pass over one photo (height, width) and so many rays, all of which meet the person, 2 per
        multiply-add; None where nobody says.
        """
        return None

    @abstractmethod
    def render(
        self, batch: ClipBatch, pixels: Tensor | None = None, draws: Sequence[torch.Generator] | None = None
    ) -> Seen:
        """The person of every clip's photo, moved by its ``body``, before its ``cameras``.

        pixels: (B, N) int64, places in the clip's pictures, counted through V, T, H, W in this order; None: all of them.
        Shapes are (B, N), or (B, V, T, H, W) for all. Every picture depends on its own camera and frame alone. draws: one
        generator for each clip, where training takes samples at random places; None: the same places every time.
        """
