"""The layers of diffusers' ``FluxTransformer2DModel``, of the library's layers and under its names.

The library's own class lies behind imports of every transformer that diffusers has. Layers are made in the library's order, so
that one seed gives the same weights.
"""

import torch
from torch import Tensor, nn

from .wan_transformer import RMSNorm

EPSILON = 1e-6
# Sinusoids in which a noise level, and the strength of guidance, are told; and channels inside a feed-forward layer, in widths.
FREQUENCIES, FEED_FORWARD = 256, 4
# The strength of guidance is told times this, as noise levels are.
GUIDANCE_STEPS = 1000
# Layers of an attention that only text goes through.
TEXT_LAYERS = ("norm_added_q", "norm_added_k", "add_q_proj", "add_k_proj", "add_v_proj", "to_add_out")


class FluxTransformer(nn.Module):
    """Layers without a forward pass: ``FluxKontext`` has its own.

    features: of a token that comes in, and of one that goes out. blocks: how many of two streams, and of one. text_width: of text
    tokens; 0 leaves the stream of text out. pooled_width: of a text as one vector, 0 for none. guided: whether the strength of
    guidance is told.
    """

    def __init__(
        self,
        features: tuple[int, int],
        width: int,
        heads: int,
        blocks: tuple[int, int],
        *,
        text_width: int,
        pooled_width: int,
        guided: bool,
    ) -> None:
        from diffusers.models.normalization import AdaLayerNormContinuous

        super().__init__()
        self.time_text_embed = _Embedder(width, pooled_width, guided)
        self.context_embedder = nn.Linear(text_width, width) if text_width else None
        self.x_embedder = nn.Linear(features[0], width)
        double, single = blocks
        self.transformer_blocks = nn.ModuleList(_DoubleBlock(width, heads, text_width > 0) for _ in range(double))
        self.single_transformer_blocks = nn.ModuleList(_SingleBlock(width, heads) for _ in range(single))
        self.norm_out = AdaLayerNormContinuous(width, width, elementwise_affine=False, eps=EPSILON)
        self.proj_out = nn.Linear(width, features[1])


class _Embedder(nn.Module):
    """The noise level, the strength of guidance and a text as one vector -> the network's width."""

    def __init__(self, width: int, pooled_width: int, guided: bool) -> None:
        from diffusers.models.embeddings import PixArtAlphaTextProjection, TimestepEmbedding, Timesteps

        super().__init__()
        self.time_proj = Timesteps(FREQUENCIES, flip_sin_to_cos=True, downscale_freq_shift=0)
        self.timestep_embedder = TimestepEmbedding(FREQUENCIES, width)
        self.guidance_embedder = TimestepEmbedding(FREQUENCIES, width) if guided else None
        self.text_embedder = PixArtAlphaTextProjection(pooled_width, width, act_fn="silu") if pooled_width else None

    def forward(self, level: Tensor, guidance: float, pooled: Tensor, dtype: torch.dtype) -> Tensor:
        """Noise levels (N) and pooled texts (N, P) or (1, P) -> (N, D)."""
        # Sinusoids come out in float32 whatever the network's type is.
        embedding = self.timestep_embedder(self.time_proj(level).to(dtype))
        if self.guidance_embedder is not None:
            told = level.new_full((1,), GUIDANCE_STEPS * guidance)
            embedding = embedding + self.guidance_embedder(self.time_proj(told).to(dtype))
        return embedding if self.text_embedder is None else embedding + self.text_embedder(pooled.to(dtype))


class _DoubleBlock(nn.Module):
    """Pictures and text, each with layers of its own, and one attention among all of them."""

    def __init__(self, width: int, heads: int, text: bool) -> None:
        from diffusers.models.attention import FeedForward
        from diffusers.models.normalization import AdaLayerNormZero

        super().__init__()
        self.norm1 = AdaLayerNormZero(width)
        self.norm1_context = AdaLayerNormZero(width) if text else None
        self.attn = _Attention(width, heads, text)
        self.norm2 = nn.LayerNorm(width, EPSILON, elementwise_affine=False)
        self.ff = FeedForward(width, width, mult=FEED_FORWARD, activation_fn="gelu-approximate")
        self.norm2_context = nn.LayerNorm(width, EPSILON, elementwise_affine=False) if text else None
        self.ff_context = (
            FeedForward(width, width, mult=FEED_FORWARD, activation_fn="gelu-approximate") if text else None
        )


class _SingleBlock(nn.Module):
    """Pictures and text in one stream; attention and feed-forward lie beside each other."""

    def __init__(self, width: int, heads: int) -> None:
        from diffusers.models.normalization import AdaLayerNormZeroSingle

        super().__init__()
        self.norm = AdaLayerNormZeroSingle(width)
        self.proj_mlp = nn.Linear(width, FEED_FORWARD * width)
        self.act_mlp = nn.GELU(approximate="tanh")
        self.proj_out = nn.Linear((1 + FEED_FORWARD) * width, width)
        self.attn = _Attention(width, heads, text=False, out=False)


class _Attention(nn.Module):
    """Projections; queries and keys are normalised head by head. Text may go through projections of its own."""

    def __init__(self, width: int, heads: int, text: bool, out: bool = True) -> None:
        super().__init__()
        self.heads = heads
        self.norm_q, self.norm_k = (RMSNorm(width // heads, eps=EPSILON) for _ in range(2))
        self.to_q, self.to_k, self.to_v = (nn.Linear(width, width) for _ in range(3))
        if out:
            self.to_out = nn.ModuleList([nn.Linear(width, width), nn.Dropout(0.0)])
        if text:
            self.norm_added_q, self.norm_added_k = (RMSNorm(width // heads, eps=EPSILON) for _ in range(2))
            self.add_q_proj, self.add_k_proj, self.add_v_proj, self.to_add_out = (
                nn.Linear(width, width) for _ in range(4)
            )
