"""The first blocks of FLUX's transformer on single pictures: as an encoder of photos, and as one of control maps."""

from collections.abc import Mapping, Sequence
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn

from .flux_attention import Places, modulated, picture_attention, picture_ids, single_branches
from .flux_transformer import TEXT_LAYERS
from .still_copies import StillCopy


class _StillDouble(nn.Module):
    """A block of two streams without text, on pictures of one noise level, which is constant and learned from there on.

    modulation: (6, D). The last block of a copy may end at what its attention sees.
    """

    def __init__(self, block: Any, modulation: Tensor, to_the_end: bool) -> None:
        super().__init__()
        self.norm1 = deepcopy(block.norm1.norm)
        self.modulation = nn.Parameter(modulation.detach().clone() if to_the_end else modulation[:2].detach().clone())
        if to_the_end:
            self.attn, self.norm2, self.ff = (deepcopy(x) for x in (block.attn, block.norm2, block.ff))
            for name in TEXT_LAYERS:
                setattr(self.attn, name, None)

    def forward(self, x: Tensor, places: Places) -> tuple[Tensor, Tensor]:
        """Tokens (N, S, D) -> those that the block gives, and those that its attention sees."""
        shift, scale, *rest = self.modulation[:, None].unbind()
        seen = modulated(self.norm1, x, shift, scale)
        if not rest:
            return x, seen
        gate, ff_shift, ff_scale, ff_gate = rest
        x = x + gate[:, None] * picture_attention(self.attn, seen, places)
        return x + ff_gate[:, None] * self.ff(modulated(self.norm2, x, ff_shift, ff_scale)), seen


class _StillSingle(nn.Module):
    """The same of a block of one stream. modulation: (3, D)."""

    def __init__(self, block: Any, modulation: Tensor, to_the_end: bool) -> None:
        super().__init__()
        self.norm = deepcopy(block.norm.norm)
        self.modulation = nn.Parameter(modulation.detach().clone() if to_the_end else modulation[:2].detach().clone())
        if to_the_end:
            layers = block.attn, block.proj_mlp, block.act_mlp, block.proj_out
            self.attn, self.proj_mlp, self.act_mlp, self.proj_out = (deepcopy(x) for x in layers)

    def forward(self, x: Tensor, places: Places) -> tuple[Tensor, Tensor]:
        shift, scale, *rest = self.modulation[:, None].unbind()
        seen = modulated(self.norm, x, shift, scale)
        return (x + rest[0][:, None] * single_branches(self, seen, places) if rest else x), seen


class _Copy(StillCopy):
    """Copies of the blocks up to the last of ``sites``, in their order."""

    def __init__(
        self,
        blocks: Mapping[str, Any],
        embedding: Tensor,
        axes: Sequence[int],
        sites: Sequence[str],
        *,
        to_the_end: bool,
        checkpointing: bool,
    ) -> None:
        """blocks: site -> block. embedding: (1, D) of the noise level. axes: as of ``Places``.

        Raises: HvgError where a site is none of the network's blocks.
        """

        def make(name: str, whole: bool) -> nn.Module:
            block = blocks[name]
            kind, norm = (_StillDouble, block.norm1) if hasattr(block, "norm1") else (_StillSingle, block.norm)
            modulation = norm.linear(norm.silu(embedding)).unflatten(1, (-1, embedding.shape[1]))[0]
            return kind(block, modulation, to_the_end=whole)

        super().__init__(blocks, make, sites, to_the_end=to_the_end, checkpointing=checkpointing)
        self.width, self.axes = embedding.shape[1], tuple(axes)

    def places(self, cells: tuple[int, int], device: torch.device) -> Places:
        return Places.of(picture_ids(0, cells, device), self.axes)


class FluxReferenceEncoder(_Copy):
    """Latents (N, C, h, w) -> {site: (N, S, D)}, the normalised, modulated tokens that attention sees there.

    A copy, weights included, of what lies before the last of ``sites``, on a picture without noise, text or anything beside it.
    Source: ReferenceNet (AnimateAnyone, arXiv 2311.17117), whose second network is a UNet.
    """

    def __init__(self, x_embedder: nn.Linear, features: int, patch: int, *copied: Any, checkpointing: bool) -> None:
        """features: of a token, patch patch C. copied: as of ``_Copy``."""
        super().__init__(*copied, to_the_end=False, checkpointing=checkpointing)
        self.patch, self.x_embedder = patch, deepcopy(x_embedder)
        self.x_embedder.in_features = features
        self.x_embedder.weight = nn.Parameter(x_embedder.weight[:, :features].detach().clone())

    def forward(self, latents: Tensor) -> dict[str, Tensor]:
        cells = nn.functional.pixel_unshuffle(latents, self.patch)
        tokens = self.x_embedder(cells.flatten(2).mT).mT.unflatten(2, cells.shape[2:])
        return self.seen(tokens)


class FluxControlEncoder(_Copy):
    """Features at the stem (N, D, h, w) -> {site: (N, D, h, w)}, what is added behind a block, 0 at the start.

    A copy, weights included, of the blocks up to the last of ``sites``; at each site a projection that starts at zero. Source:
    ControlNet (arXiv 2302.05543), section 3. We differ: the copy sees neither noise nor its level nor text, so that it runs once
    a sample and not at every step.
    """

    def __init__(self, *copied: Any, checkpointing: bool) -> None:
        """copied: as of ``_Copy``."""
        super().__init__(*copied, to_the_end=True, checkpointing=checkpointing)
        self.projections = self.projections_from_zero(self.width)

    def forward(self, features: Tensor) -> dict[str, Tensor]:
        return self.added(features, self.projections)
