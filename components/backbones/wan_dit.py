"""Wan's video transformer with ports for conditioning, and view attention between its self- and cross-attention.

Source: Wan (arXiv 2503.20314); layers and parameter names of diffusers' ``WanTransformer3DModel``. Views act as clips; between
attention within a clip and attention to text a token sees other views, as in SV4D (arXiv 2407.17470) and, of this class,
4DAnyone. Noise levels go by latent frame, as Wan 2.2's 5B model has them by token.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any, ClassVar, Literal, cast

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from hvg.core.bounds import Depth, Heads, Width
from hvg.core.errors import HvgError
from hvg.parts.backbone import Backbone, DeepFeatures
from hvg.parts.blocks import run_block
from hvg.parts.context import BackboneContext
from hvg.parts.pretrained import Component
from hvg.parts.view_attention import ViewAttention
from hvg.parts.zero import zero_module
from hvg.values.conditioning import Conditioning, LatentShape, Ports, Site
from hvg.values.grid import ViewGrid
from hvg.values.layout import fold_frames, unfold_frames

from ..nn.published_network import load_network
from ..nn.video_backbone import (
    NEW_LAYERS,
    BlockRunner,
    VideoBackboneConfig,
    clip_grid,
    deep_blocks,
    fold_shared,
    frame_places,
    own_blocks,
    seen_views,
)
from ..nn.wan_attention import (
    Memory,
    Rotation,
    cross_attention,
    modulated,
    patches,
    self_attention,
    told_by_one_token,
    with_branch,
)
from ..nn.wan_copies import WanControlEncoder, WanReferenceEncoder
from ..nn.wan_transformer import EPSILON, WanTransformer, library_layer

# What the names of those sites end in whose memory lies beside the picture.
BESIDE = "_beside"
# Layers of the attention to further tokens, which models that start from text alone do not have.
IMAGE_LAYERS = ("image_embedder", "add_k_proj", "add_v_proj", "norm_added_k")
# Words for adapters -> the weights that they mean.
WORDS = {
    "new": [f"{place}.*" for place in NEW_LAYERS],
    "attention": ["*.attn1.*", "*.attn2.*"],
    "feed_forward": ["*.ffn.*"],
}
# In some published files, and used by nothing.
UNUSED = ("norm_added_q",)
BlockNumber = Annotated[int, Field(ge=0, le=63)]


class WanDitConfig(VideoBackboneConfig):
    """The defaults are Wan 2.1's text-to-video model of 1.3 billion weights."""

    width: Width = Field(1536, description="Channels of a token, divisible by twice the heads.")
    heads: Heads = Field(12, description="Attention heads (Wan: 128 channels each).")
    layers: Depth = Field(30, description="Transformer blocks.")
    feed_forward: Width = Field(8960, description="Channels inside the feed-forward layers.")
    patch: int = Field(
        2, ge=1, le=8, description="Side of the square of latent cells that becomes a token; a power of two."
    )
    cross_attention_width: int = Field(
        4096, ge=0, le=65_536, description="Width of text tokens (UMT5's: 4096); 0 leaves cross-attention out."
    )
    tokens: Literal["text", "own"] = Field(
        "text",
        description="How the tokens port is seen. text: beside the text, as more of its tokens, of its width. own: in the same "
        "layer, through keys and values of their own, as Wan's image-to-video model sees CLIP's; where published weights have "
        "none these start such that they add nothing.",
    )
    token_width: Width = Field(1280, description="Width of the tokens port with tokens=own (CLIP ViT-H/14's: 1280).")
    frequencies: int = Field(
        256, ge=2, le=65_536, multiple_of=2, description="Sinusoids that the noise level is told in."
    )
    view_blocks: tuple[BlockNumber, ...] | None = Field(
        None,
        min_length=1,
        max_length=64,
        description="Blocks in which views see each other, counted from 0; null: all.",
    )

    @model_validator(mode="after")
    def _agrees(self) -> "WanDitConfig":
        if self.width % (2 * self.heads):
            raise ValueError(f"width {self.width} is not divisible by twice the {self.heads} heads")
        if self.patch & (self.patch - 1):
            raise ValueError(f"patch={self.patch} is no power of two")
        if self.tokens == "own" and not self.cross_attention_width:
            raise ValueError("tokens=own needs cross-attention: give cross_attention_width")
        wrong = [number for number in self.view_blocks or () if number >= self.layers]
        if wrong or len({*(self.view_blocks or ())}) != len(self.view_blocks or ()):
            raise ValueError(f"view_blocks={list(self.view_blocks or ())} are not different blocks of {self.layers}")
        return self

    @property
    def image_width(self) -> int:
        """Width of tokens that are seen through keys and values of their own, 0 for none."""
        return self.token_width if self.tokens == "own" else 0


