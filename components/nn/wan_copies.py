"""The first blocks of Wan's transformer on single pictures: as an encoder of photos, and as one of control maps."""

from collections.abc import Mapping, Sequence
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn

from .reference_encoder import narrowed
from .still_copies import StillCopy
from .wan_attention import Rotation, modulated, patches, self_attention, with_branch


class _StillBlock(nn.Module):
    """A block on pictures of one noise level, with no text; what both give is constant, and learned from there on.

    modulation: (6, D), table and noise level together. told: (D), what attention to nothing adds, None without such attention.
    The last block of a copy may end at what its self-attention sees.
    """

    def __init__(self, block: Any, modulation: Tensor, told: Tensor | None, to_the_end: bool) -> None:
        super().__init__()
        self.norm1 = deepcopy(block.norm1)
        self.modulation = nn.Parameter(modulation.detach().clone() if to_the_end else modulation[:2].detach().clone())
        if to_the_end:
            self.attn1, self.norm3, self.ffn = (deepcopy(x) for x in (block.attn1, block.norm3, block.ffn))
            self.told = None if told is None else nn.Parameter(told.detach().clone())

    def forward(self, x: Tensor, still: Rotation) -> tuple[Tensor, Tensor]:
        """Tokens (N, S, D) -> those that the block gives, and those that its self-attention sees."""
        shift, scale, *rest = self.modulation.unbind()
        seen = modulated(self.norm1, x, shift, scale)
        if not rest:
            return x, seen
        gate, ff_shift, ff_scale, ff_gate = rest
        x = with_branch(x, self_attention(self.attn1, seen, still, (len(x), 1, 1)), gate)
        if self.told is not None:
            x = x + self.told.to(x.dtype)
        return with_branch(x, self.ffn(modulated(self.norm3, x, ff_shift, ff_scale)), ff_gate), seen


class _Copy(StillCopy):
    """Copies of the blocks up to the last of ``sites``, in their order."""

    def __init__(
        self,
        blocks: Mapping[str, Any],
        modulation: Tensor,
        told: Mapping[str, Tensor],
        sites: Sequence[str],
        *,
        to_the_end: bool,
        checkpointing: bool,
    ) -> None:
        """blocks: site -> block. modulation: (6, D) of the noise level. told: site -> (D), as of ``_StillBlock``.

        Raises: HvgError where a site is none of the network's blocks.
        """

        def make(name: str, whole: bool) -> nn.Module:
            table = blocks[name].scale_shift_table[0]
            return _StillBlock(blocks[name], table + modulation, told.get(name), to_the_end=whole)

        super().__init__(blocks, make, sites, to_the_end=to_the_end, checkpointing=checkpointing)
        self.width: int = modulation.shape[1]
        self.head_width = self.width // next(iter(blocks.values())).attn1.heads

    def places(self, cells: tuple[int, int], device: torch.device) -> Rotation:
        return Rotation.at(torch.zeros(1, 1, dtype=torch.int64, device=device), cells, self.head_width)


class WanReferenceEncoder(_Copy):
    """Latents (N, C, h, w) -> {site: (N, S, D)}, the normalised, modulated tokens that self-attention sees there.

    A copy, weights included, of what lies before the last of ``sites``; each picture is a video of one frame without noise.
    Source: ReferenceNet (AnimateAnyone, arXiv 2311.17117), whose second network is a UNet.
    """

    def __init__(self, patch_embedding: nn.Conv3d, latent_channels: int, *copied: Any, checkpointing: bool) -> None:
        """copied: as of ``_Copy``."""
        super().__init__(*copied, to_the_end=False, checkpointing=checkpointing)
        self.patch_embedding = narrowed(patch_embedding, latent_channels)

    def forward(self, latents: Tensor) -> dict[str, Tensor]:
        return self.seen(patches(self.patch_embedding, latents))


class WanControlEncoder(_Copy):
    """Features at the stem (N, D, h, w) -> {site: (N, D, h, w)}, what is added behind a block, 0 at the start.

    A copy, weights included, of the blocks up to the last of ``sites``, on single pictures; at each site a projection that starts
    at zero. Source: ControlNet (arXiv 2302.05543), section 3; of a transformer Uni3C (arXiv 2504.14899). We differ: the copy sees
    neither noise nor its level, so that it runs once a sample and not at every step.
    """

    def __init__(self, *copied: Any, checkpointing: bool) -> None:
        """copied: as of ``_Copy``."""
        super().__init__(*copied, to_the_end=True, checkpointing=checkpointing)
        self.projections = self.projections_from_zero(self.width)

    def forward(self, features: Tensor) -> dict[str, Tensor]:
        return self.added(features, self.projections)
