"""FLUX Kontext's transformer of pictures with ports for conditioning, and view attention behind its blocks.

Source: FLUX.1 Kontext (arXiv 2506.15742); layers and parameter names of diffusers' ``FluxTransformer2DModel``. Every view and
frame is a picture by itself. Reference pictures are tokens behind those of the picture that is made, numbered 1, 2, ... in the
first of three axes of their rotary positions, where that one is 0.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any, ClassVar, Literal, cast

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn.functional import pad, pixel_shuffle, pixel_unshuffle

from hvg.core.bounds import Depth, GuidanceScale, Heads, Width
from hvg.core.errors import HvgError
from hvg.parts.backbone import Backbone, DeepFeatures
from hvg.parts.blocks import run_block
from hvg.parts.context import BackboneContext
from hvg.parts.continued import Continued
from hvg.parts.pretrained import Component
from hvg.parts.view_attention import ViewAttention
from hvg.parts.zero import zero_module
from hvg.values.conditioning import Conditioning, LatentShape, Ports, Site
from hvg.values.grid import ViewGrid
from hvg.values.layout import fold_frames, unfold_frames

from ..nn.flux_attention import (
    Memory,
    Places,
    attention_of_single,
    double_block,
    memory_ids,
    picture_ids,
    single_block,
)
from ..nn.flux_copies import FluxControlEncoder, FluxReferenceEncoder
from ..nn.flux_transformer import FluxTransformer
from ..nn.published_network import load_network
from ..nn.video_backbone import (
    NEW_LAYERS,
    BlockRunner,
    DenoiserConfig,
    deep_blocks,
    fold_shared,
    own_blocks,
    seen_views,
)

# Words for adapters -> the weights that they mean.
WORDS = {
    "new": [f"{place}.*" for place in NEW_LAYERS],
    "attention": ["*.attn.*"],
    "feed_forward": ["*.ff.*", "*.ff_context.*", "*.proj_mlp*", "single_transformer_blocks.*.proj_out*"],
}
BlockNumber = Annotated[int, Field(ge=0, le=127)]
AxisWidth = Annotated[int, Field(ge=0, le=1024, multiple_of=2)]


class FluxKontextConfig(DenoiserConfig):
    """The defaults are FLUX.1 Kontext's, 12 billion weights."""

    width: Width = Field(3072, description="Channels of a token.")
    heads: Heads = Field(24, description="Attention heads (FLUX: 128 channels each).")
    double_blocks: Depth = Field(
        19, description="Blocks in which pictures and text have layers of their own, and one attention; the first ones."
    )
    single_blocks: Depth = Field(38, description="Blocks of one stream, which come behind them.")
    axes: tuple[AxisWidth, AxisWidth, AxisWidth] = Field(
        (16, 56, 56),
        description="Channels of a head that say which picture a token is of, its row, and its column; all of a head's.",
    )
    patch: int = Field(
        2, ge=1, le=8, description="Side of the square of latent cells that becomes a token; a power of two."
    )
    cross_attention_width: int = Field(
        4096,
        ge=0,
        le=65_536,
        description="Width of text tokens (T5-XXL's: 4096), beside which the tokens port is seen; 0: no stream of text.",
    )
    pooled_width: int = Field(
        768, ge=0, le=65_536, description="Width of a text as one vector (CLIP ViT-L/14's: 768); 0 for none."
    )
    guidance: Literal["none", "told"] = Field(
        "told", description="told: the network hears how strongly it is to be guided, as distilled ones do."
    )
    guidance_scale: Annotated[GuidanceScale, Continued.SAMPLING] = Field(
        3.5, description="With guidance=told: that strength, in training and sampling."
    )
    view_blocks: tuple[BlockNumber, ...] | None = Field(
        None,
        min_length=1,
        max_length=128,
        description="Blocks behind which views see each other, counted from 0 through both kinds; null: all.",
    )

    @model_validator(mode="after")
    def _agrees(self) -> "FluxKontextConfig":
        if self.width % self.heads:
            raise ValueError(f"width {self.width} is not divisible by {self.heads} heads")
        if sum(self.axes) != self.width // self.heads:
            raise ValueError(f"axes={list(self.axes)} are not the {self.width // self.heads} channels of a head in all")
        if self.patch & (self.patch - 1):
            raise ValueError(f"patch={self.patch} is no power of two")
        count, chosen = self.double_blocks + self.single_blocks, self.view_blocks or ()
        if len({*chosen}) != len(chosen) or any(number >= count for number in chosen):
            raise ValueError(f"view_blocks={list(chosen)} are not different blocks of {count}")
        return self


