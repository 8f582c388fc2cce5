"""The first spatial layers of diffusers' UNetSpatioTemporalConditionModel as an encoder of control maps."""

from collections.abc import Collection, Iterable, Mapping
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from hvg.core.errors import HvgError
from hvg.parts.blocks import InBlocks
from hvg.parts.zero import zero_module

from .reference_encoder import SpatialTransformer, unet_layers


class ControlEncoder(InBlocks, nn.Module):
    """Features at the stem (N, C, h, w) -> {site: (N, C', h', w')}, what is added there, 0 at the start.

    A copy, weights included, of the spatial layers behind the first convolution, as in ``ReferenceEncoder``, up to the last of
    ``sites``, the ends of levels on the way down and of the middle; at each of them a 1x1 projection that starts at zero.
    Source: ControlNet (arXiv 2302.05543), section 3. We differ: the copy sees neither noise nor its level, so that it runs once
    a sample and not at every step; it is added at the end of a level, not to every skip connection.
    """

    def __init__(
        self,
        unet: Any,
        widths: Mapping[str, int],
        embedding: Tensor,
        sites: Collection[str],
        checkpointing: bool = False,
    ) -> None:
        """unet: modules named as in diffusers. widths: site -> channels, of all that there may be. embedding: (E) of the noise
        level and whatever else never changes. checkpointing: layers are computed again in the backward pass.

        Raises: HvgError where a site is none of them.
        """
        super().__init__()
        levels, asked = list(widths), {*sites}
        unknown = sorted(asked - {*levels})
        if unknown or not asked:
            raise HvgError(f"no level is named {', '.join(unknown) or 'at all'}; there are {', '.join(levels)}")
        self.checkpointing, self.embedding = checkpointing, nn.Parameter(embedding.detach().clone())
        kept = levels[: max(map(levels.index, asked)) + 1]
        self.layers = nn.ModuleDict(
            {
                name: SpatialTransformer(module, to_the_end=True) if "_attention_" in name else deepcopy(module)
                for name, module in unet_layers(unet)
                if _level(name) in kept
            }
        )
        self.projections = nn.ModuleDict(
            {site: zero_module(nn.Conv2d(widths[site], widths[site], 1)) for site in kept if site in asked}
        )

    def forward(self, features: Tensor) -> dict[str, Tensor]:
        x, embedding, ends = features, self.embedding.expand(len(features), -1), {}
        for name, layer in self.layers.items():
            if "_attention_" in name:
                x, _ = self._run(layer, x)
            else:
                x = self._run(layer, x, embedding) if "_residual_" in name else self._run(layer, x)
            # The last layer of a level is its end.
            ends[_level(name)] = x
        return {site: projection(ends[site]) for site, projection in self.projections.items()}

    def weight_blocks(self) -> Iterable[nn.Module]:
        return self.layers.values()

    def _run(self, layer: nn.Module, *inputs: Any) -> Any:
        if self.checkpointing and torch.is_grad_enabled():
            return checkpoint(layer, *inputs, use_reentrant=False)
        return layer(*inputs)


def _level(name: str) -> str:
    """``down_1`` of ``down_1_attention_0`` or ``down_1_sampler``."""
    level = name.partition("_residual_")[0].partition("_attention_")[0]
    return level.removesuffix("_sampler")
