"""Codecs: shapes, inverses, and VAEs of SVD and Wan with tiny random ones in their place on disk."""

import pytest
import torch
from wan_vaes import small_vae, write_vae

from components.codecs.flux_vae import FluxVaeCodec, FluxVaeConfig
from components.codecs.pixel import PixelCodec, PixelConfig
from components.codecs.pixel_time import PixelTimeCodec, PixelTimeConfig
from components.codecs.svd_vae import SvdVaeCodec, SvdVaeConfig
from components.codecs.wan_vae import WAN_VAE, WanVaeCodec, WanVaeConfig
from hvg.core.errors import HvgError
from hvg.parts.codec_pictures import CodecPictures
from hvg.parts.context import Context
from hvg.values.conditioning import LatentShape
from hvg.values.latent_clip import joined
from hvg.values.latent_time import grouped_frames, latent_frames, padded_frames
from hvg.values.layout import fold_groups

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


# --- pixels of several frames ---


def video(frames, size=8, seed=0):
    return torch.rand(2, 2, frames, 3, size, size, generator=torch.Generator().manual_seed(seed)) * 2 - 1


@pytest.mark.parametrize("stride", [1, 2, 4])
def test_joined_pixels_come_back_to_the_bit(stride):
    codec = PixelTimeCodec(PixelTimeConfig(frames=stride, zero="grey"))
    for frames in range(1, 2 * stride + 3):
        seen = video(frames)
        latents = codec.encode(seen)
        assert latents.shape == (2, 2, latent_frames(frames, stride), 48 * stride, 2, 2)
        decoded = codec.decode(latents)
        assert decoded.shape[2] == padded_frames(frames, stride)
        assert torch.equal(decoded[:, :, :frames], seen)
        assert torch.equal(decoded[:, :, frames:], seen[:, :, -1:].expand_as(decoded[:, :, frames:]))


def test_joined_pixels_of_one_frame_are_those_of_the_pixel_codec():
    settings = {"factor": 2, "scale": 0.3}
    alone, one = PixelCodec(PixelConfig(**settings)), PixelTimeCodec(PixelTimeConfig(frames=1, **settings))
    latents = alone.encode(video(5))
    assert torch.equal(one.encode(video(5)), latents) and torch.equal(one.decode(latents), alone.decode(latents))
    assert one.shape(one.config) == alone.shape(alone.config)


def test_a_latent_frame_holds_its_frames_and_no_others():
    """A marker that is lit in one frame."""
    codec, frames = PixelTimeCodec(PixelTimeConfig(zero="grey")), 11
    for lit in range(frames):
        seen = torch.zeros(1, 1, frames, 3, 8, 8)
        seen[:, :, lit] = 1.0
        groups = codec.encode(seen).unflatten(3, (4, -1)).flatten(4).mean(dim=-1)[0, 0]
        expected = [float(frame == lit) for frame in grouped_frames(range(4), frames, 4)]
        assert groups.flatten().tolist() == expected