@dataclass(frozen=True)
class _Pass:
    """Inputs that all blocks of one forward pass share. Folded axis N = B V t; S = h w tokens of a frame.

    grid: (B, V, t); (B, 1, V t) where views are frames. cells: (h, w) of tokens. views: where these views stand, for view
    attention. embedding: (N, D) of the noise level, modulation: (N, 6, D). rotation: places in space and time; still: in space
    alone. text: (R, L, D) or None without cross-attention. image: further tokens (R, L, D) or None without layers for them.
    """

    grid: tuple[int, int, int]
    cells: tuple[int, int]
    views: ViewGrid | None
    embedding: Tensor
    modulation: Tensor
    rotation: Rotation
    still: Rotation
    text: Tensor | None
    image: Tensor | None


@dataclass(frozen=True)
class _Sites:
    """What each block is told. residuals: site -> (N, D, h, w). memories: site -> what frames see besides their clip."""

    residuals: Mapping[str, Tensor]
    memories: Mapping[str, Sequence[Memory]]


class WanDit(Backbone[WanDitConfig]):
    """The denoiser of Wan. Weights are named as in diffusers.

    New ones: view attention's, ``view_attention.block_<i>.*``; with ``memory=gated`` a gate for each head,
    ``memory_gate.block_<i>``, at the sites that some conditioner fills; with ``tokens=own`` those of ``IMAGE_LAYERS``.
    """

    library_name: ClassVar[str] = "transformer"
    # Taken over from ``WanTransformer``; its blocks are typed no further.
    patch_embedding: nn.Conv3d
    condition_embedder: Any
    blocks: Sequence[Any]
    norm_out: nn.Module
    proj_out: nn.Linear
    scale_shift_table: nn.Parameter

    def __init__(self, config: WanDitConfig, context: BackboneContext) -> None:
        super().__init__(config, context)
        self.latent_channels = context.ports.latent_channels
        layers = _layers(config, self.latent_channels, context.channels)
        for name, module in layers.named_children():
            self.add_module(name, module)
        self.scale_shift_table = layers.scale_shift_table
        view_attention = nn.ModuleDict()
        if context.view_attention is not None:
            for number in range(config.layers) if config.view_blocks is None else sorted(config.view_blocks):
                view_attention[_site(number)] = context.view_attention(config.width, config.heads)
        # A ModuleDict's type does not say what it holds.
        self.view_attention = cast(Mapping[str, ViewAttention], view_attention)
        self.memory_gate = nn.ParameterDict()
        if config.memory == "gated":
            for site in sorted(context.memory):
                self.memory_gate[site] = nn.Parameter(torch.zeros(config.heads))
        for block in self.blocks if config.tokens == "own" else ():
            zero_module(block.attn2.add_v_proj)
        if config.init == "residual_zero":
            self._zero_residual_branches()
        self._run = BlockRunner()

    @classmethod
    def has_view_layers(cls, config: WanDitConfig) -> bool:
        return not config.views_as_frames

    def weight_blocks(self) -> Iterator[nn.Module]:
        yield from self.blocks
        yield from own_blocks(self.config, self.view_attention.values())

    @classmethod
    def reuses(cls, config: WanDitConfig) -> bool:
        return len(deep_blocks(config, config.layers)) > 0

    @classmethod
    def weight_words(cls) -> Mapping[str, Sequence[str]]:
        return WORDS

    @classmethod
    def layer_named(cls, name: str) -> str:
        return library_layer(name)

    @classmethod
    def ports(cls, config: WanDitConfig, latents: LatentShape) -> Ports:
        """Residual sites ``stem`` (patch tokens) and ``block_<i>`` (behind it); memory sites are the same blocks, for pictures
        that lie where the frame's own lies, and ``block_<i>_beside``, for those to the right of it.
        """
        blocks = {
            _site(number): Site(config.width, config.patch, early=2 * number < config.layers)
            for number in range(config.layers)
        }
        return Ports(
            latent_channels=latents.channels,
            latent_stride=latents.stride,
            temporal_stride=latents.temporal_stride,
            residuals={"stem": Site(config.width, config.patch), **blocks},
            memory=blocks,
            beside={site + BESIDE: place for site, place in blocks.items()},
            token_width=config.image_width or config.cross_attention_width,
            text_width=config.cross_attention_width,
            embedding_width=config.width,
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
        """See ``Backbone.forward``. The deep half is the blocks in the middle, of which the change of the tokens is kept, as in
        Delta-DiT (arXiv 2406.01125). Raises: HvgError where the latents cannot be cut into tokens.
        """
        views = self._seen_views(noisy, grid)
        x, state, sites = self._begun(noisy, level, conditioning, frame_index, views)

        def through(x: Tensor, blocks: range) -> Tensor:
            for number in blocks:
                x = self._through(number, x, state, sites)
            return x

        middle = deep_blocks(self.config, len(self.blocks))
        x = through(x, range(middle.start))
        (x,) = [through(x, middle)] if deep is None else deep.changed([x], lambda x: [through(x, middle)])
        x = through(x, range(middle.stop, len(self.blocks)))
        shift, scale = (self.scale_shift_table + state.embedding[:, None]).chunk(2, dim=1)
        out = self.proj_out(modulated(self.norm_out, x, shift, scale))
        return unfold_frames(self._pictures(out, state.cells), noisy.shape[:3])

    def attended(
        self,
        noisy: Tensor,
        level: Tensor,
        conditioning: Conditioning,
        frame_index: Tensor | None = None,
        grid: ViewGrid | None = None,
        sites: Sequence[str] | None = None,
    ) -> dict[str, Tensor]:
        """See ``Backbone.attended``."""
        wanted = [_site(number) for number in range(len(self.blocks))] if sites is None else sites
        views = None if grid is None else self._seen_views(noisy, grid)
        x, state, told = self._begun(noisy, level, conditioning, frame_index, views)
        seen: dict[str, Tensor] = {}
        for number, block in enumerate(self.blocks):
            if here := [site for site in wanted if site.removesuffix(BESIDE) == _site(number)]:
                tokens = run_block(block, self._seen_tokens, block, x, state)
                seen |= dict.fromkeys(here, unfold_frames(tokens, noisy.shape[:3]))
            if len(seen) == len(wanted):
                break
            x = self._through(number, x, state, told)
        return seen

    def load_pretrained(self) -> list[str]:
        if self.config.weights is None:
            return []
        published = Component(place=self.config.weights, name="transformer", setting="backbone.weights")
        settings, new = _library_settings(self.config, self.latent_channels), NEW_LAYERS
        if self.config.tokens == "own" and published.settings().get("image_dim") is None:
            settings, new = settings | {"image_dim": None, "added_kv_proj_dim": None}, (*new, *IMAGE_LAYERS)
        return load_network(self, published, settings, new, first="patch_embedding", ignored=UNUSED)

    def reference_encoder(self, sites: Sequence[str], checkpointing: bool = False) -> nn.Module:
        """See ``Backbone.reference_encoder``. The photo is clean: the copy is told time step 0, and reads nothing."""
        copied = self._stills(sites)
        return WanReferenceEncoder(self.patch_embedding, self.latent_channels, *copied, checkpointing=checkpointing)

    def control_encoder(self, sites: Sequence[str], checkpointing: bool = False) -> nn.Module:
        return WanControlEncoder(*self._stills(sites), checkpointing=checkpointing)

    def spatial_attention(self) -> Iterator[tuple[ViewAttention, nn.Module, nn.Module]]:
        for number, block in enumerate(self.blocks):
            if _site(number) in self.view_attention:
                yield self.view_attention[_site(number)], block.norm1, block.attn1

    def _seen_views(self, noisy: Tensor, grid: ViewGrid | None) -> ViewGrid | None:
        """The grid that view attention sees; None where there is none. Raises: HvgError as of ``forward``."""
        return (
            seen_views(grid, clip_grid(self.config, noisy)).resized(self._cells(noisy)) if self.view_attention else None
        )

    def _begun(
        self,
        noisy: Tensor,
        level: Tensor,
        conditioning: Conditioning,
        frame_index: Tensor | None,
        views: ViewGrid | None,
    ) -> tuple[Tensor, _Pass, _Sites]:
        """Tokens (N, S, D) ahead of the first block, what all blocks share, and what each is told."""
        b, v, t = noisy.shape[:3]
        cells, shape = self._cells(noisy), clip_grid(self.config, noisy)
        if conditioning.channels is not None:
            channels = conditioning.channels.expand(b, v, t, *conditioning.channels.shape[3:])
            noisy = torch.cat([noisy, channels.to(noisy.dtype)], dim=3)
        embedding = self._embed(level, noisy.dtype, conditioning.embedding)
        places, head_width = frame_places(frame_index, shape, noisy), self.config.width // self.config.heads

        @cache
        def lying(still: bool, beside: bool) -> Rotation:
            where = torch.zeros_like(places[:1, :1]) if still else places
            return Rotation.at(where, cells, head_width, cells[1] if beside else 0)

        memories, gates = defaultdict[str, list[Memory]](list), dict(self.memory_gate.items())
        for site, tokens in conditioning.memory.items():
            gate, beside = gates.get(site), site.endswith(BESIDE)
            folded = fold_shared(tokens, (b, v, t)).to(noisy.dtype)
            memories[site.removesuffix(BESIDE)].append(Memory(folded, lying(gate is not None, beside), beside, gate))
        residuals = {site: fold_frames(x.expand(b, v, t, -1, -1, -1)) for site, x in conditioning.residuals.items()}
        state = _Pass(
            grid=shape,
            cells=cells,
            views=views,
            embedding=embedding,
            modulation=self._modulation(embedding),
            rotation=lying(False, False),
            still=lying(True, False),
            text=self._text(conditioning, noisy),
            image=self._image(conditioning, noisy),
        )
        x = patches(self.patch_embedding, fold_frames(noisy))
        if "stem" in residuals:
            x = x + residuals["stem"]
        return x.flatten(2).mT.contiguous(), state, _Sites(residuals, memories)

    def _through(self, number: int, x: Tensor, state: _Pass, sites: _Sites) -> Tensor:
        """Tokens (N, S, D) behind a block, with what is added there."""
        site = _site(number)
        views = dict(self.view_attention.items()).get(site)
        x = self._run(self.config, self._block, self.blocks[number], views, x, state, sites.memories.get(site, ()))
        return x + sites.residuals[site].flatten(2).mT if site in sites.residuals else x

    def _six(self, block: Any, state: _Pass) -> tuple[Tensor, ...]:
        """Shift, scale and gate, each (N, 1, D), of a block's self-attention, then those of its feed-forward layers."""
        return (block.scale_shift_table + state.modulation.float()).chunk(6, dim=1)

    def _seen_tokens(self, block: Any, x: Tensor, state: _Pass) -> Tensor:
        """Tokens (N, S, D) that a block's self-attention sees."""
        shift, scale, *_ = self._six(block, state)
        return modulated(block.norm1, x, shift, scale)

    def _block(
        self, block: Any, views: ViewAttention | None, x: Tensor, state: _Pass, memories: Sequence[Memory]
    ) -> Tensor:
        """Tokens (N, S, D) -> same."""
        shift, scale, attention_gate, ff_shift, ff_scale, ff_gate = self._six(block, state)
        seen = modulated(block.norm1, x, shift, scale)
        mixed = self_attention(block.attn1, seen, state.rotation, state.grid, memories, state.still)
        x = with_branch(x, mixed, attention_gate)
        if views is not None and state.views is not None:
            x = views(x.view(*state.grid, *state.cells, -1), state.views).reshape(x.shape)
        if state.text is not None:
            x = x + cross_attention(block.attn2, block.norm2(x.float()).type_as(x), state.text, state.image)
        return with_branch(x, block.ffn(modulated(block.norm3, x, ff_shift, ff_scale)), ff_gate)

    def _cells(self, noisy: Tensor) -> tuple[int, int]:
        """Tokens (h, w) that the latents (B, V, t, C, h, w) are cut into."""
        height, width = noisy.shape[4:]
        if height % self.config.patch or width % self.config.patch:
            raise HvgError(f"latents of {height} x {width} cells are not cut into patches of {self.config.patch}")
        return height // self.config.patch, width // self.config.patch

    def _embed(self, level: Tensor, dtype: torch.dtype, extra: Tensor | None) -> Tensor:
        """Noise levels (B, V, t) and the embedding port -> (N, D)."""
        embedder = self.condition_embedder
        # Sinusoids come out in float32 whatever the network's type is.
        embedding = embedder.time_embedder(embedder.timesteps_proj(level.flatten()).to(dtype))
        return embedding if extra is None else embedding + fold_frames(extra.expand(*level.shape, -1))

    def _modulation(self, embedding: Tensor) -> Tensor:
        """Shifts, scales and gates (N, 6, D) of the noise level."""
        return self.condition_embedder.time_proj(self.condition_embedder.act_fn(embedding)).unflatten(1, (6, -1))

    def _text(self, conditioning: Conditioning, noisy: Tensor) -> Tensor | None:
        """Text as the blocks see it, (R, L, D). Where there is none it is one zero token: what a prompt of padding alone is."""
        if not self.config.cross_attention_width:
            return None
        text = conditioning.text if self.config.tokens == "own" else conditioning.context
        return self.condition_embedder.text_embedder(_tokens(text, self.config.cross_attention_width, noisy))

    def _image(self, conditioning: Conditioning, noisy: Tensor) -> Tensor | None:
        """Further tokens as the blocks see them, (R, L, D); one zero token where there are none."""
        if not self.config.image_width:
            return None
        return self.condition_embedder.image_embedder(_tokens(conditioning.tokens, self.config.image_width, noisy))

    def _pictures(self, tokens: Tensor, cells: tuple[int, int]) -> Tensor:
        """(N, S, patch patch C) -> (N, C, h, w); the library has the channels of a cell side by side."""
        patch = self.config.patch
        cut = tokens.unflatten(1, cells).unflatten(-1, (patch, patch, -1))
        return cut.permute(0, 5, 1, 3, 2, 4).flatten(4, 5).flatten(2, 3)

    @torch.no_grad()
    def _stills(self, sites: Sequence[str]) -> tuple[Mapping[str, Any], Tensor, Mapping[str, Tensor], Sequence[str]]:
        """What a copy for pictures without noise and text is made of, as ``WanReferenceEncoder`` takes it."""
        weight, nothing = self.proj_out.weight, Conditioning()
        level = weight.new_full((1, 1, 1), self.clean_level)
        modulation = self._modulation(self._embed(level, weight.dtype, None))[0]
        text, image = self._text(nothing, weight), self._image(nothing, weight)
        blocks = {_site(number): block for number, block in enumerate(self.blocks)}
        told = {site: told_by_one_token(block.attn2, text, image) for site, block in blocks.items() if text is not None}
        return blocks, modulation, told, sites

    @torch.no_grad()
    def _zero_residual_branches(self) -> None:
        """Blocks start as identities whose branches count in full, and the network at 0, at every noise level.

        Source: adaLN-Zero (DiT, arXiv 2212.09748). We differ: what is zero is the last layer of a branch, not its gate.
        """
        for block in self.blocks:
            for layer in (block.attn1.to_out[0], block.ffn.net[2], *([block.attn2.to_out[0]] if block.attn2 else [])):
                zero_module(layer)
            block.scale_shift_table.zero_()
            block.scale_shift_table[:, [2, 5]] = 1
        self.scale_shift_table.zero_()
        for layer in (self.proj_out, self.condition_embedder.time_proj):
            zero_module(layer)


def _site(number: int) -> str:
    return f"block_{number}"


def _tokens(given: Tensor | None, width: int, like: Tensor) -> Tensor:
    """Tokens (B, V, t, L, width) of latents alike -> (R, L, width); one row of one zero token where there are none."""
    if given is None:
        return like.new_zeros(1, 1, width)
    b, v, t = like.shape[:3]
    return fold_shared(given, (b, v, t)).to(like.dtype)


def _layers(config: WanDitConfig, latent_channels: int, extra_channels: int) -> WanTransformer:
    """The library's layers, freshly initialised."""
    return WanTransformer(
        (latent_channels + extra_channels, latent_channels),
        config.width,
        config.heads,
        config.layers,
        feed_forward=config.feed_forward,
        patch=config.patch,
        text_width=config.cross_attention_width,
        image_width=config.image_width,
        frequencies=config.frequencies,
    )


def _library_settings(config: WanDitConfig, latent_channels: int) -> dict[str, Any]:
    """The settings of diffusers' ``WanTransformer3DModel``, all but its input channels."""
    return {
        "patch_size": (1, config.patch, config.patch),
        "num_attention_heads": config.heads,
        "attention_head_dim": config.width // config.heads,
        "out_channels": latent_channels,
        "text_dim": config.cross_attention_width,
        "freq_dim": config.frequencies,
        "ffn_dim": config.feed_forward,
        "num_layers": config.layers,
        "cross_attn_norm": True,
        "qk_norm": "rms_norm_across_heads",
        "eps": EPSILON,
        "image_dim": config.image_width or None,
        "added_kv_proj_dim": config.width if config.image_width else None,
        "pos_embed_seq_len": None,
    }
