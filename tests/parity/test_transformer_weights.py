"""Published weights of transformers: every tensor lands, what is new is said, what does not fit is named.

The folders have the layout that the library writes, of its own classes with random weights, for there is no network here.
"""

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import FluxTransformer2DModel, WanTransformer3DModel
from safetensors.torch import load_file, save_file
from test_flux_kontext import SMALL as SMALL_FLUX

from components.backbones import flux_kontext, wan_dit
from components.backbones.flux_kontext import FluxKontext, FluxKontextConfig
from components.backbones.wan_dit import WanDit, WanDitConfig
from components.view_attention.aligned_2d import Aligned2dConfig, Aligned2dViewAttention
from hvg.config.composition import compose
from hvg.core.errors import HvgError
from hvg.parts.backbone import Backbone
from hvg.parts.context import BackboneContext
from hvg.train.run import start_system
from hvg.values.conditioning import LatentShape

FILE = "transformer/diffusion_pytorch_model.safetensors"
SMALL_WAN = {"width": 48, "heads": 2, "layers": 2, "feed_forward": 64, "cross_attention_width": 16, "frequencies": 16}
OWN = {"tokens": "own", "token_width": 20}


@dataclass(frozen=True)
class Family:
    """A backbone and the library's model that it takes weights of."""

    backbone: type[Backbone]
    config: Callable[..., Any]
    small: Mapping[str, Any]
    latents: LatentShape
    library: Callable[[Any, int], torch.nn.Module]
    # The layer that reads pictures, and how many channels each latent channel becomes before it.
    first: str
    folded: int
    # A bias inside, and the prefix of a block.
    bias: str
    block: str
    # Settings of other weights, and what is said of them.
    other: Mapping[str, Any]
    told: str

    def save(self, folder: Path, channels: int = 4, shards: str = "1GB", **settings) -> Path:
        """A pipeline's folder with its ``transformer/``, for latents of ``channels``."""
        torch.manual_seed(3)
        library = self.library(self.config(**{**self.small, **settings}), channels)
        library.save_pretrained(folder / "transformer", max_shard_size=shards)
        return folder

    def start(self, place: Path | str, extra: int = 0, **settings) -> tuple[Any, list[str]]:
        """A network with everything that is ours, which starts from these weights, and what it says of them."""
        config = self.config(**{**self.small, "memory": "gated", "weights": str(place), **settings})
        ports = self.backbone.ports(config, self.latents)
        context = BackboneContext(
            ports=ports,
            channels=extra,
            memory=frozenset(ports.memory),
            view_attention=partial(Aligned2dViewAttention, Aligned2dConfig()),
        )
        network = self.backbone(config, context)
        return network, network.load_pretrained()


WAN = Family(
    backbone=WanDit,
    config=WanDitConfig,
    small=SMALL_WAN,
    latents=LatentShape(4, 8, 4),
    library=lambda config, channels: WanTransformer3DModel(
        in_channels=channels, **wan_dit._library_settings(config, channels)
    ),
    first="patch_embedding",
    folded=1,
    bias="blocks.1.ffn.net.2.bias",
    block="blocks.1",
    other={"num_attention_heads": 3, "text_dim": 4096},
    told="num_attention_heads is 2 here and 3 there; text_dim is 16 here and 4096 there$",
)
FLUX = Family(
    backbone=FluxKontext,
    config=FluxKontextConfig,
    small=SMALL_FLUX,
    latents=LatentShape(4, 8),
    library=lambda config, channels: FluxTransformer2DModel(
        in_channels=4 * channels, **flux_kontext._library_settings(config)
    ),
    first="x_embedder",
    folded=4,
    bias="single_transformer_blocks.1.proj_out.bias",
    block="transformer_blocks.1",
    other={"guidance_embeds": False, "axes_dims_rope": [4, 10, 10]},
    told=r"guidance_embeds is True here and False there; axes_dims_rope is 8 here and \[4, 10, 10\] there$",
)


@pytest.fixture(scope="module", params=[WAN, FLUX], ids=["wan", "flux"])
def family(request) -> Family:
    return request.param


@pytest.fixture(scope="module")
def published(family, tmp_path_factory) -> Path:
    return family.save(tmp_path_factory.mktemp("published"))


def lands(network: torch.nn.Module, weights: Mapping[str, torch.Tensor]) -> bool:
    own = network.state_dict()
    return all(torch.equal(own[name], x.float()) for name, x in weights.items())


def settings_of(folder: Path) -> tuple[Path, dict[str, Any]]:
    path = folder / "transformer/config.json"
    return path, json.loads(path.read_text())


# --- both families ---


def test_every_published_weight_is_loaded_and_what_is_new_is_said(family, published):
    network, lines = family.start(published)
    weights = load_file(published / FILE)
    assert lands(network, weights)
    new = {"view_attention": 0, "memory_gate": 0}
    for name in network.state_dict().keys() - weights.keys():
        new[name.split(".")[0]] += network.state_dict()[name].numel()
    told = ", ".join(f"{word} ({number:,} weights)" for word, number in new.items())
    assert lines == [f"transformer: {len(weights)} tensors from {published}; new: {told}"] and all(new.values())