@pytest.mark.parametrize("chunk", [1, 2, 3, 100])
def test_pieces_of_joined_pixels_are_the_whole(chunk):
    codec = PixelTimeCodec(PixelTimeConfig())
    codec.decode_chunk, latents = chunk, torch.randn(1, 2, 5, 192, 2, 2)
    pieces = list(codec.decode_pieces(latents))
    assert len(pieces) == -(-5 // min(chunk, 5))
    assert torch.equal(torch.cat(pieces, dim=2), codec.decode(latents))


def test_latents_of_maps_as_pictures_are_those_of_their_video():
    """Group by group, so that a window of a video has those of all of it."""
    codec, render = PixelTimeCodec(PixelTimeConfig()), {"rgb": 3, "alpha": 1}
    maps = torch.rand(1, 2, 10, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    maps[:, :, :, :3] *= maps[:, :, :, 3:]
    told = fold_groups(joined(maps, 4).flatten(2, 3), 4, [*render.values()])
    pictures = CodecPictures({name: 4 * count for name, count in render.items()}, codec)
    found = pictures(told.flatten(0, 2)).unflatten(0, told.shape[:3])
    shown = maps[:, :, :, :3] + (1 - maps[:, :, :, 3:])
    torch.testing.assert_close(found, codec.encode(shown))


# --- Stable Video Diffusion's ---


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


def test_svd_s_videos_are_decoded_in_pieces_of_the_setting(vae_folder):
    codec = SvdVaeCodec(SvdVaeConfig(path=str(vae_folder), decode_chunk=2))
    latents = torch.randn(1, 1, 5, 4, 4, 4)
    pieces = list(codec.decode_pieces(latents))
    assert [piece.shape[2] for piece in pieces] == [2, 2, 1]
    assert torch.equal(torch.cat(pieces, dim=2), codec.decode(latents))


# --- Wan's ---

STRIDES = {"2.1": 8, "2.2": 16}


@pytest.fixture(scope="module", params=STRIDES)
def version(request):
    return request.param


@pytest.fixture(scope="module")
def wan(version, tmp_path_factory):
    """The codec, and the library's network with the same weights."""
    from diffusers import AutoencoderKLWan

    folder = write_vae(tmp_path_factory.mktemp("wan"), version)
    return WanVaeCodec(WanVaeConfig(path=str(folder))), AutoencoderKLWan.from_pretrained(folder / "vae").eval()


def statistics(library):
    return (torch.tensor(x)[:, None, None, None] for x in (library.config.latents_mean, library.config.latents_std))


def test_wan_s_latents_are_the_library_s(wan, version):
    codec, library = wan
    assert tuple(codec.shape(codec.config)) == (4, STRIDES[version], 4)
    seen, (mean, deviation) = video(9, 32), statistics(library)
    latents = codec.encode(seen)
    assert latents.shape == (2, 2, 3, 4, 32 // STRIDES[version], 32 // STRIDES[version])
    with torch.no_grad():
        expected = library.encode(seen[1, 0].movedim(0, 1)[None]).latent_dist.mode()[0]
    torch.testing.assert_close(latents[1, 0].movedim(0, 1), (expected - mean) / deviation)
    assert torch.equal(latents, codec.encode(seen)) and not latents.requires_grad


@pytest.mark.parametrize("frames", [1, 2, 6])
def test_wan_s_other_lengths_are_padded_at_the_end(wan, frames):
    codec, _ = wan
    seen = video(frames, 32)
    padded = seen[:, :, [min(i, frames - 1) for i in range(padded_frames(frames, 4))]]
    assert torch.equal(codec.encode(seen), codec.encode(padded))


def test_wan_s_long_video_in_pieces_is_that_of_the_library_at_once(wan):
    codec, library = wan
    latents = torch.randn(1, 2, 6, 4, 2, 2, generator=torch.Generator().manual_seed(0))
    mean, deviation = statistics(library)
    with torch.no_grad():
        expected = library.decode((latents[0, 1].movedim(0, 1) * deviation + mean)[None]).sample[0].movedim(0, 1)
    for chunk in (1, 2, 4, 6):
        codec.decode_chunk = chunk
        pieces = list(codec.decode_pieces(latents))
        lengths = [4 * min(chunk, 6 - first) - 3 * (first == 0) for first in range(0, 6, chunk)]
        assert [piece.shape[2] for piece in pieces] == lengths
        torch.testing.assert_close(torch.cat(pieces, dim=2)[0, 1].clamp(-1, 1), expected)
        assert torch.equal(torch.cat(pieces, dim=2), codec.decode(latents))


def test_two_videos_of_wan_s_are_decoded_in_turns(wan):
    """Each keeps what came before it."""
    codec, _ = wan
    codec.decode_chunk = 1
    first, second = torch.randn(2, 1, 1, 4, 4, 2, 2, generator=torch.Generator().manual_seed(0))
    turns = [
        torch.cat(pieces, dim=2)
        for pieces in zip(*zip(*map(codec.decode_pieces, (first, second)), strict=True), strict=True)
    ]
    assert torch.equal(turns[0], codec.decode(first)) and torch.equal(turns[1], codec.decode(second))


@pytest.mark.parametrize(("version", "shape"), [("2.1", (16, 8, 4)), ("2.2", (48, 16, 4))])
def test_a_hub_id_of_wan_s_is_known_before_it_is_read(version, shape):
    """On shapes alone, the published networks: their size, and what they make of a picture."""
    config = WanVaeConfig(version=version)
    assert WanVaeCodec.shape(config) == LatentShape(*shape)
    with torch.device("meta"):
        codec = WanVaeCodec(config, Context(blank=True))
    weights = sum(x.numel() for x in codec.frozen()["vae"].parameters())
    assert weights / 1e6 == pytest.approx({"2.1": 126.9, "2.2": 704.7}[version], rel=0.01)


def test_a_vae_of_wan_s_that_is_another_is_told_in_a_line(tmp_path):
    with pytest.raises(HvgError, match=r"no vae at .*diffusion_pytorch_model\.safetensors"):
        WanVaeCodec(WanVaeConfig(path=str(tmp_path)))
    folder = write_vae(tmp_path / "slow", temperal_downsample=[False, False, True])
    with pytest.raises(HvgError, match="joins 2 frames; Wan's join 4"):
        WanVaeCodec.shape(WanVaeConfig(path=str(folder)))


def test_wan_s_settings_are_those_of_the_library_s_class():
    """Those of 2.1 are its defaults."""
    import inspect

    from diffusers import AutoencoderKLWan

    known = {name: x.default for name, x in inspect.signature(AutoencoderKLWan.__init__).parameters.items()}
    assert all(known[name] == x for name, x in WAN_VAE["2.1"].items())
    assert WAN_VAE["2.2"].keys() <= known.keys() and small_vae("2.2").config.patch_size == WAN_VAE["2.2"]["patch_size"]


# --- FLUX's ---


def test_flux_s_latents_and_pictures_are_the_library_s(flux_folder):
    from diffusers import AutoencoderKL

    library = AutoencoderKL.from_pretrained(flux_folder / "vae").eval()
    codec = FluxVaeCodec(FluxVaeConfig(path=str(flux_folder), encode_chunk=5, decode_chunk=2))
    assert (codec.channels, codec.stride, codec.temporal_stride) == FluxVaeCodec.shape(codec.config) == (4, 8, 1)
    frames = torch.rand(1, 2, 3, 3, 16, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1
    latents = codec.encode(frames)
    with torch.no_grad():
        expected = (library.encode(frames.flatten(0, 2)).latent_dist.mode() - 0.1) * 0.4
        seen = library.decode(expected / 0.4 + 0.1).sample
    torch.testing.assert_close(latents.flatten(0, 2), expected)
    torch.testing.assert_close(codec.decode(latents).flatten(0, 2), seen)
    assert torch.equal(latents, codec.encode(frames)) and not latents.requires_grad
    assert torch.equal(torch.cat([*codec.decode_pieces(latents)], dim=2), codec.decode(latents))


def test_a_hub_id_of_flux_s_is_known_before_it_is_read():
    """On shapes alone, the published network: its size, and what it makes of a picture."""
    config = FluxVaeConfig()
    assert FluxVaeCodec.shape(config) == LatentShape(16, 8)
    with torch.device("meta"):
        codec = FluxVaeCodec(config, Context(blank=True))
    weights = sum(x.numel() for x in codec.frozen()["vae"].parameters())
    assert weights / 1e6 == pytest.approx(83.8, rel=0.01) and (codec.scale, codec.shift) == (0.3611, 0.1159)


def test_a_missing_vae_of_flux_s_is_a_friendly_error(tmp_path):
    with pytest.raises(HvgError, match=r"no vae at .*diffusion_pytorch_model\.safetensors"):
        FluxVaeCodec(FluxVaeConfig(path=str(tmp_path)))
