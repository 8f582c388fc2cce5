"""The first blocks of a transformer, copied, on single pictures: as an encoder of photos, and as one of control maps."""

from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from hvg.core.errors import HvgError
from hvg.parts.blocks import InBlocks
from hvg.parts.zero import zero_module


class StillCopy(InBlocks, nn.Module):
    """Copies of the blocks up to the last of ``sites``, in their order.

    A block gives, of tokens (N, S, D) and where they stand, the tokens behind it and those that its self-attention sees.
    """

    def __init__(
        self,
        blocks: Mapping[str, Any],
        make: Callable[[str, bool], nn.Module],
        sites: Sequence[str],
        *,
        to_the_end: bool,
        checkpointing: bool,
    ) -> None:
        """blocks: site -> block. make: site -> the copy of its block, to its end or to what its self-attention sees; the last one
        goes to its end where ``to_the_end`` says so. checkpointing: they are computed again in the backward pass.

        Raises: HvgError where a site is none of the network's blocks.
        """
        super().__init__()
        names, unknown = list(blocks), sorted({*sites} - blocks.keys())
        if unknown or not sites:
            raise HvgError(f"no block is named {', '.join(unknown) or 'at all'}; there are {', '.join(names)}")
        self.sites, self.checkpointing = frozenset(sites), checkpointing
        last = max(map(names.index, sites))
        self.blocks = nn.ModuleDict(
            {name: make(name, to_the_end or number < last) for number, name in enumerate(names[: last + 1])}
        )

    def weight_blocks(self) -> Iterable[nn.Module]:
        return self.blocks.values()

    @abstractmethod
    def places(self, cells: tuple[int, int], device: torch.device) -> Any:
        """Rotary positions of a picture of (h, w) tokens, as its blocks take them."""

    def outputs(self, x: Tensor) -> Iterator[tuple[str, Tensor, Tensor]]:
        """Of tokens as a map (N, D, h, w): every block's name, the tokens (N, S, D) that it gives, those that it sees."""
        places, tokens = self.places((x.shape[2], x.shape[3]), x.device), x.flatten(2).mT
        for name, block in self.blocks.items():
            if self.checkpointing and torch.is_grad_enabled():
                tokens, seen = checkpoint(block, tokens, places, use_reentrant=False)
            else:
                tokens, seen = block(tokens, places)
            yield name, tokens, seen

    def seen(self, x: Tensor) -> dict[str, Tensor]:
        """Site -> the tokens (N, S, D) that self-attention sees there."""
        return {name: seen for name, _, seen in self.outputs(x) if name in self.sites}

    def projections_from_zero(self, width: int) -> nn.ModuleDict:
        """Site -> the layer that leads from its tokens to what is added there, 0 at the start."""
        return nn.ModuleDict({name: zero_module(nn.Linear(width, width)) for name in self.blocks if name in self.sites})

    def added(self, x: Tensor, projections: nn.ModuleDict) -> dict[str, Tensor]:
        """Site -> what is added behind it, (N, D, h, w), of tokens as a map (N, D, h, w)."""
        cells = x.shape[2:]
        return {
            name: projections[name](tokens).mT.unflatten(2, cells)
            for name, tokens, _ in self.outputs(x)
            if name in self.sites
        }
