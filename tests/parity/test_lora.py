"""A LoRA of ours is the library's, and the other way round: the same files, the same output of the network."""

import pytest
import test_flux_kontext as flux
import torch
from diffusers import FluxKontextPipeline, UNetSpatioTemporalConditionModel, WanPipeline
from diffusers.loaders import StableDiffusionLoraLoaderMixin
from diffusers.loaders.peft import PeftAdapterMixin
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict
from safetensors.torch import save_file
from test_svd_unet import build, library_twin
from test_wan_dit import SHAPES as WAN_SHAPES
from test_wan_dit import build as build_wan
from test_wan_dit import latents
from test_wan_dit import library_twin as wan_twin
from tiny_adapters import adapted, noisy

from hvg.testing import tiny_batch
from hvg.values.conditioning import Conditioning

# diffusers' own names for what LoRAs of UNets are added to.
TARGETS = ["to_q", "to_k", "to_v", "to_out.0"]
SHAPES = [(1, 1, 1, 8, 8), (2, 2, 3, 8, 8), (1, 2, 3, 7, 10)]  # B V t h w


class Unet(UNetSpatioTemporalConditionModel, PeftAdapterMixin):
    """The library's network with the library's loading of LoRAs, which its other UNets have."""


def ours_at(network, shape):
    b, v, t, h, w = shape
    x = torch.randn(b, v, t, 8, h, w, generator=torch.Generator().manual_seed(1))
    level = torch.zeros(b, v, t)
    with torch.no_grad():
        conditioning = Conditioning(channels=x[:, :, :, 4:])
        return network(x[:, :, :, :4], level, conditioning, grid=tiny_batch(b, v, t).view_grid()).flatten(0, 1)


def theirs_at(network, shape):
    b, v, t, h, w = shape
    x = torch.randn(b, v, t, 8, h, w, generator=torch.Generator().manual_seed(1))
    ids = torch.tensor([[6, 127, 0.02]]).expand(b * v, 3)
    with torch.no_grad():
        return network(x.flatten(0, 1), torch.zeros(b * v), torch.zeros(b * v, 1, 32), ids).sample


@pytest.fixture
def ours():
    """Ours, and the library's with the same weights."""
    network = build((True, True), "library")
    return network, library_twin(network, Unet)


@pytest.mark.parametrize(
    "settings",
    [
        {"rank": 3},
        {"rank": 4, "alpha": 8, "targets": ("attention", "feed_forward")},
        {"rank": 2, "alpha": 1, "targets": ("conv1", "proj_in", "linear_1", "conv_in")},
    ],
    ids=str,
)
def test_an_adapter_of_ours_gives_the_library_s_network_the_same_output(ours, tmp_path, settings):
    network, library = ours
    before = ours_at(network, SHAPES[0])
    part, _ = adapted("lora", network, {}, **settings)
    save_file(part.file(noisy(network)), tmp_path / "pytorch_lora_weights.safetensors")
    library.load_lora_adapter(str(tmp_path), prefix="unet", weight_name="pytorch_lora_weights.safetensors")
    for shape in SHAPES:
        torch.testing.assert_close(ours_at(network, shape), theirs_at(library, shape), rtol=0, atol=1e-5)
    assert not torch.allclose(ours_at(network, SHAPES[0]), before, atol=1e-2)


def randomised(library, **settings):
    """The library's network with an adapter of random weights."""
    library.add_adapter(LoraConfig(init_lora_weights="gaussian", **settings))
    return noisy(library)


def saved_by_itself(library, folder):
    library.save_lora_adapter(folder)


def saved_as_of_a_pipeline(library, folder):
    layers, words = get_peft_model_state_dict(library), library.peft_config["default"].to_dict()
    StableDiffusionLoraLoaderMixin.save_lora_weights(
        folder, unet_lora_layers=layers, unet_lora_adapter_metadata={k: v for k, v in words.items() if k != "peft_type"}
    )


