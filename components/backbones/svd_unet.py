"""Stable Video Diffusion's UNet with ports for conditioning and view attention in every transformer.

Source: SVD (arXiv 2311.15127); blocks and parameter names of diffusers' ``UNetSpatioTemporalConditionModel``. Order
inside a transformer as in SV4D (arXiv 2407.17470): spatial, view, temporal attention. Elsewhere views act as clips.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, ClassVar, Literal, cast

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from hvg.core.bounds import Depth, Heads, Width
from hvg.core.errors import HvgError
from hvg.core.on_device import constants
from hvg.core.required import required
from hvg.parts.attention import MOST_GROUPS
from hvg.parts.backbone import Backbone, DeepFeatures
from hvg.parts.blocks import run_block
from hvg.parts.context import BackboneContext
from hvg.parts.pretrained import Component
from hvg.parts.view_attention import ViewAttention
from hvg.parts.zero import zero_module
from hvg.values.conditioning import Conditioning, LatentShape, Ports, Site
from hvg.values.grid import ViewGrid
from hvg.values.layout import fold_frames, unfold_frames

from ..nn.control_encoder import ControlEncoder
from ..nn.published_network import load_network
from ..nn.reference_encoder import ReferenceEncoder, unet_layers
from ..nn.spatio_temporal import library_residual_block, residual_block, spatial_transformer_block
from ..nn.spatio_temporal_unet import SpatioTemporalUNet
from ..nn.video_backbone import (
    NEW_LAYERS,
    BlockRunner,
    VideoBackboneConfig,
    clip_grid,
    fold_shared,
    frame_places,
    own_blocks,
    seen_views,
)

# c_noise = ln(sigma) / 4 of the last step of SVD's schedule, sigma 0.002. (0 is not clean: it stands for sigma 1.)
CLEAN_LEVEL = 0.25 * math.log(0.002)
# SDXL has 70.
MOST_BLOCKS = 512
# Words for adapters -> the weights that they mean.
WORDS = {
    "new": [f"{place}.*" for place in NEW_LAYERS],
    "attention": ["*.attn1.*", "*.attn2.*"],
    "feed_forward": ["*.ff.*", "*.ff_in.*"],
    "temporal": ["*.temporal_*", "*.time_mixer.*", "*.time_pos_embed.*"],
}


class SvdUNetConfig(VideoBackboneConfig):
    """The defaults are SVD-xt."""

    widths: tuple[Width, ...] = Field(
        (320, 640, 1280, 1280),
        min_length=1,
        max_length=8,
        description="Channels per level, each divisible by 32.",
    )
    attention: tuple[bool, ...] = Field(
        (True, True, True, False), description="Which levels have transformers; the middle always has one."
    )
    heads: tuple[Heads, ...] = Field((5, 10, 20, 20), description="Attention heads per level (SVD: 64 channels each).")
    layers_per_block: Depth = Field(2, description="Residual blocks per level going down; going up has one more.")
    transformer_layers: Depth = Field(1, description="Transformer blocks per transformer.")
    cross_attention_width: int = Field(
        1024, ge=0, le=65_536, description="Width of context tokens; 0 leaves cross-attention out."
    )
    addition_time_embed_dim: int = Field(
        256, ge=2, le=65_536, multiple_of=2, description="Sinusoid width of each of the three added ids."
    )
    fps: float = Field(6, ge=-1, le=1000, description="First added id: frames per second minus 1, as SVD was trained.")
    motion_bucket: float = Field(127, ge=0, le=1000, description="Second added id: amount of motion.")
    noise_augmentation: float = Field(
        0.02, ge=0, le=1000, description="Third added id: noise added to the reference image."
    )
    norm_groups: Width = Field(
        32,
        description="Groups of every group norm. Groups of one or two channels forget how strong a colour is, so narrow "
        "networks want fewer groups.",
    )
    kernels: Literal["fast", "library"] = Field(
        "fast",
        description="fast: temporal convolutions run as 2D ones, equal up to rounding. library: as in diffusers.",
    )

    @model_validator(mode="after")
    def _levels_agree(self) -> "SvdUNetConfig":
        levels = len(self.widths), len(self.attention), len(self.heads)
        if len(set(levels)) != 1:
            raise ValueError(f"widths, attention and heads need one entry per level, they have {levels}")
        blocks = len(self.widths) * (2 * self.layers_per_block + 1) * self.transformer_layers
        if blocks > MOST_BLOCKS:
            raise ValueError(
                f"{len(self.widths)} levels with {self.layers_per_block} layers_per_block and {self.transformer_layers} "
                f"transformer_layers would be about {blocks} transformer blocks; at most {MOST_BLOCKS} are built"
            )
        for width, heads in zip(self.widths, self.heads, strict=True):
            if width % 32 or width % heads or width % self.norm_groups:
                raise ValueError(
                    f"width {width} is not divisible by 32, {self.norm_groups} norm groups and {heads} heads"
                )
        return self


@dataclass(frozen=True)
class _Pass:
    """Inputs that all blocks of one forward pass share. Folded axis N = B V t.

    grid: (B, V, t); (B, 1, V t) where views are frames. views: where these views stand, for view attention.
    embedding: (N, E). context: (N, L, D) or None. frame_index: (N,).
    memory: site -> (B, M, D) where all views and frames of a clip share it, otherwise (N, M, D).
    seen: None, or where to put what spatial self-attention sees at the sites that it has, (N, M, D).
    """

    grid: tuple[int, int, int]
    views: ViewGrid | None
    embedding: Tensor
    context: Tensor | None
    frame_index: Tensor
    memory: Mapping[str, Tensor]
    seen: dict[str, Tensor | None] | None = None


class SvdUNet(Backbone[SvdUNetConfig]):
    """The denoiser of SVD. Weights are named as in diffusers.

    New ones: view attention's, ``view_attention.<site>.*``, and with ``memory=gated`` a gate for each block and head,
    ``memory_gate.<site>``, at the sites that some conditioner fills.
    """

    library_name: ClassVar[str] = "unet"
    clean_level: ClassVar[float] = CLEAN_LEVEL
    # Taken over from ``SpatioTemporalUNet``; its blocks are typed no further.
    conv_in: nn.Conv2d
    time_proj: nn.Module
    time_embedding: nn.Module
    add_time_proj: nn.Module
    add_embedding: nn.Module
    down_blocks: Sequence[Any]
    mid_block: Any
    up_blocks: Sequence[Any]
    conv_norm_out: nn.Module
    conv_act: nn.Module
    conv_out: nn.Conv2d

    def __init__(self, config: SvdUNetConfig, context: BackboneContext) -> None:
        super().__init__(config, context)
        self.latent_channels = context.ports.latent_channels
        for name, module in _layers(config, self.latent_channels, context.channels).named_children():
            self.add_module(name, module)
        view_attention = nn.ModuleDict()
        if context.view_attention is not None:
            for site, level in _transformer_sites(config).items():
                build = partial(context.view_attention, config.widths[level], config.heads[level])
                view_attention[site] = nn.ModuleList(build() for _ in range(config.transformer_layers))
        # A ModuleDict's type does not say what it holds.
        self.view_attention = cast(Mapping[str, nn.ModuleList], view_attention)
        self.memory_gate = nn.ParameterDict()
        if config.memory == "gated":
            for site in sorted(context.memory):
                heads = config.heads[_transformer_sites(config)[site]]
                self.memory_gate[site] = nn.Parameter(torch.zeros(config.transformer_layers, heads))
        for module in self.modules():
            if isinstance(module, nn.GroupNorm):
                module.num_groups = config.norm_groups
                module.register_forward_pre_hook(_survives_the_backward_pass)
        if config.init == "residual_zero":
            _zero_residual_branches(self)
        self._residual_block = {"fast": residual_block, "library": library_residual_block}[config.kernels]
        self._blocks = BlockRunner()

    @classmethod
    def has_view_layers(cls, config: SvdUNetConfig) -> bool:
        return not config.views_as_frames

    def weight_blocks(self) -> Iterator[nn.Module]:
        for block in (*self.down_blocks, self.mid_block, *self.up_blocks):
            yield from block.resnets
            yield from getattr(block, "attentions", ())
        yield from own_blocks(self.config, self.view_attention.values())

    @classmethod
    def reuses(cls, config: SvdUNetConfig) -> bool:
        return True

    @classmethod
    def weight_words(cls) -> Mapping[str, Sequence[str]]:
        return WORDS

    @classmethod
    def ports(cls, config: SvdUNetConfig, latents: LatentShape) -> Ports:
        """Residual sites ``stem``, ``down_<i>`` (after downsampling), ``mid``; memory sites are the transformers."""
        last = len(config.widths) - 1
        down = {f"down_{i}": Site(width, 2 ** min(i + 1, last)) for i, width in enumerate(config.widths)}
        memory = {
            site: Site(config.widths[level], 2**level, early=not site.startswith("up_"))
            for site, level in _transformer_sites(config).items()
        }
        return Ports(
            latent_channels=latents.channels,
            latent_stride=latents.stride,
            temporal_stride=latents.temporal_stride,
            residuals={"stem": Site(config.widths[0], 1), **down, "mid": Site(config.widths[last], 2**last)},
            memory=memory,
            token_width=config.cross_attention_width,
            text_width=config.cross_attention_width,
            embedding_width=4 * config.widths[0],
            channels=True,
        )

    def forward(
        self,
        noisy: Tensor,
        level: Tensor,
        conditioning: Conditioning,
        frame_index: Tensor | None = None,
        grid: ViewGrid | None = None,
        deep: DeepFeatures | None = None,
    ) -> Tensor:
        """See ``Backbone.forward``. Tokens of the first frame are the context of temporal attention, as in SVD.

        Of the deep half is kept what comes up from it to the outer layers, as in DeepCache (arXiv 2312.00858).
        """
        shape, views = noisy.shape[:3], self._seen_views(noisy, grid)
        x, residuals, state = self._begun(noisy, level, conditioning, frame_index, views)
        outer, last, skips = self._outer_layers, len(self.up_blocks) - 1, [x]
        begun = self._down_layers(0, slice(outer), x, skips, state)

        def below() -> Tensor:
            x = self._down(begun, skips, residuals, state, outer)
            x = self._up(_add(self._mid(x, state), residuals.get("mid")), skips, state, last)
            return self._up_layers(last, slice(-outer - 1), x, skips, state)

        x = below() if deep is None else deep.made(below)
        x = self._up_layers(last, slice(-outer - 1, None), x, skips, state)
        return unfold_frames(self.conv_out(self.conv_act(self.conv_norm_out(x))), shape)

    def attended(
        self,
        noisy: Tensor,
        level: Tensor,
        conditioning: Conditioning,
        frame_index: Tensor | None = None,
        grid: ViewGrid | None = None,
        sites: Sequence[str] | None = None,
    ) -> dict[str, Tensor]:
        """See ``Backbone.attended``. Of several transformer blocks at a site the first one's tokens are given."""
        seen: dict[str, Tensor | None] = dict.fromkeys(_transformer_sites(self.config) if sites is None else sites)
        views = None if grid is None else self._seen_views(noisy, grid)
        x, residuals, state = self._begun(noisy, level, conditioning, frame_index, views)
        state, skips = replace(state, seen=seen), [x]
        x = self._mid(self._down(x, skips, residuals, state), state)
        if any(found is None for found in seen.values()):
            self._up(_add(x, residuals.get("mid")), skips, state, len(self.up_blocks))
        return {site: unfold_frames(required(found, site), noisy.shape[:3]) for site, found in seen.items()}

    def _seen_views(self, noisy: Tensor, grid: ViewGrid | None) -> ViewGrid | None:
        """The grid that view attention sees; None where there is none. Raises: HvgError as of ``forward``."""
        return seen_views(grid, clip_grid(self.config, noisy)) if self.view_attention else None

    def _begun(
        self,
        noisy: Tensor,
        level: Tensor,
        conditioning: Conditioning,
        frame_index: Tensor | None,
        views: ViewGrid | None,
    ) -> tuple[Tensor, Mapping[str, Tensor], _Pass]:
        """What comes out of the first convolution (N, C, h, w), residuals by site, and what all blocks share."""
        b, v, t = noisy.shape[:3]
        memory, conditioning = conditioning.memory, replace(conditioning, memory={}).expand(v, t)
        if conditioning.channels is not None:
            noisy = torch.cat([noisy, conditioning.channels.to(noisy.dtype)], dim=3)
        shape = clip_grid(self.config, noisy)
        state = _Pass(
            grid=shape,
            views=views,
            embedding=self._embed(level.reshape(shape), noisy.dtype, conditioning.embedding),
            context=self._context(noisy, conditioning.context),
            frame_index=fold_frames(frame_places(frame_index, shape, noisy)[:, None].expand(shape)),
            memory={site: fold_shared(x, (b, v, t)) for site, x in memory.items()},
        )
        residuals = {site: fold_frames(x) for site, x in conditioning.residuals.items()}
        return _add(self.conv_in(fold_frames(noisy)), residuals.get("stem")), residuals, state

    def load_pretrained(self) -> list[str]:
        if self.config.weights is None:
            return []
        if self.config.norm_groups != 32:
            raise HvgError(f"backbone.norm_groups={self.config.norm_groups}: published weights have 32; set 32")
        published = Component(place=self.config.weights, name="unet", setting="backbone.weights")
        settings = _library_settings(self.config, self.latent_channels)
        return load_network(self, published, settings, NEW_LAYERS, first="conv_in")

    def reference_encoder(self, sites: Sequence[str], checkpointing: bool = False) -> nn.Module:
        """See ``Backbone.reference_encoder``. The photo is clean: the copy is told the lowest noise level, as AnimateAnyone
        tells its own t = 0. Published weights know such latents as they are; the input scale of v is 1 without noise.
        """
        return ReferenceEncoder(self, self.latent_channels, self._embedding_without_noise(), sites, checkpointing)

    def control_encoder(self, sites: Sequence[str], checkpointing: bool = False) -> nn.Module:
        widths = {**{f"down_{i}": width for i, width in enumerate(self.config.widths)}, "mid": self.config.widths[-1]}
        return ControlEncoder(self, widths, self._embedding_without_noise(), sites, checkpointing)

    def spatial_attention(self) -> Iterator[tuple[ViewAttention, nn.Module, nn.Module]]:
        for site, transformer in unet_layers(self):
            if site in self.view_attention:
                blocks: Any = transformer
                for module, block in zip(self.view_attention[site], blocks.transformer_blocks, strict=True):
                    yield cast(ViewAttention, module), block.norm1, block.attn1

    def _embedding_without_noise(self) -> Tensor:
        """(E)."""
        level = self.conv_in.weight.new_full((1, 1, 1), self.clean_level)
        with torch.no_grad():
            return self._embed(level, level.dtype, None)[0]

    def _embed(self, level: Tensor, dtype: torch.dtype, extra: Tensor | None) -> Tensor:
        """Noise level, the three added ids and the embedding port -> (N, E)."""
        library = self.config.kernels == "library"
        levels = _level_of_clips(level) if library else level.flatten()
        ids = constants([self.config.fps, self.config.motion_bucket, self.config.noise_augmentation], level)
        ids = ids.repeat(len(levels) if library else 1, 1)
        # Sinusoids come out in float32 whatever the network's type is.
        embedding = self.time_embedding(self.time_proj(levels).to(dtype))
        embedding = embedding + self.add_embedding(self.add_time_proj(ids.flatten()).view(len(ids), -1).to(dtype))
        embedding = embedding.repeat_interleave(level.numel() // len(levels), dim=0)
        return embedding if extra is None else embedding + fold_frames(extra)

    def _context(self, noisy: Tensor, tokens: Tensor | None) -> Tensor | None:
        """Cross-attention context (N, L, D); SVD's unconditional context, one zero token, where there are no tokens."""
        if self.config.cross_attention_width == 0:
            return None
        zero = noisy.new_zeros(noisy.shape[:3].numel(), 1, self.config.cross_attention_width)
        return zero if tokens is None else fold_frames(tokens)

    @property
    def _outer_layers(self) -> int:
        """Layers of the first level going down that are of the shallow half."""
        layers = self.config.layers_per_block
        most = layers if len(self.down_blocks) > 1 else layers - 1
        return most if self.config.shallow is None else min(most, self.config.shallow)

    def _down(
        self, x: Tensor, skips: list[Tensor], residuals: Mapping[str, Tensor], state: _Pass, begun: int = 0
    ) -> Tensor:
        """begun: layers of the first level that lie behind. skips: takes what every layer makes."""
        for i, block in enumerate(self.down_blocks):
            x = self._down_layers(i, slice(begun if i == 0 else 0, None), x, skips, state)
            for downsampler in block.downsamplers or ():
                x = downsampler(x)
                skips.append(x)
            skips[-1] = x = _add(x, residuals.get(f"down_{i}"))
        return x

    def _down_layers(self, i: int, layers: slice, x: Tensor, skips: list[Tensor], state: _Pass) -> Tensor:
        block = self.down_blocks[i]
        for j, resnet in [*enumerate(block.resnets)][layers]:
            x = self._layer(resnet, getattr(block, "attentions", None), f"down_{i}", j, x, state)
            skips.append(x)
        return x

    def _mid(self, x: Tensor, state: _Pass) -> Tensor:
        first, last = self.mid_block.resnets
        x = self._layer(first, self.mid_block.attentions, "mid", 0, x, state)
        return self._layer(last, None, "mid", 1, x, state)

    def _up(self, x: Tensor, skips: list[Tensor], state: _Pass, levels: int) -> Tensor:
        """Through so many levels. skips: each of its layers takes the last one."""
        for i in range(levels):
            x = self._up_layers(i, slice(None), x, skips, state)
            for upsampler in self.up_blocks[i].upsamplers or ():
                # The size of the skip that comes next, so that odd sizes work.
                x = upsampler(x, tuple(skips[-1].shape[2:]))
        return x

    def _up_layers(self, i: int, layers: slice, x: Tensor, skips: list[Tensor], state: _Pass) -> Tensor:
        block = self.up_blocks[i]
        for j, resnet in [*enumerate(block.resnets)][layers]:
            x = torch.cat([x, skips.pop()], dim=1)
            x = self._layer(resnet, getattr(block, "attentions", None), f"up_{i}", j, x, state)
        return x

    def _layer(
        self, resnet: nn.Module, transformers: Sequence[Any] | None, block: str, j: int, x: Tensor, state: _Pass
    ) -> Tensor:
        x = self._blocks(self.config, self._residual_block, resnet, x, state.embedding, state.grid[2])
        if transformers is not None:
            site = f"{block}_attention_{j}"
            if state.seen is not None and site in state.seen:
                state.seen[site] = run_block(transformers[j], _seen_tokens, transformers[j], x)
            memory, views = state.memory.get(site), dict(self.view_attention.items()).get(site)
            gates = None if memory is None else dict(self.memory_gate.items()).get(site)
            shared = replace(state, memory={}, seen=None)
            x = self._blocks(self.config, _transform, transformers[j], views, memory, gates, x, shared)
        return x


def _transform(
    module: Any,
    view_attention: nn.ModuleList | None,
    memory: Tensor | None,
    gates: Tensor | None,
    x: Tensor,
    state: _Pass,
) -> Tensor:
    """Spatial, view and temporal attention of one of the library's transformers; x (N, C, h, w) -> same.

    What differs from site to site is an argument of its own, so that it is compiled once for all sites that are alike. view
    attention and gates: of each of its blocks.
    """
    (b, v, t), (_, _, h, w) = state.grid, x.shape
    position = module.time_pos_embed(module.time_proj(state.frame_index).to(x.dtype))[:, None]
    tokens = _tokens(module, x)
    never_an_image = x.new_zeros(b * v, t)
    blocks = zip(module.transformer_blocks, module.temporal_transformer_blocks, strict=True)
    for i, (spatial, temporal) in enumerate(blocks):
        tokens = spatial_transformer_block(spatial, tokens, state.context, memory, None if gates is None else gates[i])
        if state.views is not None and view_attention is not None:
            views = state.views.resized((h, w))
            tokens = view_attention[i](tokens.view(b, v, t, h, w, -1), views).reshape(tokens.shape)
        moved = _over_time(temporal, tokens + position, state, h * w)
        tokens = module.time_mixer(x_spatial=tokens, x_temporal=moved, image_only_indicator=never_an_image)
    return module.proj_out(tokens).unflatten(1, (h, w)).permute(0, 3, 1, 2).contiguous() + x


def _level_of_clips(level: Tensor) -> Tensor:
    """One level for each view's clip, (B V): the library embeds no more, and other numbers of rows may round differently.

    Raises: HvgError where the frames of a clip have different levels.
    """
    if level.shape[-1] > 1 and bool((level != level[..., :1]).any()):
        raise HvgError("backbone.kernels=library knows one noise level a clip, as diffusers does; use kernels=fast")
    return level[..., 0].flatten()


def _over_time(temporal: Any, tokens: Tensor, state: _Pass, cells: int) -> Tensor:
    """Tokens (N, cells, D) behind attention of every cell over the frames of its clip, to the first frame's context.

    As many clips at once as a GPU's kernel takes: each cell of one is a group.
    """
    at_once, frames = max(1, MOST_GROUPS // cells), state.grid[2]
    contexts = None if state.context is None else state.context[::frames].split(at_once)
    made = [
        temporal(x, num_frames=frames, encoder_hidden_states=contexts and _of_every_cell(contexts[number], cells))
        for number, x in enumerate(tokens.split(at_once * frames))
    ]
    return made[0] if len(made) == 1 else torch.cat(made)


def _of_every_cell(context: Tensor, cells: int) -> Tensor:
    """Context of clips (B V, L, D) for every cell of theirs: (B V cells, L, D)."""
    return context[:, None].expand(-1, cells, -1, -1).flatten(0, 1)


def _seen_tokens(transformer: Any, x: Tensor) -> Tensor:
    """The tokens that the first spatial self-attention of one of the library's transformers sees."""
    return transformer.transformer_blocks[0].norm1(_tokens(transformer, x))


def _tokens(transformer: Any, x: Tensor) -> Tensor:
    """Features (N, C, h, w) as a transformer's tokens, (N, h w, D)."""
    return transformer.proj_in(transformer.norm(x).permute(0, 2, 3, 1).flatten(1, 2))


def _add(x: Tensor, residual: Tensor | None) -> Tensor:
    return x if residual is None else x + residual


def _zero_residual_branches(network: nn.Module) -> None:
    """Residual blocks and transformers start as identities and the network at 0. Source: ADM (arXiv 2105.05233)."""
    for name, module in network.named_modules():
        if name.rpartition(".")[2] in ("conv_out", "conv2", "proj_out"):
            zero_module(module)


def _transformer_sites(config: SvdUNetConfig) -> dict[str, int]:
    """Site -> level."""
    last, layers = len(config.widths) - 1, config.layers_per_block
    levels = [level for level, attention in enumerate(config.attention) if attention]
    down = {f"down_{level}_attention_{j}": level for level in levels for j in range(layers)}
    up = {f"up_{last - level}_attention_{j}": level for level in reversed(levels) for j in range(layers + 1)}
    return {**down, "mid_attention_0": last, **up}


def _library_settings(config: SvdUNetConfig, latent_channels: int) -> dict[str, Any]:
    """The settings of diffusers' ``UNetSpatioTemporalConditionModel``, all but its input channels."""

    def kinds(direction: str, attention: Sequence[bool]) -> tuple[str, ...]:
        return tuple(f"{'CrossAttn' if yes else ''}{direction}BlockSpatioTemporal" for yes in attention)

    return {
        "out_channels": latent_channels,
        "down_block_types": kinds("Down", config.attention),
        "up_block_types": kinds("Up", config.attention[::-1]),
        "block_out_channels": config.widths,
        "addition_time_embed_dim": config.addition_time_embed_dim,
        "projection_class_embeddings_input_dim": 3 * config.addition_time_embed_dim,
        "layers_per_block": config.layers_per_block,
        "cross_attention_dim": config.cross_attention_width or 1,
        "transformer_layers_per_block": config.transformer_layers,
        "num_attention_heads": config.heads,
    }


def _layers(config: SvdUNetConfig, latent_channels: int, extra_channels: int) -> nn.Module:
    """The library's layers, freshly initialised."""
    return SpatioTemporalUNet(
        (latent_channels + extra_channels, latent_channels),
        config.widths,
        config.attention,
        config.heads,
        layers=config.layers_per_block,
        depth=config.transformer_layers,
        context_width=config.cross_attention_width,
        id_width=config.addition_time_embed_dim,
    )


def _survives_the_backward_pass(norm: nn.Module, inputs: tuple[Tensor]) -> tuple[Tensor] | None:
    """The input (N, C, ...) as the backward pass takes it: torch 2.13's for a CPU ends the process where channels lie last and
    the input needs no gradient, as behind layers that an adapter freezes.
    """
    (x,) = inputs
    unsafe = x.device.type == "cpu" and not x.requires_grad and torch.is_grad_enabled()
    return (x.contiguous(),) if unsafe else None
