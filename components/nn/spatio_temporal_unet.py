"""The layers of diffusers' ``UNetSpatioTemporalConditionModel``, of the library's blocks and under its names.

The library's own class lies behind imports of every transformer that diffusers has: seconds, in each process that starts.
Layers are made in the library's order, so that one seed gives the same weights.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from torch import nn

Build = Callable[[], nn.Module]


class SpatioTemporalUNet(nn.Module):
    """Layers without a forward pass: ``SvdUNet`` has its own.

    widths, attention, heads: of each level, as in ``SvdUNetConfig``. layers: residual blocks of a level going down; going up
    it has one more. depth: transformer blocks of a transformer. context_width: of the tokens that cross-attention sees; 0 leaves
    it out. id_width: of the sinusoids of each of three added ids.
    """

    def __init__(
        self,
        channels: tuple[int, int],
        widths: Sequence[int],
        attention: Sequence[bool],
        heads: Sequence[int],
        *,
        layers: int,
        depth: int,
        context_width: int,
        id_width: int,
    ) -> None:
        """channels: of what comes in and of what goes out."""
        from diffusers.models.downsampling import Downsample2D
        from diffusers.models.embeddings import TimestepEmbedding, Timesteps
        from diffusers.models.upsampling import Upsample2D

        super().__init__()
        first, last, embedding = widths[0], len(widths) - 1, 4 * widths[0]
        transformers = [
            partial(_SpatioTemporalTransformer, width, count, depth, context_width or 1)
            for width, count in zip(widths, heads, strict=True)
        ]
        self.conv_in = nn.Conv2d(channels[0], first, 3, padding=1)
        self.time_proj = Timesteps(first, True, 0)
        self.time_embedding = TimestepEmbedding(first, embedding)
        self.add_time_proj = Timesteps(id_width, True, 0)
        self.add_embedding = TimestepEmbedding(3 * id_width, embedding)
        self.down_blocks, self.up_blocks = nn.ModuleList(), nn.ModuleList()
        for level, width in enumerate(widths):
            inputs = [widths[max(level - 1, 0)], *[width] * (layers - 1)]
            attends = layers if attention[level] else 0
            block = _Level(inputs, width, embedding, 1e-6 if attends else 1e-5, attends, transformers[level])
            samplers = [Downsample2D(width, use_conv=True, out_channels=width, name="op")] if level < last else []
            block.downsamplers = nn.ModuleList(samplers)
            self.down_blocks.append(block)
        self.mid_block = _Level([widths[last]] * 2, widths[last], embedding, 1e-5, 1, transformers[last])
        for level in reversed(range(len(widths))):
            width, below = widths[level], widths[min(level + 1, last)]
            # Each is given what the block before it gives, beside what the way down has left.
            inputs = [below + width, *[2 * width] * (layers - 1), width + widths[max(level - 1, 0)]]
            block = _Level(inputs, width, embedding, 1e-6, len(inputs) if attention[level] else 0, transformers[level])
            samplers = [Upsample2D(width, use_conv=True, out_channels=width)] if level > 0 else []
            block.upsamplers = nn.ModuleList(samplers)
            self.up_blocks.append(block)
        self.conv_norm_out = nn.GroupNorm(32, first, eps=1e-5)
        self.conv_act = nn.SiLU()
        self.conv_out = nn.Conv2d(first, channels[1], 3, padding=1)
        if context_width == 0:
            self._leave_out_cross_attention()

    def _leave_out_cross_attention(self) -> None:
        """The library's blocks may lack it (``attn2`` is None), but its UNet has no setting for that."""
        blocks: list[Any] = [module for module in self.modules() if getattr(module, "attn2", None) is not None]
        for block in blocks:
            block.attn2 = block.norm2 = None


class _Level(nn.Module):
    """Residual blocks of one width, the first ``attends`` of which have a transformer behind them."""

    def __init__(
        self, inputs: Sequence[int], width: int, embedding: int, eps: float, attends: int, transformer: Build
    ) -> None:
        """inputs: channels that each residual block is given."""
        from diffusers.models.resnet import SpatioTemporalResBlock

        super().__init__()
        resnets, attentions = [], []
        for number, channels in enumerate(inputs):
            resnets.append(SpatioTemporalResBlock(channels, width, embedding, eps))
            if number < attends:
                attentions.append(transformer())
        if attends:
            self.attentions = nn.ModuleList(attentions)
        self.resnets = nn.ModuleList(resnets)


class _SpatioTemporalTransformer(nn.Module):
    """The layers of the library's ``TransformerSpatioTemporalModel``."""

    def __init__(self, width: int, heads: int, depth: int, context_width: int) -> None:
        from diffusers.models.attention import BasicTransformerBlock, TemporalBasicTransformerBlock
        from diffusers.models.embeddings import TimestepEmbedding, Timesteps
        from diffusers.models.resnet import AlphaBlender

        super().__init__()
        self.norm = nn.GroupNorm(32, width, eps=1e-6)
        self.proj_in = nn.Linear(width, width)
        spatial = partial(BasicTransformerBlock, cross_attention_dim=context_width)
        temporal = partial(TemporalBasicTransformerBlock, cross_attention_dim=context_width)
        self.transformer_blocks = nn.ModuleList(spatial(width, heads, width // heads) for _ in range(depth))
        self.temporal_transformer_blocks = nn.ModuleList(
            temporal(width, width, heads, width // heads) for _ in range(depth)
        )
        self.time_pos_embed = TimestepEmbedding(width, 4 * width, out_dim=width)
        self.time_proj = Timesteps(width, True, 0)
        self.time_mixer = AlphaBlender(alpha=0.5, merge_strategy="learned_with_images")
        self.proj_out = nn.Linear(width, width)