@pytest.mark.parametrize("save", [saved_by_itself, saved_as_of_a_pipeline])
@pytest.mark.parametrize(
    "settings",
    [
        {"r": 4, "target_modules": TARGETS},
        {"r": 4, "lora_alpha": 2, "target_modules": [*TARGETS, "proj_out", "conv2"]},
        {"r": 4, "lora_alpha": 12, "use_rslora": True, "target_modules": TARGETS},
        {"r": 4, "lora_alpha": 8, "alpha_pattern": {"to_v": 2}, "rank_pattern": {"to_q": 1}, "target_modules": TARGETS},
    ],
    ids=str,
)
def test_an_adapter_of_the_library_s_gives_our_network_the_same_output(ours, tmp_path, save, settings):
    network, library = ours
    save(randomised(library, **settings), tmp_path)
    adapted("lora", network, {}, weights=str(tmp_path))
    for shape in SHAPES:
        torch.testing.assert_close(ours_at(network, shape), theirs_at(library, shape), rtol=0, atol=1e-5)


def test_what_is_read_is_written_as_it_was_and_merged_it_is_the_library_s(ours, tmp_path):
    network, library = ours
    saved_by_itself(randomised(library, r=4, lora_alpha=4, target_modules=TARGETS), tmp_path)
    part, _ = adapted("lora", network, {}, weights=str(tmp_path))
    expected = {f"unet.{name}": x for name, x in get_peft_model_state_dict(library).items()}
    found = part.file(network)
    assert found.keys() == expected.keys() and all(torch.equal(found[name], x) for name, x in expected.items())
    part.merge(network)
    torch.testing.assert_close(ours_at(network, SHAPES[1]), theirs_at(library, SHAPES[1]), rtol=0, atol=1e-4)


# --- Wan's transformer ------------------------------------------------------------------------------------------------


def wan_at(network, shape):
    """What ours makes of noise and text, as the library orders it."""
    level, text = torch.full(shape[:2], 500.0), torch.randn(shape[0], 7, 16, generator=torch.Generator().manual_seed(2))
    b, v, t = shape[:3]
    x = latents(shape)
    told = Conditioning(channels=x[:, :, :, 4:], text=text[:, None, None])
    with torch.no_grad():
        found = network(x[:, :, :, :4], level[..., None].expand(b, v, t), told, grid=tiny_batch(b, v, t).view_grid())
    return found.flatten(0, 1).transpose(1, 2)


