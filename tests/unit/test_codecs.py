"""Codecs: shapes, inverses, and the SVD VAE with a tiny random one in its place on disk."""

import pytest
import torch

from components.codecs.pixel import PixelCodec, PixelConfig
from components.codecs.svd_vae import SvdVaeCodec, SvdVaeConfig
from hvg.core.errors import HvgError

GRID = (2, 3, 2)  # B V T


@pytest.mark.parametrize("zero", ["white", "grey"])
@pytest.mark.parametrize("factor", [1, 4])
def test_pixel_latents_are_the_pixels(zero, factor):
    codec = PixelCodec(PixelConfig(factor=factor, scale=2.0, zero=zero))
    frames = torch.rand(*GRID, 3, 8, 16) * 2 - 1
    latents = codec.encode(frames)
    assert latents.shape == (*GRID, codec.channels, 8 // factor, 16 // factor)
    assert PixelCodec.shape(codec.config) == (codec.channels, codec.stride, codec.temporal_stride)
    torch.testing.assert_close(codec.decode(latents), frames, rtol=0, atol=1e-6)


@pytest.mark.parametrize(("zero", "value"), [("white", 1.0), ("grey", 0.0)])
def test_pixel_zero_is_the_colour_it_names(zero, value):
    codec = PixelCodec(PixelConfig(zero=zero))
    assert codec.encode(torch.full((1, 1, 1, 3, 4, 4), value)).abs().max() == 0


@pytest.fixture(scope="module")
def vae_folder(tmp_path_factory):
    from diffusers import AutoencoderKLTemporalDecoder

    torch.manual_seed(0)
    vae = AutoencoderKLTemporalDecoder(
        down_block_types=("DownEncoderBlock2D",) * 2, block_out_channels=(32, 32), layers_per_block=1, sample_size=16
    )
    folder = tmp_path_factory.mktemp("svd") / "vae"
    vae.save_pretrained(folder)
    return folder


def test_svd_vae_round_trip_has_the_right_shapes_and_is_frozen(vae_folder):
    codec = SvdVaeCodec(SvdVaeConfig(path=str(vae_folder.parent), encode_chunk=5))
    assert (codec.channels, codec.stride, codec.temporal_stride) == SvdVaeCodec.shape(codec.config) == (4, 2, 1)
    frames = torch.rand(*GRID, 3, 16, 8) * 2 - 1
    latents = codec.encode(frames)
    assert latents.shape == (*GRID, 4, 8, 4)
    assert torch.equal(latents, codec.encode(frames))
    decoded = codec.decode(latents.requires_grad_())
    assert decoded.shape == frames.shape
    assert not decoded.requires_grad


def test_svd_vae_equals_the_library(vae_folder):
    from diffusers import AutoencoderKLTemporalDecoder

    library = AutoencoderKLTemporalDecoder.from_pretrained(vae_folder).eval()
    codec = SvdVaeCodec(SvdVaeConfig(path=str(vae_folder), decode_chunk=2))
    frames = torch.rand(1, 1, 3, 3, 16, 16) * 2 - 1
    with torch.no_grad():
        latents = library.encode(frames[0, 0]).latent_dist.mode() * 0.18215
        decoded = [library.decode(x / 0.18215, num_frames=len(x)).sample for x in latents.split(2)]
    torch.testing.assert_close(codec.encode(frames)[0, 0], latents)
    torch.testing.assert_close(codec.decode(latents[None, None])[0, 0], torch.cat(decoded))


def test_a_missing_vae_is_a_friendly_error(tmp_path):
    with pytest.raises(HvgError, match=r"no vae at .*diffusion_pytorch_model\.safetensors"):
        SvdVaeCodec(SvdVaeConfig(path=str(tmp_path)))
