"""The spatial layers of diffusers' UNetSpatioTemporalConditionModel as an encoder of still images."""

from collections.abc import Collection, Iterable, Iterator
from copy import deepcopy
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from hvg.core.errors import HvgError
from hvg.parts.blocks import InBlocks

from .spatio_temporal import spatial_transformer_block

ConvolutionT = TypeVar("ConvolutionT", nn.Conv2d, nn.Conv3d)


class ReferenceEncoder(InBlocks, nn.Module):
    """Latents (N, C, h, w) -> {site: (N, h' w', D)}, the normalised tokens that spatial self-attention sees there.

    A copy, weights included, of what lies before the last of ``sites``: the first convolution on its first C channels,
    spatial residual blocks and transformers, down- and upsamplers. Temporal and view layers are left out, as if their
    blend were all spatial. Of several transformer blocks at a site the first one's tokens are given.
    Cross-attention sees one zero token, SVD's empty context. Whatever the query, that adds the bias of its output layer:
    the bias moves to self-attention's output layer, and the rest, which could never learn, is left out.
    Source: ReferenceNet (AnimateAnyone, arXiv 2311.17117).
    """

    def __init__(
        self, unet: Any, latent_channels: int, embedding: Tensor, sites: Collection[str], checkpointing: bool = False
    ) -> None:
        """unet: modules named as in diffusers. embedding: (E) of the noise level and whatever else never changes.
        checkpointing: layers are computed again in the backward pass instead of being kept for it.

        Raises: HvgError where a site is none of the network's transformers.
        """
        super().__init__()
        self.sites, self.checkpointing = frozenset(sites), checkpointing
        self.embedding = nn.Parameter(embedding.detach().clone())
        self.conv_in = narrowed(unet.conv_in, latent_channels)
        self.layers = nn.ModuleDict()
        ahead = set(sites)
        for name, module in unet_layers(unet):
            ahead.discard(name)
            is_site = "_attention_" in name
            self.layers[name] = SpatialTransformer(module, to_the_end=bool(ahead)) if is_site else deepcopy(module)
            if not ahead:
                break
        if ahead:
            known = [name for name, _ in unet_layers(unet) if "_attention_" in name]
            raise HvgError(f"no transformer is named {', '.join(sorted(ahead))}; there are {', '.join(known)}")

    def forward(self, latents: Tensor) -> dict[str, Tensor]:
        x, skips, memory = self.conv_in(latents), [], {}
        embedding = self.embedding.expand(len(x), -1)
        for name, layer in self.layers.items():
            direction, is_residual = name.partition("_")[0], "_residual_" in name
            if "_attention_" in name:
                x, memory[name] = self._run(layer, x)
            elif direction == "up":
                inputs = (torch.cat([x, skips.pop()], dim=1), embedding) if is_residual else (x, _size(skips[-1]))
                x = self._run(layer, *inputs)
            else:
                # What enters the next layer on the way down, or the middle, is what the previous one gave.
                if direction == "down" or name == "mid_residual_0":
                    skips.append(x)
                x = self._run(layer, x, embedding) if is_residual else self._run(layer, x)
        return {site: tokens for site, tokens in memory.items() if site in self.sites}

    def weight_blocks(self) -> Iterable[nn.Module]:
        return self.layers.values()

    def _run(self, layer: nn.Module, *inputs: Any) -> Any:
        if self.checkpointing and torch.is_grad_enabled():
            return checkpoint(layer, *inputs, use_reentrant=False)
        return layer(*inputs)


class SpatialTransformer(nn.Module):
    """diffusers' TransformerSpatioTemporalModel without its temporal blocks; the last one ends at the tokens."""

    def __init__(self, transformer: Any, to_the_end: bool) -> None:
        super().__init__()
        self.norm, self.proj_in = deepcopy(transformer.norm), deepcopy(transformer.proj_in)
        blocks = transformer.transformer_blocks
        self.blocks = nn.ModuleList(
            map(_without_context, blocks) if to_the_end else [nn.ModuleDict({"norm1": deepcopy(blocks[0].norm1)})]
        )
        self.proj_out = deepcopy(transformer.proj_out) if to_the_end else None

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """x (N, C, h, w) -> what the transformer gives, alike, and the tokens (N, h w, D) of its first self-attention."""
        tokens = self.proj_in(self.norm(x).permute(0, 2, 3, 1).flatten(1, 2))
        first: Any = self.blocks[0]
        seen = first.norm1(tokens)
        if self.proj_out is None:
            return x, seen
        for block in self.blocks:
            tokens = spatial_transformer_block(block, tokens, context=None, memory=None)
        return self.proj_out(tokens).unflatten(1, _size(x)).permute(0, 3, 1, 2).contiguous() + x, seen


def unet_layers(unet: Any) -> Iterator[tuple[str, nn.Module]]:
    """The UNet's layers after the first convolution, in the order in which they run; sites bear the ports' names."""
    blocks = [
        *((f"down_{i}", block, block.downsamplers) for i, block in enumerate(unet.down_blocks)),
        ("mid", unet.mid_block, ()),
        *((f"up_{i}", block, block.upsamplers) for i, block in enumerate(unet.up_blocks)),
    ]
    for name, block, samplers in blocks:
        attentions = getattr(block, "attentions", ())
        for j, residual in enumerate(block.resnets):
            yield f"{name}_residual_{j}", residual.spatial_res_block
            if j < len(attentions):  # the middle has one less
                yield f"{name}_attention_{j}", attentions[j]
        for module in samplers or ():
            yield f"{name}_sampler", module


def narrowed(convolution: ConvolutionT, channels: int) -> ConvolutionT:
    """A copy that takes the first ``channels`` channels; the others are those that conditioners concatenate."""
    copy = deepcopy(convolution)
    copy.in_channels = channels
    copy.weight = nn.Parameter(convolution.weight[:, :channels].detach().clone())
    return copy


def _without_context(block: Any) -> nn.Module:
    """A copy of a transformer block that does what it does with one zero token as context, without cross-attention."""
    copy = deepcopy(block)
    if copy.attn2 is not None:
        with torch.no_grad():
            copy.attn1.to_out[0].bias += copy.attn2.to_out[0].bias
        copy.attn2 = copy.norm2 = None
    return copy


def _size(x: Tensor) -> tuple[int, int]:
    height, width = x.shape[2:]
    return height, width
