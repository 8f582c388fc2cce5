"""What every backbone promises, on the smallest network that has all ports."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import pytest
import torch

from hvg import registry
from hvg.protocols import Backbone, Context
from hvg.types import Conditioning, Ports

# The smallest settings of each backbone; a new one adds its line.
TINY = {
    "svd_unet": {
        "widths": (32, 32),
        "attention": (True, False),
        "heads": (2, 2),
        "layers_per_block": 1,
        "cross_attention_width": 8,
        "addition_time_embed_dim": 8,
    }
}
CODEC_CHANNELS, EXTRA, SIZE = 4, 2, 8
NAMES = registry.names("backbone")


def ports_of(name: str) -> Ports:
    part = registry.load("backbone", name)
    return part.ports(part.Config(**TINY[name]), CODEC_CHANNELS, 8)


def build(name: str, **settings) -> Backbone:
    part, attention = registry.load("backbone", name), registry.load("view_attention", "aligned_2d")
    context = Context(ports=ports_of(name), channels=EXTRA, view_attention=partial(attention, attention.Config()))
    torch.manual_seed(0)
    return part(part.Config(**TINY[name], **settings), context)


def randomise_zeros(module: torch.nn.Module) -> None:
    """Projections that start at zero hide everything behind them."""
    for parameter in module.parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.1)


def fill(ports: Ports, grid: tuple[int, int, int]) -> Conditioning:
    """Every port filled. Two tokens, because over one token alone attention has nothing to choose."""
    side = {site: SIZE // s.stride for site, s in ports.residuals.items()}
    return Conditioning(
        residuals={n: torch.randn(*grid, s.channels, side[n], side[n]) for n, s in ports.residuals.items()},
        memory={n: torch.randn(*grid, 3, s.channels) for n, s in ports.memory.items()},
        tokens=torch.randn(*grid, 2, ports.token_width) if ports.token_width else None,
        channels=torch.randn(*grid, EXTRA, SIZE, SIZE) if ports.channels else None,
        embedding=torch.randn(*grid, ports.embedding_width) if ports.embedding_width else None,
    )


def inputs(name: str, grid: tuple[int, int, int]) -> tuple[torch.Tensor, torch.Tensor, Conditioning]:
    torch.manual_seed(1)
    return torch.randn(*grid, CODEC_CHANNELS, SIZE, SIZE), torch.randn(grid), fill(ports_of(name), grid)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("views", [1, 3])
@pytest.mark.parametrize("frames", [1, 3])
@torch.no_grad()
def test_output_is_shaped_as_the_latents(name, views, frames):
    noisy, level, conditioning = inputs(name, (2, views, frames))
    out = build(name)(noisy, level, conditioning)
    assert out.shape == noisy.shape
    assert out.isfinite().all()


@pytest.mark.parametrize("name", NAMES)
def test_gradient_reaches_every_weight_and_every_port(name):
    backbone = build(name)
    randomise_zeros(backbone)
    noisy, level, conditioning = inputs(name, (1, 2, 2))
    conditioning = conditioning.map(lambda x: x.requires_grad_())
    backbone(noisy, level, conditioning).square().sum().backward()
    without = [n for n, p in backbone.named_parameters() if p.grad is None or not p.grad.any()]
    assert without == []
    ports = [conditioning.tokens, conditioning.channels, conditioning.embedding]
    for x in [*ports, *conditioning.residuals.values(), *conditioning.memory.values()]:
        assert x.grad.any()


@pytest.mark.parametrize("name", NAMES)
@torch.no_grad()
def test_bf16_stays_bf16(name):
    noisy, level, conditioning = inputs(name, (1, 2, 2))
    half = conditioning.map(lambda x: x.bfloat16())
    assert build(name).bfloat16()(noisy.bfloat16(), level, half).dtype == torch.bfloat16


@pytest.mark.parametrize("name", NAMES)
@torch.no_grad()
def test_mixed_precision_stays_near_full_precision(name):
    backbone, (noisy, level, conditioning) = build(name), inputs(name, (1, 2, 2))
    full = backbone(noisy, level, conditioning)
    with torch.autocast("cpu", torch.bfloat16):
        mixed = backbone(noisy, level, conditioning)
    assert (mixed.float() - full).norm() < 0.05 * full.norm()


@pytest.mark.parametrize("name", NAMES)
@torch.no_grad()
def test_clips_do_not_see_each_other(name):
    backbone = build(name)
    randomise_zeros(backbone)
    noisy, level, conditioning = inputs(name, (2, 2, 3))
    alone = backbone(noisy[:1], level[:1], conditioning.map(lambda x: x[:1]))
    torch.testing.assert_close(backbone(noisy, level, conditioning)[:1], alone, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
@torch.no_grad()
def test_views_see_each_other_only_through_view_attention(name):
    backbone, (noisy, level, conditioning) = build(name), inputs(name, (1, 2, 2))
    changed = noisy.clone()
    changed[:, 1] += 1

    def first_view_moves() -> bool:
        difference = backbone(noisy, level, conditioning) - backbone(changed, level, conditioning)
        return bool(difference[:, 0].abs().max() > 1e-5)

    assert not first_view_moves()  # the output projection is still zero
    randomise_zeros(backbone)
    assert first_view_moves()


@pytest.mark.parametrize("name", NAMES)
@torch.no_grad()
def test_frame_index_counts_from_zero_and_matters(name):
    backbone, (noisy, level, conditioning) = build(name), inputs(name, (1, 1, 3))
    default = backbone(noisy, level, conditioning)
    assert torch.equal(default, backbone(noisy, level, conditioning, torch.tensor([[0, 1, 2]])))
    assert not torch.equal(default, backbone(noisy, level, conditioning, torch.tensor([[5, 6, 7]])))


@pytest.mark.parametrize("name", NAMES)
@torch.no_grad()
def test_zero_output_and_missing_tokens(name):
    noisy, level, conditioning = inputs(name, (1, 1, 2))
    assert not build(name, init="residual_zero")(noisy, level, replace(conditioning, tokens=None)).any()


def test_weights_do_not_depend_on_which_view_attention_stands_beside_them():
    """Names of the other weights stay, so that a checkpoint of one arm starts another."""
    part = registry.load("backbone", "svd_unet")
    alone = part(part.Config(**TINY["svd_unet"]), Context(ports=ports_of("svd_unet"), channels=EXTRA))
    names = {n for n in build("svd_unet").state_dict() if not n.startswith("view_attention.")}
    assert names == set(alone.state_dict())
