"""Rows: our UNet beside diffusers' ``UNetSpatioTemporalConditionModel``, with the same weights and inputs; one view."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor

from hvg.bench.peers.row import How, Row, require_equal
from hvg.bench.timing import Ratio, Side
from hvg.core.random_keys import generator
from hvg.parts import registry
from hvg.parts.backbone import Backbone
from hvg.parts.context import BackboneContext
from hvg.values.conditioning import Conditioning, LatentShape

# SVD's form with a fifth of its channels: (320, 640, 1280, 1280) there.
WIDTHS, HEADS, TOKEN_WIDTH, ID_WIDTH = (64, 128, 256, 256), (1, 2, 4, 4), 64, 32
# Frames and side of the latents: 64 and 128 pixels, short and long.
SHAPES = ((4, 8), (14, 8), (4, 16))
# A share of the largest value: kernels differ in the order of their sums.
CLOSE = {"32": 1e-4, "bf16": 0.1}


def rows() -> Iterator[Row]:
    """Forward, and forward and backward pass, at every shape."""
    for backward in (False, True):
        for frames, side in SHAPES:
            passes = "forward and backward" if backward else "forward"
            yield Row(
                name=f"unet {'training' if backward else 'forward'} {frames}x{side}x{side}",
                ours="backbone=svd_xt",
                theirs="diffusers UNetSpatioTemporalConditionModel",
                what=f"{passes}, 1 view x {frames} frames of {side} x {side} latents, widths {WIDTHS}",
                measure=partial(measure, frames=frames, side=side, backward=backward),
            )


def ours(**settings: Any) -> Backbone:
    """Our UNet of these sizes, with 4 input channels more than latents have, and without attention over views."""
    cls = registry.load("backbone", "svd_unet")
    sizes = {"widths": WIDTHS, "heads": HEADS, "cross_attention_width": TOKEN_WIDTH}
    config = cls.Config(addition_time_embed_dim=ID_WIDTH, **sizes, **settings)
    torch.manual_seed(0)
    return cls(config, BackboneContext(ports=cls.ports(config, LatentShape(4, 8)), channels=4))


def library_twin(network: Backbone) -> Any:
    """diffusers' network of the same sizes, with the weights of ours, found under the same names."""
    from diffusers.models.unets.unet_spatio_temporal_condition import UNetSpatioTemporalConditionModel

    config: Any = network.config
    twin = UNetSpatioTemporalConditionModel(
        in_channels=8,
        out_channels=4,
        down_block_types=tuple(f"{'CrossAttn' * yes}DownBlockSpatioTemporal" for yes in config.attention),
        up_block_types=tuple(f"{'CrossAttn' * yes}UpBlockSpatioTemporal" for yes in config.attention[::-1]),
        block_out_channels=config.widths,
        addition_time_embed_dim=config.addition_time_embed_dim,
        projection_class_embeddings_input_dim=3 * config.addition_time_embed_dim,
        layers_per_block=config.layers_per_block,
        cross_attention_dim=config.cross_attention_width,
        num_attention_heads=config.heads,
    )
    twin.load_state_dict(network.state_dict())
    return twin


def calls(network: Backbone, twin: Any, frames: int, side: int) -> tuple[Callable[[], Tensor], Callable[[], Tensor]]:
    """A call of each on the same inputs, both giving (T, C, h, w)."""
    config: Any = network.config
    random = generator("bench", "unet")
    noisy, channels = (torch.randn(1, 1, frames, 4, side, side, generator=random) for _ in range(2))
    # The photo's: the same for all frames.
    tokens = torch.randn(1, 1, 1, 1, TOKEN_WIDTH, generator=random)
    conditioning, level = Conditioning(channels=channels, tokens=tokens), torch.full((1, 1, frames), 0.3)
    inputs = torch.cat([noisy, channels], dim=3)[0]
    ids = torch.tensor([[config.fps, config.motion_bucket, config.noise_augmentation]])
    return (
        lambda: network(noisy, level, conditioning)[0, 0],
        lambda: twin(inputs, level[0, 0, :1], tokens[0, 0], ids).sample[0],
    )


def measure(how: How, *, frames: int, side: int, backward: bool) -> Ratio:
    """Raises: HvgError where the two do not give the same."""
    network = ours()
    twin = library_twin(network)
    one, other = calls(network, twin, frames, side)
    with torch.no_grad():
        require_equal("unet", one(), other(), CLOSE[how.precision])

    def run(call: Callable[[], Tensor], weights: Any) -> None:
        if not backward:
            call()
            return
        call().float().square().mean().backward()
        weights.zero_grad(set_to_none=True)

    with torch.set_grad_enabled(backward):
        sides = Side(partial(run, one, network), type(network)), Side(partial(run, other, twin), type(twin))
        return how.compare("unet", *sides)