@dataclass(frozen=True)
class _Pass:
    """Inputs that all blocks of one forward pass share. Folded axis N = B V t; S = h w tokens of the picture that is made.

    grid: (B, V, t). cells: (h, w) of tokens. views: where these views stand, for view attention. embedding: (N, D). places: of
    text, the picture that is made, and reference pictures.
    """

    grid: tuple[int, int, int]
    cells: tuple[int, int]
    views: ViewGrid | None
    embedding: Tensor
    places: Places


class FluxKontext(Backbone[FluxKontextConfig]):
    """The denoiser of FLUX Kontext. Weights are named as in diffusers.

    New ones: view attention's, ``view_attention.block_<i>.*``; with ``memory=gated`` a gate for each head,
    ``memory_gate.block_<i>``, at the sites that some conditioner fills.
    """

    library_name: ClassVar[str] = "transformer"
    # Taken over from ``FluxTransformer``; its blocks are typed no further.
    time_text_embed: Any
    context_embedder: nn.Module | None
    x_embedder: nn.Linear
    transformer_blocks: Sequence[Any]
    single_transformer_blocks: Sequence[Any]
    norm_out: nn.Module
    proj_out: nn.Linear

    def __init__(self, config: FluxKontextConfig, context: BackboneContext) -> None:
        super().__init__(config, context)
        self.latent_channels, self.extra_channels = context.ports.latent_channels, context.channels
        layers = FluxTransformer(
            (config.patch**2 * (self.latent_channels + context.channels), config.patch**2 * self.latent_channels),
            config.width,
            config.heads,
            (config.double_blocks, config.single_blocks),
            text_width=config.cross_attention_width,
            pooled_width=config.pooled_width,
            guided=config.guidance == "told",
        )
        for name, module in layers.named_children():
            self.add_module(name, module)
        if not config.cross_attention_width:
            self.context_embedder = None
        view_attention = nn.ModuleDict()
        if context.view_attention is not None:
            for site, _ in self._blocks():
                if config.view_blocks is None or site in map(_site, config.view_blocks):
                    view_attention[site] = context.view_attention(config.width, config.heads)
        # A ModuleDict's type does not say what it holds.
        self.view_attention = cast(Mapping[str, ViewAttention], view_attention)
        self.memory_gate = nn.ParameterDict()
        if config.memory == "gated":
            for site in sorted(context.memory):
                self.memory_gate[site] = nn.Parameter(torch.zeros(config.heads))
        if config.init == "residual_zero":
            self._zero_residual_branches()
        self._run = BlockRunner()

    @classmethod
    def sees_time(cls, config: FluxKontextConfig) -> bool:
        return False

    def weight_blocks(self) -> Iterator[nn.Module]:
        yield from (block for _, block in self._blocks())
        yield from own_blocks(self.config, self.view_attention.values())

    @classmethod
    def reuses(cls, config: FluxKontextConfig) -> bool:
        return len(deep_blocks(config, config.double_blocks + config.single_blocks)) > 0

    @classmethod
    def weight_words(cls) -> Mapping[str, Sequence[str]]:
        return WORDS

    @classmethod
    def ports(cls, config: FluxKontextConfig, latents: LatentShape) -> Ports:
        """Residual sites ``stem`` (patch tokens) and ``block_<i>`` (behind it); memory sites are the same blocks."""
        count = config.double_blocks + config.single_blocks
        blocks = {_site(n): Site(config.width, config.patch, early=2 * n < count) for n in range(count)}
        return Ports(
            latent_channels=latents.channels,
            latent_stride=latents.stride,
            temporal_stride=latents.temporal_stride,
            residuals={"stem": Site(config.width, config.patch), **blocks},
            memory=blocks,
            token_width=config.cross_attention_width,
            text_width=config.cross_attention_width,
            pooled_width=config.pooled_width,
            embedding_width=config.width,
            channels=True,
            pictures=True,
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
        """See ``Backbone.forward``; ``frame_index`` is not asked. The deep half is as of ``WanDit``, of both kinds of blocks.

        Raises: HvgError where latents cannot be cut into tokens.
        """
        x, text, state = self._begun(noisy, level, conditioning, self._seen_views(noisy, grid))
        blocks = [*self._blocks()]

        def through(some: range, x: Tensor, text: Tensor | None = None) -> list[Tensor]:
            for site, block in (blocks[number] for number in some):
                x, text = self._through(site, block, x, text, state, conditioning)
            return [x] if text is None else [x, text]

        middle = deep_blocks(self.config, len(blocks))
        streams = through(range(middle.start), x, text)
        inside = partial(through, middle)
        streams = inside(*streams) if deep is None else deep.changed(streams, inside)
        x, *_ = through(range(middle.stop, len(blocks)), *streams)
        out = self.proj_out(self.norm_out(self._made(x, state), state.embedding))
        return unfold_frames(pixel_shuffle(out.mT.unflatten(2, state.cells), self.config.patch), state.grid)

    def attended(
        self,
        noisy: Tensor,
        level: Tensor,
        conditioning: Conditioning,
        frame_index: Tensor | None = None,
        grid: ViewGrid | None = None,
        sites: Sequence[str] | None = None,
    ) -> dict[str, Tensor]:
        """See ``Backbone.attended``. Tokens are those of the picture that is made."""
        wanted = [site for site, _ in self._blocks()] if sites is None else sites
        views = None if grid is None else self._seen_views(noisy, grid)
        x, text, state = self._begun(noisy, level, conditioning, views)
        seen: dict[str, Tensor] = {}
        for site, block in self._blocks():
            if site in wanted:
                seen[site] = unfold_frames(run_block(block, self._seen_tokens, block, x, state), state.grid)
            if len(seen) == len(wanted):
                break
            x, text = self._through(site, block, x, text, state, conditioning)
        return seen

    def load_pretrained(self) -> list[str]:
        if self.config.weights is None:
            return []
        published = Component(place=self.config.weights, name="transformer", setting="backbone.weights")
        settings = _library_settings(self.config)
        # Files from before the library had it mean its default.
        stated = published.settings().get("axes_dims_rope")
        if stated is None and self.config.axes == (16, 56, 56):
            del settings["axes_dims_rope"]
        return load_network(self, published, settings, NEW_LAYERS, first="x_embedder")

    def reference_encoder(self, sites: Sequence[str], checkpointing: bool = False) -> nn.Module:
        """See ``Backbone.reference_encoder``. The photo is clean: the copy is told time step 0, and reads nothing."""
        features = self.config.patch**2 * self.latent_channels
        copied = dict(self._blocks()), self._clean(), self.config.axes, sites
        return FluxReferenceEncoder(self.x_embedder, features, self.config.patch, *copied, checkpointing=checkpointing)

    def control_encoder(self, sites: Sequence[str], checkpointing: bool = False) -> nn.Module:
        copied = dict(self._blocks()), self._clean(), self.config.axes, sites
        return FluxControlEncoder(*copied, checkpointing=checkpointing)

    def spatial_attention(self) -> Iterator[tuple[ViewAttention, nn.Module, nn.Module]]:
        for site, block in self._blocks():
            if site in self.view_attention:
                attention = block.attn if _has_two_streams(block) else attention_of_single(block)
                yield self.view_attention[site], _norm(block).norm, attention

    def _blocks(self) -> Iterator[tuple[str, Any]]:
        """Site and block, in the order in which they run."""
        for number, block in enumerate([*self.transformer_blocks, *self.single_transformer_blocks]):
            yield _site(number), block

    def _seen_views(self, noisy: Tensor, grid: ViewGrid | None) -> ViewGrid | None:
        """The grid that view attention sees; None where there is none. Raises: HvgError as of ``forward``."""
        return seen_views(grid, (noisy.shape[0], noisy.shape[1], noisy.shape[2])) if self.view_attention else None

    def _begun(
        self, noisy: Tensor, level: Tensor, conditioning: Conditioning, views: ViewGrid | None
    ) -> tuple[Tensor, Tensor | None, _Pass]:
        """Tokens of pictures (N, S + R S', D) and of text (N, L, D) ahead of the first block, and what all blocks share."""
        b, v, t = shape = noisy.shape[0], noisy.shape[1], noisy.shape[2]
        if conditioning.channels is not None:
            channels = conditioning.channels.expand(b, v, t, *conditioning.channels.shape[3:])
            noisy = torch.cat([noisy, channels.to(noisy.dtype)], dim=3)
        x = self._cells(fold_frames(noisy))
        cells = (x.shape[2], x.shape[3])
        x = self.x_embedder(x.flatten(2).mT)
        if "stem" in conditioning.residuals:
            x = x + _residual(conditioning, "stem", shape)
        text = self._text(conditioning, noisy)
        ids = [picture_ids(0, cells, noisy.device)]
        if text is not None:
            ids = [ids[0].new_zeros(text.shape[1], 3), *ids]
        if conditioning.pictures is not None:
            seen, more = self._pictures(fold_frames(conditioning.pictures.expand(*shape, -1, -1, -1, -1)).to(noisy))
            x, ids = torch.cat([x, seen], dim=1), [*ids, *more]
        state = _Pass(
            grid=shape,
            cells=cells,
            views=None if views is None else views.resized(cells),
            embedding=self._embed(level.expand(shape), noisy.dtype, conditioning),
            places=Places.of(torch.cat(ids), self.config.axes),
        )
        return x, text, state

    def _through(
        self, site: str, block: Any, x: Tensor, text: Tensor | None, state: _Pass, conditioning: Conditioning
    ) -> tuple[Tensor, Tensor | None]:
        """Tokens of pictures and of text behind a block, with what is added there."""
        views, memory = dict(self.view_attention.items()).get(site), self._memory(site, conditioning, state)
        x, text = self._run(self.config, self._block, block, views, x, text, state, memory)
        if site in conditioning.residuals:
            made = self._made(x, state) + _residual(conditioning, site, state.grid)
            x = torch.cat([made, self._beside(x, state)], dim=1)
        return x, text

    def _seen_tokens(self, block: Any, x: Tensor, state: _Pass) -> Tensor:
        """Tokens (N, S, D) of the picture that is made, as a block's attention sees them."""
        tokens, *_ = _norm(block)(self._made(x, state), emb=state.embedding)
        return tokens

    def _block(
        self,
        block: Any,
        views: ViewAttention | None,
        x: Tensor,
        text: Tensor | None,
        state: _Pass,
        memory: Memory | None,
    ) -> tuple[Tensor, Tensor | None]:
        """Tokens of pictures (N, S + R S', D) and of text (N, L, D) -> same."""
        forward = double_block if _has_two_streams(block) else single_block
        x, text = forward(block, x, text, state.embedding, state.places, memory)
        if views is not None and state.views is not None:
            made = views(self._made(x, state).reshape(*state.grid, *state.cells, -1), state.views)
            x = torch.cat([made.flatten(3, 4).flatten(0, 2), self._beside(x, state)], dim=1)
        return x, text

    def _made(self, x: Tensor, state: _Pass) -> Tensor:
        """Tokens of the picture that is made."""
        return x[:, : state.cells[0] * state.cells[1]]

    def _beside(self, x: Tensor, state: _Pass) -> Tensor:
        """Tokens of the reference pictures."""
        return x[:, state.cells[0] * state.cells[1] :]

    def _cells(self, pictures: Tensor) -> Tensor:
        """Latents (N, C, h, w) as features of tokens (N, patch patch C, h / patch, w / patch)."""
        patch, (height, width) = self.config.patch, pictures.shape[2:]
        if height % patch or width % patch:
            raise HvgError(f"latents of {height} x {width} cells are not cut into patches of {patch}")
        return pixel_unshuffle(pictures, patch)

    def _pictures(self, pictures: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Clean latents (N, R, C, h, w) as tokens (N, R S', D), and the ids of every picture's. Further channels are 0."""
        wide = pad(pictures.flatten(0, 1), (0, 0, 0, 0, 0, self.extra_channels))
        cells = self._cells(wide)
        count, size = pictures.shape[1], (cells.shape[2], cells.shape[3])
        tokens = self.x_embedder(cells.flatten(2).mT).unflatten(0, (-1, count)).flatten(1, 2)
        return tokens, [picture_ids(1 + number, size, pictures.device) for number in range(count)]

    def _memory(self, site: str, conditioning: Conditioning, state: _Pass) -> Memory | None:
        if site not in conditioning.memory:
            return None
        tokens = fold_shared(conditioning.memory[site], state.grid).to(state.embedding.dtype)
        ids = memory_ids(tokens.shape[1], state.cells, tokens.device)
        return Memory(tokens, Places.of(ids, self.config.axes), self.memory_gate.get(site))

    def _embed(self, level: Tensor, dtype: torch.dtype, conditioning: Conditioning) -> Tensor:
        """Noise levels (B, V, t), and the ports ``pooled`` and ``embedding`` -> (N, D)."""
        pooled, extra = conditioning.pooled, conditioning.embedding
        told = (
            level.new_zeros(1, self.config.pooled_width)
            if pooled is None
            else fold_frames(pooled.expand(*level.shape, -1))
        )
        embedding = self.time_text_embed(level.flatten(), self.config.guidance_scale, told, dtype)
        return embedding if extra is None else embedding + fold_frames(extra.expand(*level.shape, -1))

    def _text(self, conditioning: Conditioning, noisy: Tensor) -> Tensor | None:
        """Text as the blocks see it, (N, L, D); one zero token where there is none."""
        if self.context_embedder is None:
            return None
        given, grid = conditioning.context, noisy.shape[:3]
        if given is None:
            given = noisy.new_zeros(1, 1, 1, 1, self.config.cross_attention_width)
        return self.context_embedder(fold_frames(given.expand(*grid, -1, -1)).to(noisy.dtype))

    @torch.no_grad()
    def _clean(self) -> Tensor:
        """What the blocks of a copy are told, (1, D): no noise, and nothing else."""
        weight = self.proj_out.weight
        return self._embed(weight.new_full((1, 1, 1), self.clean_level), weight.dtype, Conditioning())

    @torch.no_grad()
    def _zero_residual_branches(self) -> None:
        """Blocks start as identities whose branches count in full, and the network at 0, at every noise level.

        Source: adaLN-Zero (DiT, arXiv 2212.09748). We differ: what is zero is the last layer of a branch, not its gate.
        """
        for block in self.transformer_blocks:
            text = [block.attn.to_add_out, block.ff_context.net[2]] if block.norm1_context else []
            for layer in (block.attn.to_out[0], block.ff.net[2], *text):
                zero_module(layer)
            for norm in filter(None, (block.norm1, block.norm1_context)):
                _open_gates(norm.linear, 6, (2, 5))
        for block in self.single_transformer_blocks:
            zero_module(block.proj_out)
            _open_gates(block.norm.linear, 3, (2,))
        norm_out: Any = self.norm_out
        for layer in (norm_out.linear, self.proj_out):
            zero_module(layer)


def _site(number: int) -> str:
    return f"block_{number}"


def _has_two_streams(block: Any) -> bool:
    return hasattr(block, "norm1")


def _norm(block: Any) -> Any:
    """The norm ahead of a block's attention, with what the noise level does to it."""
    return block.norm1 if _has_two_streams(block) else block.norm


def _residual(conditioning: Conditioning, site: str, grid: tuple[int, int, int]) -> Tensor:
    """What is added at a site, as tokens (N, S, D)."""
    return fold_frames(conditioning.residuals[site].expand(*grid, -1, -1, -1)).flatten(2).mT


def _open_gates(layer: nn.Linear, rows: int, gates: Sequence[int]) -> None:
    """No shift, no scale, and gates of 1, whatever the noise level. rows: that the layer gives, of which some are gates."""
    zero_module(layer)
    layer.bias.view(rows, -1)[list(gates)] = 1


def _library_settings(config: FluxKontextConfig) -> dict[str, Any]:
    """The settings of diffusers' ``FluxTransformer2DModel``, all but the features of its tokens."""
    return {
        "num_layers": config.double_blocks,
        "num_single_layers": config.single_blocks,
        "attention_head_dim": config.width // config.heads,
        "num_attention_heads": config.heads,
        "joint_attention_dim": config.cross_attention_width,
        "pooled_projection_dim": config.pooled_width,
        "guidance_embeds": config.guidance == "told",
        "axes_dims_rope": list(config.axes),
    }
