"""The layers of diffusers' ``WanTransformer3DModel``, of the library's layers and under its names.

The library's own class lies behind imports of every transformer that diffusers has: seconds, in each process that starts.
Layers are made in the library's order, so that one seed gives the same weights.
"""

import re

import torch
from torch import Tensor, nn
from torch.nn import functional

EPSILON = 1e-6
# Names of layers in Wan's own files, which LoRAs of other programs go by -> the library's.
OTHER_NAMES = {
    r"self_attn\.([qkv])$": r"attn1.to_\1",
    r"cross_attn\.([qkv])$": r"attn2.to_\1",
    r"self_attn\.o$": "attn1.to_out.0",
    r"cross_attn\.o$": "attn2.to_out.0",
    r"cross_attn\.([kv])_img$": r"attn2.add_\1_proj",
    r"ffn\.0$": "ffn.net.0.proj",
    r"ffn\.2$": "ffn.net.2",
    r"^(time|text)_embedding\.0$": r"condition_embedder.\1_embedder.linear_1",
    r"^(time|text)_embedding\.2$": r"condition_embedder.\1_embedder.linear_2",
    r"^time_projection\.1$": "condition_embedder.time_proj",
    r"^img_emb\.proj\.1$": "condition_embedder.image_embedder.ff.net.0.proj",
    r"^img_emb\.proj\.3$": "condition_embedder.image_embedder.ff.net.2",
    r"^head\.head$": "proj_out",
}


class WanTransformer(nn.Module):
    """Layers without a forward pass: ``WanDit`` has its own.

    channels: of what comes in and of what goes out. patch: cells along each side of the square that becomes a token.
    text_width: of the tokens that cross-attention sees, 0 leaves it out. image_width: of further tokens that it sees through
    keys and values of their own, 0 for none. frequencies: sinusoids of the noise level.
    """

    def __init__(
        self,
        channels: tuple[int, int],
        width: int,
        heads: int,
        layers: int,
        *,
        feed_forward: int,
        patch: int,
        text_width: int,
        image_width: int,
        frequencies: int,
    ) -> None:
        from diffusers.models.normalization import FP32LayerNorm

        super().__init__()
        kernel = (1, patch, patch)
        self.patch_embedding = nn.Conv3d(channels[0], width, kernel, stride=kernel)
        self.condition_embedder = _ConditionEmbedder(width, frequencies, text_width, image_width)
        self.blocks = nn.ModuleList(
            _Block(width, heads, feed_forward, cross=text_width > 0, image=image_width > 0) for _ in range(layers)
        )
        self.norm_out = FP32LayerNorm(width, EPSILON, elementwise_affine=False)
        self.proj_out = nn.Linear(width, channels[1] * patch**2)
        self.scale_shift_table = _table(2, width)


class _ConditionEmbedder(nn.Module):
    """The noise level, text and further tokens -> the network's width."""

    def __init__(self, width: int, frequencies: int, text_width: int, image_width: int) -> None:
        from diffusers.models.embeddings import PixArtAlphaTextProjection, TimestepEmbedding, Timesteps

        super().__init__()
        self.timesteps_proj = Timesteps(frequencies, flip_sin_to_cos=True, downscale_freq_shift=0)
        self.time_embedder = TimestepEmbedding(frequencies, width)
        self.act_fn = nn.SiLU()
        self.time_proj = nn.Linear(width, 6 * width)
        self.text_embedder = PixArtAlphaTextProjection(text_width, width) if text_width else None
        self.image_embedder = _ImageEmbedder(image_width, width) if image_width else None


class _ImageEmbedder(nn.Module):
    def __init__(self, image_width: int, width: int) -> None:
        from diffusers.models.attention import FeedForward
        from diffusers.models.normalization import FP32LayerNorm

        super().__init__()
        self.norm1 = FP32LayerNorm(image_width)
        self.ff = FeedForward(image_width, width, mult=1, activation_fn="gelu")
        self.norm2 = FP32LayerNorm(width)

    def forward(self, tokens: Tensor) -> Tensor:
        """(R, L, image_width) -> (R, L, width)."""
        return self.norm2(self.ff(self.norm1(tokens)))


class _Block(nn.Module):
    """Self-attention, attention to text, feed-forward; what shifts, scales and gates them has a table of its own."""

    def __init__(self, width: int, heads: int, feed_forward: int, *, cross: bool, image: bool) -> None:
        from diffusers.models.attention import FeedForward
        from diffusers.models.normalization import FP32LayerNorm

        super().__init__()
        self.norm1 = FP32LayerNorm(width, EPSILON, elementwise_affine=False)
        self.attn1 = _Attention(width, heads, image=False)
        self.attn2 = _Attention(width, heads, image) if cross else None
        self.norm2 = FP32LayerNorm(width, EPSILON) if cross else None
        self.ffn = FeedForward(width, inner_dim=feed_forward, activation_fn="gelu-approximate")
        self.norm3 = FP32LayerNorm(width, EPSILON, elementwise_affine=False)
        self.scale_shift_table = _table(6, width)


class _Attention(nn.Module):
    """Projections; queries and keys are normalised over all heads."""

    def __init__(self, width: int, heads: int, image: bool) -> None:
        super().__init__()
        self.heads = heads
        self.to_q, self.to_k, self.to_v = (nn.Linear(width, width) for _ in range(3))
        self.to_out = nn.ModuleList([nn.Linear(width, width), nn.Dropout(0.0)])
        self.norm_q, self.norm_k = (RMSNorm(width, eps=EPSILON) for _ in range(2))
        if image:
            self.add_k_proj, self.add_v_proj = (nn.Linear(width, width) for _ in range(2))
            self.norm_added_k = RMSNorm(width, eps=EPSILON)


class RMSNorm(nn.RMSNorm):
    """The library's norm of queries and keys, in single precision whatever it is given."""

    def forward(self, x: Tensor) -> Tensor:
        normed = functional.rms_norm(x.float(), tuple(self.normalized_shape), self.weight.float(), self.eps)
        return normed.type_as(x)


def _table(rows: int, width: int) -> nn.Parameter:
    """(1, rows, width): shifts, scales and gates, to which those of the noise level are added."""
    return nn.Parameter(torch.randn(1, rows, width) / width**0.5)


def library_layer(name: str) -> str:
    """The library's name of a layer that has this one in Wan's own files; the same where they have no such layer."""
    for other, own in OTHER_NAMES.items():
        name = re.sub(other, own, name)
    return name
