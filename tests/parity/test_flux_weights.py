"""Published FLUX weights: every tensor lands, what is new is said, what does not fit is named.

The folder has the layout that the library writes, of its own class with random weights, for there is no network here.
"""

import json
import shutil
from functools import partial
from pathlib import Path

import pytest
import torch
from diffusers import FluxTransformer2DModel
from safetensors.torch import load_file, save_file
from test_flux_kontext import SMALL

from components.backbones import flux_kontext
from components.backbones.flux_kontext import FluxKontext, FluxKontextConfig
from components.view_attention.aligned_2d import Aligned2dConfig, Aligned2dViewAttention
from hvg.core.errors import HvgError
from hvg.parts.context import BackboneContext
from hvg.values.conditioning import LatentShape

FILE = "transformer/diffusion_pytorch_model.safetensors"


def save(folder: Path, shards: str = "1GB", **settings) -> Path:
    """A pipeline's folder with its ``transformer/``, for latents of 4 channels."""
    torch.manual_seed(3)
    own = flux_kontext._library_settings(FluxKontextConfig(**SMALL | settings))
    FluxTransformer2DModel(in_channels=16, **own).save_pretrained(folder / "transformer", max_shard_size=shards)
    return folder


@pytest.fixture(scope="module")
def published(tmp_path_factory) -> Path:
    return save(tmp_path_factory.mktemp("flux"))


def start(place: Path | str, extra: int = 0, **settings) -> tuple[FluxKontext, list[str]]:
    """A network with everything that is ours, which starts from these weights, and what it says of them."""
    config = FluxKontextConfig(**SMALL | {"memory": "gated", "weights": str(place)} | settings)
    ports = FluxKontext.ports(config, LatentShape(4, 8))
    context = BackboneContext(
        ports=ports,
        channels=extra,
        memory=frozenset(ports.memory),
        view_attention=partial(Aligned2dViewAttention, Aligned2dConfig()),
    )
    network = FluxKontext(config, context)
    return network, network.load_pretrained()


def lands(network: FluxKontext, weights: dict[str, torch.Tensor]) -> bool:
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


def test_shards_half_precision_and_the_component_s_folder_give_the_same_weights(published, tmp_path):
    save(tmp_path, shards="50KB")
    assert (tmp_path / "transformer/diffusion_pytorch_model.safetensors.index.json").exists()
    weights = load_file(published / FILE)
    assert lands(start(tmp_path)[0], weights) and lands(start(published / "transformer")[0], weights)
    half = shutil.copytree(published, tmp_path / "half")
    save_file({name: x.bfloat16() for name, x in weights.items()}, half / FILE)
    assert lands(start(half)[0], {name: x.bfloat16() for name, x in weights.items()})


def test_further_input_channels_start_at_zero(published):
    network, lines = start(published, extra=5)
    weight = network.x_embedder.weight
    assert torch.equal(weight[:, :16], load_file(published / FILE)["x_embedder.weight"])
    assert weight.shape[1] == 36 and not weight[:, 16:].any()
    assert lines[1] == "x_embedder: 20 input channels beyond the published 16 start at zero"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda x: {n: y for n, y in x.items() if n != "single_transformer_blocks.1.proj_out.bias"},
            r"missing single_transformer_blocks\.1\.proj_out\.bias$",
        ),
        (
            lambda x: x | {"transformer_blocks.1.surprise": torch.zeros(5)},
            r"unexpected transformer_blocks\.1\.surprise$",
        ),
        (lambda x: x | {"proj_out.bias": torch.zeros(5)}, r"proj_out\.bias has shape \(5,\), the model \(16,\)$"),
    ],
)
def test_weights_without_a_place_are_named(published, tmp_path, change, message):
    copy = shutil.copytree(published, tmp_path / "damaged")
    save_file(change(load_file(copy / FILE)), copy / FILE)
    with pytest.raises(HvgError, match=message):
        start(copy)


def test_another_network_is_told_by_its_settings(published, tmp_path):
    copy = shutil.copytree(published, tmp_path / "other")
    path = copy / "transformer/config.json"
    settings = json.loads(path.read_text())
    path.write_text(json.dumps(settings | {"guidance_embeds": False, "axes_dims_rope": [4, 10, 10]}))
    told = r"guidance_embeds is True here and False there; axes_dims_rope is 8 here and \[4, 10, 10\] there$"
    with pytest.raises(HvgError, match=told):
        start(copy)
    # Older files do not say what became a setting later.
    path.write_text(json.dumps({key: x for key, x in settings.items() if key != "axes_dims_rope"}))
    with pytest.raises(HvgError, match="axes_dims_rope is 8 here and None there"):
        start(copy)


def test_older_files_mean_the_library_s_default_axes(tmp_path):
    sizes = {"width": 128, "heads": 1, "axes": (16, 56, 56), "double_blocks": 1, "single_blocks": 1}
    path = save(tmp_path, **sizes) / "transformer/config.json"
    path.write_text(json.dumps({k: x for k, x in json.loads(path.read_text()).items() if k != "axes_dims_rope"}))
    assert lands(start(tmp_path, **sizes)[0], load_file(tmp_path / FILE))


def test_a_hub_id_out_of_reach_is_one_line(monkeypatch, tmp_path):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(HvgError, match=r"^backbone\.weights: no transformer at 'nobody/nothing'. Give") as error:
        start("nobody/nothing")
    assert "\n" not in str(error.value)