def test_half_precision_and_shards_and_the_component_s_folder_give_the_same_weights(family, published, tmp_path):
    family.save(tmp_path, shards="50KB")
    assert (tmp_path / "transformer/diffusion_pytorch_model.safetensors.index.json").exists()
    weights = load_file(published / FILE)
    assert lands(family.start(tmp_path)[0], weights) and lands(family.start(published / "transformer")[0], weights)
    half = shutil.copytree(published, tmp_path / "half")
    save_file({name: x.bfloat16() for name, x in weights.items()}, half / FILE)
    network, _ = family.start(half)
    assert lands(network, {name: x.bfloat16() for name, x in weights.items()})
    assert all(x.dtype == torch.float32 for x in network.state_dict().values())


def test_further_input_channels_start_at_zero(family, published):
    network, lines = family.start(published, extra=5)
    weight, had = getattr(network, family.first).weight, 4 * family.folded
    assert torch.equal(weight[:, :had], load_file(published / FILE)[f"{family.first}.weight"])
    further = 5 * family.folded
    assert weight.shape[1] == had + further and not weight[:, had:].any()
    assert lines[1] == f"{family.first}: {further} input channels beyond the published {had} start at zero"


@pytest.mark.parametrize("damage", ["missing", "unexpected", "shape"])
def test_weights_without_a_place_are_named(family, published, tmp_path, damage):
    copy = shutil.copytree(published, tmp_path / "damaged")
    weights = load_file(copy / FILE)
    if damage == "missing":
        del weights[family.bias]
        message = f"missing {family.bias}$"
    elif damage == "unexpected":
        weights[f"{family.block}.surprise"] = torch.zeros(5)
        message = f"unexpected {family.block}.surprise$"
    else:
        weights["proj_out.bias"] = torch.zeros(5)
        message = r"proj_out\.bias has shape \(5,\), the model \(16,\)$"
    save_file(weights, copy / FILE)
    with pytest.raises(HvgError, match=message):
        family.start(copy)


def test_another_network_is_told_by_its_settings(family, published, tmp_path):
    path, settings = settings_of(shutil.copytree(published, tmp_path / "other"))
    path.write_text(json.dumps(settings | family.other))
    with pytest.raises(HvgError, match=family.told):
        family.start(tmp_path / "other")


def test_a_hub_id_out_of_reach_is_one_line(family, monkeypatch, tmp_path):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(HvgError, match=r"^backbone\.weights: no transformer at 'nobody/nothing'. Give") as error:
        family.start("nobody/nothing")
    assert "\n" not in str(error.value)


# --- Wan ---


def test_input_channels_that_are_missing_are_left_out(tmp_path):
    wide = WAN.save(tmp_path)
    weights = load_file(wide / FILE)
    weights["patch_embedding.weight"] = torch.randn(48, 9, 1, 2, 2)
    save_file(weights, wide / FILE)
    network, lines = WAN.start(wide)
    assert torch.equal(network.patch_embedding.weight, weights["patch_embedding.weight"][:, :4])
    assert lines[1] == "patch_embedding: the first 4 of 9 published input channels are used, as if the others were zero"


def test_an_image_to_video_model_brings_its_layers_and_others_start_without_effect(tmp_path):
    published, folder = WAN.save(tmp_path / "text"), WAN.save(tmp_path / "image", **OWN)
    weights = load_file(folder / FILE)
    # Files from before the library left it out hold a norm that nothing uses.
    save_file(weights | {"blocks.0.attn2.norm_added_q.weight": torch.ones(48)}, folder / FILE)
    network, lines = WAN.start(folder, **OWN)
    assert lands(network, weights) and "add_k_proj" not in lines[0]
    network, lines = WAN.start(published, **OWN)
    for word in ("image_embedder", "add_k_proj", "add_v_proj", "norm_added_k"):
        assert f"{word} (" in lines[0]
    assert not any(weight.any() for block in network.blocks for weight in block.attn2.add_v_proj.parameters())
    with pytest.raises(
        HvgError, match="image_dim is None here and 20 there; added_kv_proj_dim is None here and 48 there"
    ):
        WAN.start(folder)


def test_a_run_starts_from_them_and_its_reference_net_copies_them(tmp_path):
    """Behind the codec of scale=cpu, which has 48 channels; the photo's latents are 48 more."""
    folder, lines = WAN.save(tmp_path, channels=48), []
    small = [f"backbone.{key}={value}" for key, value in SMALL_WAN.items()]
    words = ["backbone=wan_1_3b", *small, f"backbone.weights={folder}", "reference_keys=reference_net"]
    system = start_system(compose(words), lines.append)
    weights = load_file(folder / FILE)
    assert lines[0].startswith(f"transformer: {len(weights)} tensors from {folder}; new: view_attention (")
    copied = system.conditioners["reference_keys"].encoder
    assert torch.equal(copied.patch_embedding.weight, weights["patch_embedding.weight"])
    assert [name for name in weights if name.startswith("blocks.1.")] and list(copied.blocks) == ["block_0"]


# --- FLUX ---


def test_older_files_mean_the_library_s_default_axes(tmp_path):
    """They do not say what became a setting later."""
    sizes = {"width": 128, "heads": 1, "axes": (16, 56, 56), "double_blocks": 1, "single_blocks": 1}
    for name, more in (("default", sizes), ("small", {})):
        path, settings = settings_of(FLUX.save(tmp_path / name, **more))
        path.write_text(json.dumps({key: x for key, x in settings.items() if key != "axes_dims_rope"}))
    assert lands(FLUX.start(tmp_path / "default", **sizes)[0], load_file(tmp_path / "default" / FILE))
    with pytest.raises(HvgError, match="axes_dims_rope is 8 here and None there"):
        FLUX.start(tmp_path / "small")
