"""Published Wan weights: every tensor lands, what is new is said, what does not fit is named.

The folder has the layout that the library writes, of its own class with random weights, for there is no network here.
"""

import json
import shutil
from functools import partial
from pathlib import Path

import pytest
import torch
from diffusers import WanTransformer3DModel
from safetensors.torch import load_file, save_file

from components.backbones import wan_dit
from components.backbones.wan_dit import WanDit, WanDitConfig
from components.view_attention.aligned_2d import Aligned2dConfig, Aligned2dViewAttention
from hvg.config.composition import compose
from hvg.core.errors import HvgError
from hvg.parts.context import BackboneContext
from hvg.train.run import start_system
from hvg.values.conditioning import LatentShape

FILE = "transformer/diffusion_pytorch_model.safetensors"
SMALL = {"width": 48, "heads": 2, "layers": 2, "feed_forward": 64, "cross_attention_width": 16, "frequencies": 16}
OWN = {"tokens": "own", "token_width": 20}


def save(folder: Path, channels: int = 4, shards: str = "1GB", **settings) -> Path:
    """A pipeline's folder with its ``transformer/``, for latents of ``channels``."""
    config = WanDitConfig(**SMALL | settings)
    torch.manual_seed(3)
    library = WanTransformer3DModel(in_channels=channels, **wan_dit._library_settings(config, channels))
    library.save_pretrained(folder / "transformer", max_shard_size=shards)
    return folder


@pytest.fixture(scope="module")
def published(tmp_path_factory) -> Path:
    return save(tmp_path_factory.mktemp("wan"))


def start(place: Path | str, extra: int = 0, **settings) -> tuple[WanDit, list[str]]:
    """A network with everything that is ours, which starts from these weights, and what it says of them."""
    config = WanDitConfig(**SMALL | {"memory": "gated", "weights": str(place)} | settings)
    ports = WanDit.ports(config, LatentShape(4, 8, 4))
    context = BackboneContext(
        ports=ports,
        channels=extra,
        memory=frozenset(ports.memory),
        view_attention=partial(Aligned2dViewAttention, Aligned2dConfig()),
    )
    network = WanDit(config, context)
    return network, network.load_pretrained()


def lands(network: WanDit, weights: dict[str, torch.Tensor]) -> bool:
    own = network.state_dict()
    return all(torch.equal(own[name], x.float()) for name, x in weights.items())


def test_every_published_weight_is_loaded_and_what_is_new_is_said(published):
    network, lines = start(published)
    weights = load_file(published / FILE)
    assert lands(network, weights)
    new = {"view_attention": 0, "memory_gate": 0}
    for name in network.state_dict().keys() - weights.keys():
        new[name.split(".")[0]] += network.state_dict()[name].numel()
    told = ", ".join(f"{word} ({number:,} weights)" for word, number in new.items())
    assert lines == [f"transformer: {len(weights)} tensors from {published}; new: {told}"] and all(new.values())


def test_half_precision_and_shards_and_the_component_s_folder_give_the_same_weights(published, tmp_path):
    save(tmp_path, shards="50KB")
    assert (tmp_path / "transformer/diffusion_pytorch_model.safetensors.index.json").exists()
    weights = load_file(published / FILE)
    assert lands(start(tmp_path)[0], weights) and lands(start(published / "transformer")[0], weights)
    half = shutil.copytree(published, tmp_path / "half")
    save_file({name: x.bfloat16() for name, x in weights.items()}, half / FILE)
    network, _ = start(half)
    assert lands(network, {name: x.bfloat16() for name, x in weights.items()})
    assert all(x.dtype == torch.float32 for x in network.state_dict().values())


