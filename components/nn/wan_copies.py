"""The first blocks of Wan's transformer on single pictures: as an encoder of photos, and as one of control maps."""

from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from hvg.core.errors import HvgError
from hvg.parts.zero import zero_module

from .reference_encoder import narrowed
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


class _Copy(nn.Module):
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
        super().__init__()
        names, unknown = list(blocks), sorted({*sites} - blocks.keys())
        if unknown or not sites:
            raise HvgError(f"no block is named {', '.join(unknown) or 'at all'}; there are {', '.join(names)}")
        self.sites, self.checkpointing = frozenset(sites), checkpointing
        last = max(map(names.index, sites))
        self.blocks = nn.ModuleDict(
            {
                name: _StillBlock(
                    blocks[name],
                    blocks[name].scale_shift_table[0] + modulation,
                    told.get(name),
                    to_the_end=to_the_end or number < last,
                )
                for number, name in enumerate(names[: last + 1])
            }
        )
        self.width: int = modulation.shape[1]
        self.head_width = self.width // blocks[names[0]].attn1.heads

    def outputs(self, x: Tensor) -> Iterator[tuple[str, Tensor, Tensor]]:
        """Of tokens as a map (N, D, h, w): every block's name, the tokens (N, S, D) that it gives, those that it sees."""
        place = torch.zeros(1, 1, dtype=torch.int64, device=x.device)
        still = Rotation.at(place, (x.shape[2], x.shape[3]), self.head_width)
        tokens = x.flatten(2).mT
        for name, block in self.blocks.items():
            if self.checkpointing and torch.is_grad_enabled():
                tokens, seen = checkpoint(block, tokens, still, use_reentrant=False)
            else:
                tokens, seen = block(tokens, still)
            yield name, tokens, seen


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
        outputs = self.outputs(patches(self.patch_embedding, latents))
        return {name: seen for name, _, seen in outputs if name in self.sites}


class WanControlEncoder(_Copy):
    """Features at the stem (N, D, h, w) -> {site: (N, D, h, w)}, what is added behind a block, 0 at the start.

    A copy, weights included, of the blocks up to the last of ``sites``, on single pictures; at each site a projection that starts
    at zero. Source: ControlNet (arXiv 2302.05543), section 3; of a transformer Uni3C (arXiv 2504.14899). We differ: the copy sees
    neither noise nor its level, so that it runs once a sample and not at every step.
    """

    def __init__(self, *copied: Any, checkpointing: bool) -> None:
        """copied: as of ``_Copy``."""
        super().__init__(*copied, to_the_end=True, checkpointing=checkpointing)
        self.projections = nn.ModuleDict(
            {name: zero_module(nn.Linear(self.width, self.width)) for name in self.blocks if name in self.sites}
        )

    def forward(self, features: Tensor) -> dict[str, Tensor]:
        cells = features.shape[2:]
        return {
            name: self.projections[name](tokens).mT.unflatten(2, cells)
            for name, tokens, _ in self.outputs(features)
            if name in self.sites
        }
