"""Wan-Animate's network out of our parts against diffusers' ``WanAnimateTransformer3DModel``, on random weights.

The pose's latents go through ``encoder=codec_patch``, the photo stands in channels behind its mask, CLIP's tokens have keys and
values of their own. What our parts lack is the face's own attention after every fifth block: in the library it is switched off.
"""

from dataclasses import replace

import pytest
import torch
from diffusers import WanAnimateTransformer3DModel
from torch import Tensor, nn

from components.backbones import wan_dit
from components.backbones.wan_dit import WanDit, WanDitConfig
from components.codecs.pixel import PixelCodec
from components.encoders.codec_patch import CodecPatch
from hvg.parts.context import BackboneContext, ConditionerContext
from hvg.testing import build as built
from hvg.testing import tiny_batch
from hvg.testing.backbone import let_through
from hvg.values.conditioning import Conditioning, LatentShape

# Pixels are the latents: what a map is encoded to can be said.
LATENTS, CODEC = LatentShape(3, 1), PixelCodec(PixelCodec.Config(factor=1))
EXTRA, TEXT = 3 + 4, 512
SMALL = {
    "width": 48,
    "heads": 2,
    "layers": 6,
    "feed_forward": 64,
    "cross_attention_width": 16,
    "frequencies": 16,
    "tokens": "own",
    "token_width": 20,
}
# Latent frames of the pose, one fewer than the clip with its photo; frames of the face, of which the library makes as many.
FRAMES, FACES, HEIGHT, WIDTH = 3, 9, 8, 12
OF_THE_LIBRARY = ("pose_patch_embedding.", "motion_encoder.", "face_encoder.", "face_adapter.")


def build() -> tuple[WanDit, CodecPatch]:
    config = WanDitConfig(**SMALL)
    ports = WanDit.ports(config, LATENTS)
    torch.manual_seed(0)
    network = let_through(WanDit(config, BackboneContext(ports=ports, channels=EXTRA)).eval())
    context = ConditionerContext(ports=ports, codec=CODEC, backbone=network)
    return network, let_through(built(CodecPatch, CodecPatch.Config(), {"skeleton": 4}, context))


def library_twin(network: WanDit, encoder: CodecPatch, face: bool = False) -> WanAnimateTransformer3DModel:
    """diffusers' model with the weights of ours. face: whether its attention to the face adds what it finds."""
    stated = wan_dit._library_settings(network.config, LATENTS.channels)
    library = WanAnimateTransformer3DModel(
        in_channels=LATENTS.channels + EXTRA,
        latent_channels=LATENTS.channels,
        motion_encoder_channel_sizes={"4": 8, "8": 8, "16": 8},
        motion_encoder_size=16,
        motion_style_dim=8,
        motion_dim=4,
        motion_encoder_dim=8,
        face_encoder_hidden_dim=16,
        face_encoder_num_heads=2,
        # Its adapters are as many as the blocks hold fives.
        inject_face_latents_blocks=3,
        **stated,
    ).eval()
    found = library.load_state_dict(network.state_dict(), strict=False)
    assert not found.unexpected_keys
    assert all(name.startswith(OF_THE_LIBRARY) for name in found.missing_keys)
    with torch.no_grad():
        own = library.pose_patch_embedding
        own.weight.copy_(encoder.projection.weight.view_as(own.weight))
        own.bias.copy_(encoder.projection.bias)
        for adapter in [] if face else library.face_adapter:
            nn.init.zeros_(adapter.to_out.weight)
            nn.init.zeros_(adapter.to_out.bias)
    return library


def both(face: bool = False) -> tuple[Tensor, Tensor]:
    """What ours and the library make of a clip behind its photo, (t + 1, 3, h, w)."""
    network, encoder = build()
    torch.manual_seed(1)
    frames = FRAMES + 1
    noisy, channels = torch.randn(frames, 3, HEIGHT, WIDTH), torch.randn(frames, EXTRA, HEIGHT, WIDTH)
    skeleton, face_video = torch.rand(FRAMES, 4, HEIGHT, WIDTH), torch.rand(1, 3, FACES, 16, 16)
    text, image = torch.randn(1, TEXT, 16), torch.randn(1, 5, 20)
    # On black, and with the codec's white as 0.
    pose = 2 * skeleton[:, :3] - 2
    library = library_twin(network, encoder, face)
    expected = library(
        torch.cat([noisy, channels], dim=1).transpose(0, 1)[None],
        torch.tensor([500.0]),
        text,
        image,
        pose.transpose(0, 1)[None],
        face_video,
    ).sample[0]

    posed = encoder(skeleton)
    # The photo's frame comes first and has no pose.
    residuals = {"stem": torch.cat([torch.zeros_like(posed[:1]), posed])[None, None]}
    told = Conditioning(
        channels=channels[None, None], text=text[:, None, None], tokens=image[:, None, None], residuals=residuals
    )
    return network(noisy[None, None], torch.full((1, 1, frames), 500.0), told)[0, 0], expected.transpose(0, 1)


@torch.no_grad()
def test_pose_photo_text_and_clip_are_told_as_in_the_library():
    torch.testing.assert_close(*both(), rtol=0, atol=2e-5)


@torch.no_grad()
def test_its_attention_to_the_face_is_what_is_missing():
    ours, library = both(face=True)
    assert (ours - library).abs().max() > 1e-3


@pytest.mark.parametrize("width", [16, 20])
def test_a_codec_patch_is_a_patch_embedding_of_the_codec_s_latents(width):
    """The library's own layer, over latents (1, C, t, h, w) of the pictures."""
    _, encoder = build()
    maps = torch.rand(2, 4, 8, width)
    layer = nn.Conv3d(3, 48, (1, 2, 2), (1, 2, 2))
    with torch.no_grad():
        layer.weight.copy_(encoder.projection.weight.view_as(layer.weight))
        layer.bias.copy_(encoder.projection.bias)
        expected = layer((2 * maps[:, :3] - 2).transpose(0, 1)[None])[0].transpose(0, 1)
        torch.testing.assert_close(encoder(maps), expected, rtol=0, atol=1e-5)


def test_a_photo_s_mask_is_ones_where_it_is_told_and_zeros_where_it_is_dropped():
    from components.conditioners.reference_latent import ReferenceLatent

    network, _ = build()
    context = ConditionerContext(ports=WanDit.ports(network.config, LATENTS), codec=CODEC, backbone=network)
    masked, bare = (built(ReferenceLatent, ReferenceLatent.Config(mask=mask), context) for mask in (4, 0))
    batch = tiny_batch(2, 1, 1, size=8)
    told, latents = masked(None, batch), bare(None, batch)
    assert told.channels.shape[3] == 7 and masked.spec(masked.config, context.ports).channels == 7
    assert told.channels[:, :, :, :4].eq(1).all() and torch.equal(told.channels[:, :, :, 4:], latents.channels)
    assert not masked.null(told).channels.any()
    assert masked.features_key == bare.features_key
    assert torch.equal(masked(None, replace(batch, driving=None)).channels, told.channels)