def library_wan_at(network, shape):
    level, text = torch.full(shape[:2], 500.0), torch.randn(shape[0], 7, 16, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        x = latents(shape).flatten(0, 1).transpose(1, 2)
        return network(x, level.flatten(), text.repeat_interleave(shape[1], dim=0)).sample


@pytest.fixture
def wan():
    """Ours, and a pipeline of the library's around its own network with the same weights."""
    network = build_wan()
    return network, WanPipeline(None, None, None, None, wan_twin(network))


@pytest.mark.parametrize(
    "settings",
    [
        {"rank": 3},
        {"rank": 4, "alpha": 8, "targets": ("attention", "feed_forward")},
        {"rank": 2, "targets": ("patch_embedding", "time_proj", "proj_out", "text_embedder.linear_1")},
    ],
    ids=str,
)
def test_an_adapter_of_ours_gives_the_library_s_pipeline_the_same_output(wan, tmp_path, settings):
    network, pipeline = wan
    before = wan_at(network, WAN_SHAPES[0])
    part, _ = adapted("lora", network, {}, **settings)
    save_file(part.file(noisy(network)), tmp_path / "pytorch_lora_weights.safetensors")
    pipeline.load_lora_weights(tmp_path)
    for shape in WAN_SHAPES:
        torch.testing.assert_close(
            wan_at(network, shape), library_wan_at(pipeline.transformer, shape), rtol=0, atol=1e-5
        )
    assert not torch.allclose(wan_at(network, WAN_SHAPES[0]), before, atol=1e-2)


WAN_TARGETS = [*TARGETS, "ffn.net.0.proj", "ffn.net.2"]


@pytest.mark.parametrize(
    "settings",
    [
        {"r": 4, "target_modules": WAN_TARGETS},
        {
            "r": 4,
            "lora_alpha": 8,
            "alpha_pattern": {"to_v": 2},
            "rank_pattern": {"to_q": 1},
            "target_modules": WAN_TARGETS,
        },
    ],
    ids=str,
)
def test_an_adapter_of_the_library_s_pipeline_gives_our_network_the_same_output(wan, tmp_path, settings):
    network, pipeline = wan
    randomised(pipeline.transformer, **settings)
    words = pipeline.transformer.peft_config["default"].to_dict()
    pipeline.save_lora_weights(
        tmp_path,
        transformer_lora_layers=get_peft_model_state_dict(pipeline.transformer),
        transformer_lora_adapter_metadata=words,
    )
    adapted("lora", network, {}, weights=str(tmp_path))
    for shape in WAN_SHAPES:
        torch.testing.assert_close(
            wan_at(network, shape), library_wan_at(pipeline.transformer, shape), rtol=0, atol=1e-5
        )


@pytest.mark.parametrize("halves", [("lora_A", "lora_B"), ("lora_down", "lora_up")])
def test_a_file_by_wan_s_own_names_is_read_as_the_library_reads_it(wan, tmp_path, halves):
    """With ``diffusion_model.`` before them, and scales beside."""
    network, pipeline = wan
    random, width, tensors = torch.Generator().manual_seed(3), network.config.width, {}
    for block in range(network.config.layers):
        for layer in ("self_attn.q", "self_attn.o", "cross_attn.k", "cross_attn.v", "ffn.0", "ffn.2"):
            inner = network.config.feed_forward
            inputs, outputs = {"ffn.0": (width, inner), "ffn.2": (inner, width)}.get(layer, (width, width))
            place = f"diffusion_model.blocks.{block}.{layer}"
            tensors[f"{place}.{halves[0]}.weight"] = 0.1 * torch.randn(4, inputs, generator=random)
            tensors[f"{place}.{halves[1]}.weight"] = 0.1 * torch.randn(outputs, 4, generator=random)
            tensors[f"{place}.alpha"] = torch.tensor(2.0)
    save_file(tensors, tmp_path / "lora.safetensors")
    pipeline.load_lora_weights(tmp_path, weight_name="lora.safetensors")
    adapted("lora", network, {}, weights=str(tmp_path / "lora.safetensors"))
    found = wan_at(network, WAN_SHAPES[1])
    torch.testing.assert_close(found, library_wan_at(pipeline.transformer, WAN_SHAPES[1]), rtol=0, atol=1e-5)


# --- FLUX's transformer -----------------------------------------------------------------------------------------------


@pytest.fixture
def kontext():
    """Ours, and a pipeline of the library's around its own network with the same weights."""
    network = flux.build()
    names = ("scheduler", "vae", "text_encoder", "tokenizer", "text_encoder_2", "tokenizer_2")
    return network, FluxKontextPipeline(**dict.fromkeys(names), transformer=flux.library_twin(network))


def same_pictures(network, library) -> bool:
    """Whether both make the same of noise, text and a reference picture, at several shapes."""
    for shape in flux.SHAPES:
        given = flux.inputs(shape, 1)
        expected = flux.asked_of_library(library, *given)
        torch.testing.assert_close(flux.run(network, *given), expected, rtol=0, atol=1e-5)
    return True


@pytest.mark.parametrize(
    "settings",
    [
        {"rank": 3},
        {"rank": 4, "alpha": 8, "targets": ("attention", "feed_forward")},
        {"rank": 2, "targets": ("x_embedder", "context_embedder", "norm_out.linear", "timestep_embedder.linear_1")},
    ],
    ids=str,
)
def test_an_adapter_of_ours_gives_the_library_s_pipeline_of_pictures_the_same_output(kontext, tmp_path, settings):
    network, pipeline = kontext
    before = flux.run(network, *flux.inputs(flux.SHAPES[0], 1))
    part, _ = adapted("lora", network, {}, **settings)
    save_file(part.file(noisy(network)), tmp_path / "pytorch_lora_weights.safetensors")
    pipeline.load_lora_weights(tmp_path)
    assert same_pictures(network, pipeline.transformer)
    assert not torch.allclose(flux.run(network, *flux.inputs(flux.SHAPES[0], 1)), before, atol=1e-2)


def test_an_adapter_of_the_library_s_pipeline_of_pictures_gives_our_network_the_same_output(kontext, tmp_path):
    network, pipeline = kontext
    settings = {"r": 4, "lora_alpha": 8, "target_modules": [*WAN_TARGETS[:4], "ff.net.0.proj", "ff.net.2", "proj_mlp"]}
    randomised(pipeline.transformer, **settings)
    pipeline.save_lora_weights(
        tmp_path,
        transformer_lora_layers=get_peft_model_state_dict(pipeline.transformer),
        transformer_lora_adapter_metadata=pipeline.transformer.peft_config["default"].to_dict(),
    )
    adapted("lora", network, {}, weights=str(tmp_path))
    assert same_pictures(network, pipeline.transformer)