def test_further_input_channels_start_at_zero_and_missing_ones_are_left_out(published, tmp_path):
    network, lines = start(published, extra=5)
    weight = network.patch_embedding.weight
    assert torch.equal(weight[:, :4], load_file(published / FILE)["patch_embedding.weight"])
    assert weight.shape[1] == 9 and not weight[:, 4:].any()
    assert lines[1] == "patch_embedding: 5 input channels beyond the published 4 start at zero"
    wide = save(tmp_path)
    weights = load_file(wide / FILE)
    weights["patch_embedding.weight"] = torch.randn(48, 9, 1, 2, 2)
    save_file(weights, wide / FILE)
    network, lines = start(wide)
    assert torch.equal(network.patch_embedding.weight, weights["patch_embedding.weight"][:, :4])
    assert lines[1] == "patch_embedding: the first 4 of 9 published input channels are used, as if the others were zero"


def test_an_image_to_video_model_brings_its_layers_and_others_start_without_effect(published, tmp_path):
    folder = save(tmp_path, **OWN)
    weights = load_file(folder / FILE)
    # Files from before the library left it out hold a norm that nothing uses.
    save_file(weights | {"blocks.0.attn2.norm_added_q.weight": torch.ones(48)}, folder / FILE)
    network, lines = start(folder, **OWN)
    assert lands(network, weights) and "add_k_proj" not in lines[0]
    network, lines = start(published, **OWN)
    for word in ("image_embedder", "add_k_proj", "add_v_proj", "norm_added_k"):
        assert f"{word} (" in lines[0]
    assert not any(weight.any() for block in network.blocks for weight in block.attn2.add_v_proj.parameters())
    with pytest.raises(
        HvgError, match="image_dim is None here and 20 there; added_kv_proj_dim is None here and 48 there"
    ):
        start(folder)


def damaged(published: Path, folder: Path, change) -> Path:
    copy = shutil.copytree(published, folder / "damaged")
    save_file(change(load_file(copy / FILE)), copy / FILE)
    return copy


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda x: {n: y for n, y in x.items() if n != "blocks.1.ffn.net.2.bias"},
            r"missing blocks\.1\.ffn\.net\.2\.bias$",
        ),
        (lambda x: x | {"blocks.1.surprise": torch.zeros(5)}, r"unexpected blocks\.1\.surprise$"),
        (lambda x: x | {"proj_out.bias": torch.zeros(5)}, r"proj_out\.bias has shape \(5,\), the model \(16,\)$"),
    ],
)
def test_weights_without_a_place_are_named(published, tmp_path, change, message):
    with pytest.raises(HvgError, match=message):
        start(damaged(published, tmp_path, change))


def test_another_network_is_told_by_its_settings(published, tmp_path):
    copy = shutil.copytree(published, tmp_path / "other")
    path = copy / "transformer/config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"num_attention_heads": 3, "text_dim": 4096}))
    told = "num_attention_heads is 2 here and 3 there; text_dim is 16 here and 4096 there$"
    with pytest.raises(HvgError, match=told):
        start(copy)


def test_a_hub_id_out_of_reach_is_one_line(monkeypatch, tmp_path):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(HvgError, match=r"^backbone\.weights: no transformer at 'nobody/nothing'. Give") as error:
        start("nobody/nothing")
    assert "\n" not in str(error.value)


def test_a_run_starts_from_them_and_its_reference_net_copies_them(tmp_path):
    """Behind the codec of scale=cpu, which has 48 channels; the photo's latents are 48 more."""
    folder, lines = save(tmp_path, channels=48), []
    small = [f"backbone.{key}={value}" for key, value in SMALL.items()]
    words = ["backbone=wan_1_3b", *small, f"backbone.weights={folder}", "reference_keys=reference_net"]
    system = start_system(compose(words), lines.append)
    weights = load_file(folder / FILE)
    assert lines[0].startswith(f"transformer: {len(weights)} tensors from {folder}; new: view_attention (")
    copied = system.conditioners["reference_keys"].encoder
    assert torch.equal(copied.patch_embedding.weight, weights["patch_embedding.weight"])
    assert [name for name in weights if name.startswith("blocks.1.")] and list(copied.blocks) == ["block_0"]
