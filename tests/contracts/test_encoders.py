"""Every registered encoder of maps keeps the promises that hvg.testing spells out."""

from dataclasses import replace

import pytest
import torch
from tiny_backbones import BACKBONES

from hvg.core.errors import HvgError
from hvg.parts import registry
from hvg.parts.codec_pictures import CodecPictures, pictures
from hvg.testing import build, check_encoder, nudged, tiny_context

VARIANTS = {
    "guider": [{"widths": (8, 8, 8)}],
    "modulator": [{"widths": (8, 8, 16), "heads": 2}],
    "codec_cnn": [{"widths": (8,), "scale": 1.0}],
    "controlnet": [{"first": 1, "widths": (8, 8, 8)}, {"checkpointing": "blocks"}],
}
CASES = [(name, settings) for name in registry.names("encoder") for settings in [{}, *VARIANTS.get(name, [])]]
RENDER = {"rgb": 3, "alpha": 1}


@pytest.mark.parametrize("backbone", BACKBONES)
@pytest.mark.parametrize(("name", "settings"), CASES, ids=str)
def test_encoder(name, settings, backbone):
    part = registry.load("encoder", name)
    check_encoder(part, part.Config(**settings), tiny_context(backbone, BACKBONES[backbone]))


def encoder(name, maps, **settings):
    part = registry.load("encoder", name)
    return build(part, part.Config(**settings), maps, tiny_context())


@pytest.mark.parametrize(
    ("name", "settings", "maps", "told"),
    [
        ("guider", {"widths": (8,)}, RENDER, "reach strides 1 to 2"),
        ("modulator", {"widths": (8,)}, RENDER, "reach strides 1 to 2"),
        ("modulator", {"heads": 5}, RENDER, "heads=5 does not divide"),
        ("modulator", {}, {"normal": 3, "depth": 1, "part": 3}, "two maps at most, not 3 (normal, depth, part)"),
        ("codec_cnn", {}, {"normal": 3, "map": 4}, "maps of 3 channels or of 1, but map has 4"),
        ("controlnet", {"widths": (8,)}, RENDER, "reach strides 1 to 2"),
        (
            "controlnet",
            {"first": 9},
            RENDER,
            "fills 9 or more residual sites behind the stem, of which this backbone has 3",
        ),
    ],
)
def test_what_an_encoder_cannot_take_is_told_before_it_is_built(name, settings, maps, told):
    part = registry.load("encoder", name)
    with pytest.raises(HvgError, match=told.replace("(", r"\(").replace(")", r"\)")):
        part.fit(part.Config(**settings), maps, tiny_context().ports)


def test_latents_of_a_map_are_folded_to_the_cells_of_a_coarser_stem():
    """A transformer's token is of several latent cells."""
    codec, maps = tiny_context().codec, torch.rand(2, 4, 16, 16)
    fine, coarse = CodecPictures(RENDER, codec), CodecPictures(RENDER, codec, 2)
    assert coarse.channels == 4 * fine.channels
    assert torch.equal(coarse(maps), torch.nn.functional.pixel_unshuffle(fine(maps), 2))


def test_a_controlnet_fills_the_first_half_of_a_network_or_as_much_as_asked():
    part = registry.load("encoder", "controlnet")
    found = {name: [*part.sites(part.Config(), tiny_context(name, x).ports)] for name, x in BACKBONES.items()}
    assert found == {"svd_unet": ["down_0", "down_1", "mid"], "wan_dit": ["block_0"]}
    ports = tiny_context("wan_dit", BACKBONES["wan_dit"]).ports
    assert [*part.sites(part.Config(first=2), ports)] == ["block_0", "block_1"]


def test_a_render_is_a_picture_on_white_and_other_maps_are_pictures_as_they_are():
    maps = torch.rand(2, 3 + 1 + 3 + 1, 4, 4, generator=torch.Generator().manual_seed(0))
    rgb, alpha, normal, depth = maps.split([3, 1, 3, 1], dim=1)
    found = pictures(maps, {"rgb": 3, "alpha": 1, "normal": 3, "depth": 1})
    assert found.shape == (2, 3, 3, 4, 4)
    expected = torch.stack([rgb + (1 - alpha), normal, (2 * depth - 1).expand(-1, 3, -1, -1)], dim=1)
    assert torch.equal(found, expected)
    assert pictures(torch.zeros(1, 4, 2, 2), RENDER).eq(1).all(), "nobody is white"
    # A skeleton lies on black, whatever it covers.
    torch.testing.assert_close(pictures(maps[:, :4], {"skeleton": 4})[:, 0], 2 * rgb - 1)
    # Without colours a mask is a picture, too.
    assert pictures(alpha, {"alpha": 1}).shape == (2, 1, 3, 4, 4)


def test_the_codec_sees_those_pictures_and_gets_no_gradient():
    codec, maps = tiny_context().codec, torch.rand(2, 4, 8, 8, requires_grad=True)
    latents = CodecPictures(RENDER, codec)
    found = latents(maps)
    assert latents.channels == codec.channels and not found.requires_grad and not list(latents.parameters())
    expected = codec.encode((maps[:, :3] + (1 - maps[:, 3:])).detach()[:, None, None])[:, 0, 0]
    assert torch.equal(found, expected)


@pytest.mark.parametrize(
    ("channels", "stem", "expected"), [(4, 320, [4, 16, 32, 64, 128]), (48, 64, [48, 48, 48, 64, 64])]
)
def test_convolutions_have_gas_s_widths_wherever_latents_and_stem_let_them(channels, stem, expected):
    context = tiny_context()
    site = replace(context.ports.residuals["stem"], channels=stem)
    context = replace(context, ports=replace(context.ports, residuals={"stem": site}))
    context.codec.channels = channels
    part = registry.load("encoder", "codec_cnn")
    layers = build(part, part.Config(), RENDER, context).convolutions
    assert [layer.out_channels for layer in layers if isinstance(layer, torch.nn.Conv2d)] == expected
    assert {layer.kernel_size for layer in layers if isinstance(layer, torch.nn.Conv2d)} == {(3, 3)}


def test_the_codec_s_scale_has_no_say_in_gas_s_encoder():
    """It sees the latents as the VAE gives them: what was learned with one scale holds for another."""
    context, maps = tiny_context(), torch.rand(1, 4, 8, 8)
    cls = type(context.codec)
    part = registry.load("encoder", "codec_cnn")
    made = []
    for scale in (1.0, 0.25):
        codec = cls(cls.Config(scale=scale))
        made.append(nudged(build(part, part.Config(), RENDER, replace(context, codec=codec)))(maps))
    torch.testing.assert_close(*made)


def test_a_scale_of_two_doubles_what_is_added():
    maps = torch.rand(1, 4, 8, 8)
    one, two = (encoder("codec_cnn", RENDER, scale=scale) for scale in (1.0, 2.0))
    for part in (one, two):
        torch.nn.init.ones_(part.projection.weight)
    torch.testing.assert_close(2 * one(maps), two(maps))
