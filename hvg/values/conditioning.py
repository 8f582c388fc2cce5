"""Named ports: what conditioners fill, and what a backbone accepts, or the prediction."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import torch
from torch import Tensor

from hvg.values.tensors import combine, concatenate, map_tensors, tensors_of


@dataclass(frozen=True, kw_only=True)
class Conditioning:
    """Inputs for the backbone's ports, from one conditioner or all of them merged. An empty port stays empty.

    The axes V and t of a port may be 1: what it holds is then the same for every view, or frame.

    residuals[site]: (B, V, t, C, h, w), added to the backbone's features at a named site.
    tokens: (B, V, t, L, D), appended to the cross-attention context. L is the conditioner's choice, the same in every batch.
    text: (B, V, t, L, D), tokens of a caption, for the attention that a backbone has for text; where it has one for everything,
    ``context`` is what that one sees.
    channels: (B, V, t, K, h, w), concatenated to the noisy latents.
    embedding: (B, V, t, E), added to the noise-level embedding.
    memory[site]: (B, V, t, M, D), extra keys and values for spatial self-attention at a site.
    base: (B, V, t, C, h, w), clean latents that the prediction starts from: the network predicts what has to be added to them.
    losses: named auxiliary losses (B,), added to the loss.
    """

    residuals: Mapping[str, Tensor] = field(default_factory=dict)
    tokens: Tensor | None = None
    text: Tensor | None = None
    channels: Tensor | None = None
    embedding: Tensor | None = None
    memory: Mapping[str, Tensor] = field(default_factory=dict)
    base: Tensor | None = None
    losses: Mapping[str, Tensor] = field(default_factory=dict)

    def map(self, function: Callable[[Tensor], Tensor]) -> "Conditioning":
        """Applies ``function`` to every port's tensor (auxiliary losses are left out)."""
        return map_tensors(self, function, leave=("losses",))

    def expand(self, views: int, frames: int) -> "Conditioning":
        """The ports with all their views and latent frames; nothing is copied."""
        return self.map(lambda x: x.expand(-1, views, frames, *x.shape[3:]))

    def nbytes(self) -> int:
        """Bytes that the ports hold."""
        return sum(x.untyped_storage().nbytes() for x in tensors_of(replace(self, losses={})))

    def where(self, keep: Tensor, other: "Conditioning") -> "Conditioning":
        """This conditioning where ``keep``, (B,) or (B, V), is true, ``other`` elsewhere; both fill the same ports."""

        def choose(ports: list[Tensor]) -> Tensor:
            if ports[1] is None:
                raise ValueError("the conditioning that stands in has to fill the same ports")
            return torch.where(keep.view(*keep.shape, *[1] * (ports[0].ndim - keep.ndim)), *ports)

        return combine([self, other], choose, leave=("losses",))

    def strengthened(self, strength: float, other: "Conditioning") -> "Conditioning":
        """``strength`` times as far from ``other``, which fills the same ports: at 0 that one, at 1 this one, bit for bit."""
        if strength in (0, 1):
            return self if strength else replace(other, losses=self.losses)
        return combine([self, other], lambda ports: ports[1] + strength * (ports[0] - ports[1]), leave=("losses",))

    @property
    def context(self) -> Tensor | None:
        """Tokens and text (B, V, t, L, D), one after the other; None where there are neither."""
        return _join(self.tokens, self.text, -2)

    @staticmethod
    def merge(parts: "Iterable[Conditioning]") -> "Conditioning":
        """All parts as one: residuals, embeddings and bases add; tokens, text, channels and memory concatenate, in order."""

        def add(a: Tensor | None, b: Tensor | None) -> Tensor | None:
            return b if a is None else a if b is None else a + b

        total = Conditioning()
        for part in parts:
            total = Conditioning(
                residuals=_merge_sites(total.residuals, part.residuals, add),
                tokens=_join(total.tokens, part.tokens, -2),
                text=_join(total.text, part.text, -2),
                channels=_join(total.channels, part.channels, 3),
                embedding=add(total.embedding, part.embedding),
                memory=_merge_sites(total.memory, part.memory, lambda a, b: _join(a, b, -2)),
                base=add(total.base, part.base),
                losses={**total.losses, **part.losses},
            )
        return total

    @staticmethod
    def stack(parts: "Sequence[Conditioning]") -> "Conditioning":
        """Conditionings of equal shapes, one after the other along B."""
        return parts[0] if len(parts) == 1 else concatenate([replace(part, losses={}) for part in parts])


def _join(a: Tensor | None, b: Tensor | None, dim: int) -> Tensor | None:
    """Two ports (B, V, t, ...) concatenated, of which either may be empty, and V or t 1."""
    if a is None or b is None:
        return b if a is None else a
    views, frames = (max(a.shape[axis], b.shape[axis]) for axis in (1, 2))
    return torch.cat([x.expand(-1, views, frames, *x.shape[3:]) for x in (a, b)], dim=dim)


def _merge_sites(a: Mapping[str, Tensor], b: Mapping[str, Tensor], combine: Callable) -> dict[str, Tensor]:
    return {site: combine(a.get(site), b.get(site)) for site in [*a, *(s for s in b if s not in a)]}


class LatentShape(NamedTuple):
    """What a codec makes of pictures, known before any weight exists.

    channels: of the latents. stride: pixels per latent cell, along each side. temporal_stride: frames of the video per latent
    frame after the first, which stands for the first frame alone (``hvg.values.latent_time``).
    """

    channels: int
    stride: int
    temporal_stride: int = 1


@dataclass(frozen=True)
class Site:
    """A named place in a backbone: its channel width and its stride relative to the latents.

    early: whether it lies in the network's first half, where pictures are read: in a UNet on the way down or in the middle.
    """

    channels: int
    stride: int
    early: bool = True


@dataclass(frozen=True, kw_only=True)
class Ports:
    """Ports of a backbone, known before any weight exists.

    latent_channels: channels of the latents it denoises. latent_stride: pixels per latent cell (spatial). temporal_stride:
    frames per latent frame, as of ``LatentShape``.
    residuals: sites of the residual port, in the network's order. memory: sites of the memory port. beside: further ones of a
    network whose tokens have places, for whole pictures that lie beside that of the frame which sees them; a picture of zeros is
    not seen. token_width, text_width, embedding_width: 0 where the backbone has no such port. channels: whether more channels
    may be concatenated to the noisy latents.
    """

    latent_channels: int
    latent_stride: int
    temporal_stride: int = 1
    residuals: Mapping[str, Site] = field(default_factory=dict)
    memory: Mapping[str, Site] = field(default_factory=dict)
    beside: Mapping[str, Site] = field(default_factory=dict)
    token_width: int = 0
    text_width: int = 0
    embedding_width: int = 0
    channels: bool = False

    @property
    def all_memory(self) -> Mapping[str, Site]:
        """Every site of the memory port."""
        return {**self.memory, **self.beside}


@dataclass(frozen=True, kw_only=True)
class ConditioningSpec:
    """Ports that a conditioner fills and how widely, known before any weight exists.

    residuals, memory: site -> channels. tokens, text: width D, 0 for none. channels: K added to the noisy latents.
    embedding: width E, 0 for none. base: channels of the latents, 0 for none.
    """

    residuals: Mapping[str, int] = field(default_factory=dict)
    memory: Mapping[str, int] = field(default_factory=dict)
    tokens: int = 0
    text: int = 0
    channels: int = 0
    embedding: int = 0
    base: int = 0
