"""Which weights an adapter trains, and what it says where its settings mean nothing."""

import json

import pytest
import torch
from safetensors.torch import save_file
from tiny_adapters import adapted, learning, networks, noisy

from hvg.config.composition import compose, parse_resolved
from hvg.core.digests import weights_digest
from hvg.core.errors import ConfigError, HvgError
from hvg.cost.forecast import forecast
from hvg.model.load import build_system, make_optimizer, start_system
from hvg.parts.adapter import named_weights
from hvg.train.shares import WeightSizes, share
from hvg.values.conditioning import Conditioning

LORA = ".lora_"


@pytest.fixture
def parts():
    return networks()


def outputs(backbone):
    random = torch.Generator().manual_seed(0)
    noisy_latents = torch.randn(1, 1, 2, backbone.latent_channels, 8, 8, generator=random)
    with torch.no_grad():
        return backbone(noisy_latents, torch.zeros(1, 1, 2), Conditioning())


# --- which weights train ----------------------------------------------------------------------------------------------


def test_a_norm_behind_frozen_layers_has_gradients(parts):
    """torch's backward pass would end the process: channels lie last, and what is frozen needs no gradient."""
    norms = [module for module in parts[0].modules() if isinstance(module, torch.nn.GroupNorm)]
    assert norms
    for norm in norms:
        x = torch.randn(2, norm.num_channels, 4, 4).contiguous(memory_format=torch.channels_last)
        norm(x).square().sum().backward()
        assert norm.weight.grad is not None and norm.weight.grad.any()


def test_full_trains_all_but_what_a_conditioner_freezes(parts):
    next(parts[1]["camera"].parameters()).requires_grad_(False)
    expected = learning(*parts)
    assert adapted("full", *parts)[1] == {} and learning(*parts) == expected
    assert len(expected) == len(named_weights(*parts)) - 1


def test_a_pattern_is_a_word_or_a_name_or_its_end_and_the_last_one_holds(parts):
    train = {"backbone.down_blocks.*": 1e-3, "temporal": 1e-4, "to_q.weight": None, "down_blocks.0.*to_q.weight": 0}
    _, rates = adapted("patterns", *parts, train=train)
    of_backbone = {name for name in learning(*parts) if name.startswith("backbone.")}
    for name in named_weights(*parts):
        temporal = any(word in name for word in (".temporal_", ".time_mixer.", ".time_pos_embed."))
        queries, first = name.endswith(".to_q.weight"), name.startswith("backbone.down_blocks.0.")
        if name.startswith("backbone."):
            down = name.startswith("backbone.down_blocks.")
            assert (name in of_backbone) == ((down or temporal or queries) and not (first and queries)), name
            expected = None if queries or name not in of_backbone else 1e-4 if temporal else 1e-3
            assert rates.get(name) == expected, name
    assert any(rates.get(name) is None for name in of_backbone)


def test_conditioners_train_as_they_do_unless_a_pattern_names_them(parts):
    own = {name for name in learning(*parts) if name.startswith("conditioners.")}
    _, rates = adapted("patterns", *parts, train={"temporal": None})
    assert {name for name in learning(*parts) if name.startswith("conditioners.")} == own and not rates
    _, rates = adapted("patterns", *parts, train={"temporal": None, "conditioners.camera.*": 1e-5})
    assert rates == dict.fromkeys(own, 1e-5)
    adapted("patterns", *parts, train={"temporal": None, "conditioners.*": 0})
    assert not {name for name in learning(*parts) if name.startswith("conditioners.")}


def test_lora_trains_what_it_adds_and_what_else_it_is_told(parts):
    before = outputs(parts[0])
    known = set(named_weights(*parts))
    _, rates = adapted("lora", *parts, rank=2, targets=("to_k", "mid_block.*.proj_in"), learning_rate=1e-2)
    train, weights = learning(*parts), named_weights(*parts)
    added = {name for name in train if LORA in name}
    assert added == {name for name in weights if LORA in name} == set(rates) and set(rates.values()) == {1e-2}
    assert train - added == {name for name in known if name.startswith("conditioners.")}
    layers = {name.partition(LORA)[0] for name in added}
    assert all(name.endswith((".to_k", "mid_block.attentions.0.proj_in")) for name in layers)
    assert len([name for name in layers if name.endswith("proj_in")]) == 1
    assert {weights[name].shape[0] for name in added if "lora_A" in name} == {2}
    assert torch.equal(outputs(parts[0]), before)


def test_a_rate_of_a_layer_s_own_weight_goes_with_it_when_something_is_added(parts):
    _, rates = adapted("lora", *parts, targets=("attn1.to_q",), also={"attn1.to_q.weight": 1e-4})
    assert rates and all(name.endswith("attn1.to_q.base_layer.weight") for name in rates)
    assert {name for name in learning(*parts) if "base_layer" in name} == set(rates)


def test_gaussian_and_zero_are_peft_s(parts):
    first, second = parts, networks()
    adapted("lora", *first, rank=4, init="gaussian")
    adapted("lora", *second, rank=4, init="zero")
    for backbone, spread in ((first[0], 1 / 4), (second[0], None)):
        weights = dict(backbone.named_parameters())
        assert not any(bool(x.any()) for name, x in weights.items() if "lora_B" in name)
        down = torch.cat([x.detach().flatten() for name, x in weights.items() if "lora_A" in name])
        if spread is not None:
            assert float(down.std()) == pytest.approx(spread, rel=0.05)
        else:
            # Uniform in +- 1 / sqrt(in).
            assert float(down.abs().max()) <= 1 / 24**0.5 + 1e-6


def test_alpha_scales_what_is_added(parts):
    plain, doubled = parts, networks()
    part, _ = adapted("lora", *plain, rank=4)
    other, _ = adapted("lora", *doubled, rank=4, alpha=8)
    files = [one.file(noisy(backbone)) for one, backbone in ((part, plain[0]), (other, doubled[0]))]
    name = next(name for name in files[0] if name.endswith("lora_B.weight"))
    torch.testing.assert_close(files[1][name], 2 * files[0][name])


def test_merging_gives_back_the_network_s_own_names_with_the_same_output(parts):
    backbone, names = parts[0], list(parts[0].state_dict())
    part, _ = adapted("lora", *parts, targets=("attention", "feed_forward", "conv1"))
    before = outputs(noisy(backbone))
    part.merge(backbone)
    assert list(backbone.state_dict()) == names
    torch.testing.assert_close(outputs(backbone), before, rtol=1e-4, atol=1e-4)


# --- settings that mean nothing ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "settings", "told"),
    [
        (
            "patterns",
            {"train": {"temporl": None}},
            "adapter.train: 'temporl' matches no weight. Did you mean 'temporal'?",
        ),
        (
            "patterns",
            {"train": {"new": None}},
            "adapter.train: 'new' matches no weight. As it is set, this backbone has none.",
        ),
        (
            "patterns",
            {"train": {"temporal": 1e-4, "backbone.*": None}},
            "adapter.train: patterns after 'temporal' mean all that it means",
        ),
        (
            "patterns",
            {"train": {"conditioners.frozen.*": None}},
            "means weights that the settings of their own part freeze",
        ),
        ("lora", {"targets": ("query",)}, "adapter.targets: 'query' matches no layer."),
        ("lora", {"targets": ("to_q", "norm1")}, "adapter.targets: 'norm1' matches no layer."),
        ("lora", {"also": {"gate": None}}, "adapter.also: 'gate' matches no weight."),
        ("lora", {"weights": "nowhere"}, "adapter.weights: no LoRA file at 'nowhere'"),
    ],
)
def test_what_means_nothing_is_named_in_a_line(parts, name, settings, told):
    backbone, conditioners = parts
    conditioners["frozen"] = torch.nn.Linear(2, 2).requires_grad_(False)
    with pytest.raises(HvgError) as refused:
        adapted(name, backbone, conditioners, **settings)
    assert told in str(refused.value) and "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("words", "place"),
    [
        (["adapter=lorra"], "adapter"),
        (["adapter=lora", "adapter.rank=0"], "adapter.rank"),
        (["adapter=lora", "adapter.init=ones"], "adapter.init"),
        (["adapter=patterns", "adapter.train={new:-1}"], "adapter.train.new"),
        (["adapter=full", "adapter.rank=3"], "adapter.rank"),
    ],
)
def test_settings_that_are_no_adapter_s_are_refused_before_anything_is_built(words, place):
    with pytest.raises(ConfigError) as refused:
        compose(words)
    assert place in [problem.path for problem in refused.value.problems]


def test_nothing_left_to_train_is_said(tiny):
    words = [*tiny, "adapter=patterns", "adapter.train={new:0,conditioners.*:0}"]
    with pytest.raises(HvgError, match="adapter=patterns: nothing is left to train"):
        start_system(compose(words), print)


def test_a_configuration_of_before_trains_everything(tiny):
    config = compose(tiny)
    resolved = config.resolved()
    assert resolved.pop("adapter") == {"name": "full"}
    assert parse_resolved(json.dumps(resolved), "config.yaml") == config


def test_rates_by_pattern_are_composed_and_written_down(tiny):
    words = ["adapter=patterns", "adapter.train={temporal:1e-4,backbone.*.to_q.weight:null}"]
    config = compose([*tiny, *words])
    assert (
        config.adapter.config.train["backbone.*.to_q.weight"] is None
        and config.adapter.config.train["temporal"] == 1e-4
    )
    assert parse_resolved(config.to_yaml(), "config.yaml").adapter.config == config.adapter.config


# --- files ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def written(parts):
    """A noisy adapter's file, and what the network with it computes."""
    part, _ = adapted("lora", *parts, rank=3, alpha=6, targets=("attention", "conv1"))
    return part.file(noisy(parts[0])), outputs(parts[0])


def renamed(tensors, prefix, down="lora_A", up="lora_B"):
    plain = {name.removeprefix("unet."): x for name, x in tensors.items()}
    return {f"{prefix}{n}".replace("lora_A", down).replace("lora_B", up): x.clone() for n, x in plain.items()}


PREFIXES = ["transformer.", "unet.", "diffusion_model.", "", "base_model.model.", "base_model.model.unet."]


@pytest.mark.parametrize("prefix", PREFIXES)
def test_every_prefix_is_understood(written, tmp_path, prefix):
    tensors, expected = written
    save_file(renamed(tensors, prefix), tmp_path / "lora.safetensors")
    backbone, conditioners = networks()
    adapted("lora", backbone, conditioners, weights=str(tmp_path / "lora.safetensors"), targets=("nothing",))
    torch.testing.assert_close(outputs(backbone), expected, rtol=1e-5, atol=1e-5)
    assert sum("lora_A" in name for name, _ in backbone.named_parameters()) == len(tensors) // 2


@pytest.mark.parametrize(
    ("down", "up"), [("lora_down", "lora_up"), ("lora.down", "lora.up"), ("lora_A.default", "lora_B.default")]
)
def test_other_names_of_the_two_matrices_are_understood(written, tmp_path, down, up):
    tensors, expected = written
    save_file(renamed(tensors, "", down, up), tmp_path / "lora.safetensors")
    backbone, conditioners = networks()
    adapted("lora", backbone, conditioners, weights=str(tmp_path / "lora.safetensors"))
    torch.testing.assert_close(outputs(backbone), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("told", ["alpha", "metadata", "beside", "by_root"])
def test_a_scale_is_read_where_files_tell_it(written, tmp_path, told):
    """What was scaled by 2 comes unscaled, with the number that says so."""
    tensors, expected = written
    halved = {name: x / 2 if "lora_B" in name else x.clone() for name, x in tensors.items()}
    words = None
    if told == "alpha":
        layers = {name.partition(LORA)[0] for name in halved}
        halved |= {f"{layer}.alpha": torch.tensor(6.0) for layer in layers}
    elif told == "metadata":
        words = {"lora_adapter_metadata": json.dumps({"unet.r": 3, "unet.lora_alpha": 6})}
    elif told == "by_root":
        words = {"lora_adapter_metadata": json.dumps({"lora_alpha": 2 * 3**0.5, "use_rslora": True})}
    else:
        (tmp_path / "adapter_config.json").write_text(json.dumps({"r": 3, "lora_alpha": 6}))
    save_file(halved, tmp_path / "adapter_model.safetensors", metadata=words)
    backbone, conditioners = networks()
    adapted("lora", backbone, conditioners, weights=str(tmp_path))
    torch.testing.assert_close(outputs(backbone), expected, rtol=1e-5, atol=1e-5)


def test_ranks_may_differ_from_layer_to_layer(written, tmp_path):
    tensors, _ = written
    layers = sorted({name.partition(LORA)[0] for name in tensors})[:2]
    kept = {name: x.clone() for name, x in tensors.items() if name.partition(LORA)[0] in layers}
    kept[f"{layers[1]}.lora_A.weight"] = kept[f"{layers[1]}.lora_A.weight"][:1].clone()
    kept[f"{layers[1]}.lora_B.weight"] = kept[f"{layers[1]}.lora_B.weight"][:, :1].clone()
    save_file(kept, tmp_path / "lora.safetensors")
    backbone, conditioners = networks()
    part, _ = adapted("lora", backbone, conditioners, weights=str(tmp_path / "lora.safetensors"))
    found = part.file(backbone)
    assert found.keys() == kept.keys() and all(torch.equal(found[name], x) for name, x in kept.items())


def dropped(tensors):
    return {name: x for name, x in tensors.items() if "lora_B" not in name}


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda tensors: renamed(tensors, "transformer.blocks.9."), "none of its keys belongs to a layer of SvdUNet"),
        (
            lambda tensors: tensors | {"text_encoder.x.lora_A.weight": torch.ones(1, 2)},
            "1 of its 45 keys do not belong",
        ),
        (lambda tensors: tensors | {"unet.conv_in.diff_b": torch.ones(1)}, "do not belong to a layer"),
        (dropped, "has no up matrix"),
        (lambda tensors: {n: x[..., :-1].clone() for n, x in tensors.items()}, "is for a network of another size"),
        (lambda tensors: {}, "holds nothing"),
    ],
)
def test_a_file_of_another_network_is_refused_in_a_line(written, tmp_path, change, told):
    tensors = change(dict(written[0]))
    save_file(tensors, tmp_path / "lora.safetensors")
    with pytest.raises(HvgError) as refused:
        adapted("lora", *networks(), weights=str(tmp_path / "lora.safetensors"))
    said = str(refused.value)
    assert said.startswith("adapter.weights: ") and "\n" not in said
    assert told.replace("45", str(len(tensors))) in said


def test_a_damaged_file_is_refused_in_a_line(tmp_path):
    (tmp_path / "lora.safetensors").write_bytes(b"no such thing")
    with pytest.raises(HvgError, match=r"adapter\.weights: .*lora\.safetensors: cannot be read"):
        adapted("lora", *networks(), weights=str(tmp_path / "lora.safetensors"))


def test_what_has_added_nothing_has_no_file(parts):
    part, _ = adapted("patterns", *parts, train={"temporal": None})
    with pytest.raises(HvgError, match="adds nothing to the network that a LoRA file could hold"):
        part.file(parts[0])


# --- optimiser, digests, costs ----------------------------------------------------------------------------------------


def test_every_rate_is_a_group_and_the_schedule_holds_for_all(tiny):
    words = ["adapter=patterns", "adapter.train={temporal:1e-4,attention:2e-4,new:null}", "training.learning_rate=1e-3"]
    config = compose([*tiny, *words])
    lines: list[str] = []
    system = start_system(config, lines.append)
    optimizer, schedule = make_optimizer(system.groups(), config)
    rates = {group["lr"]: {id(weight) for weight in group["params"]} for group in optimizer.param_groups}
    assert sorted(rates) == [1e-4, 2e-4, 1e-3]
    assert {key for group in rates.values() for key in group} == {id(p) for p in system.parameters() if p.requires_grad}
    named = {id(weight): name for name, weight in system.named_parameters()}
    assert all(".attn" in named[key] for key in rates[2e-4])
    made = torch.optim.lr_scheduler.LambdaLR(optimizer, schedule)
    assert made.get_last_lr() == [group["initial_lr"] * schedule(0) for group in optimizer.param_groups]
    assert lines[-1].startswith("adapter=patterns: ") and "do not" in lines[-1]


def test_one_rate_is_one_group_of_all_weights_in_order(tiny):
    system = build_system(compose(tiny))
    (group,) = system.groups()
    assert list(group) == ["params"]
    assert [id(x) for x in group["params"]] == [id(x) for x in system.parameters() if x.requires_grad]


def test_a_digest_knows_names_types_shapes_and_values():
    x = torch.arange(6.0)
    same = weights_digest({"a": x, "b": x})
    assert same == weights_digest({"b": x.clone(), "a": x}) and len(same) == 64
    others = [
        {"a": x},
        {"a": x, "c": x},
        {"a": x, "b": x.view(2, 3)},
        {"a": x, "b": x.double()},
        {"a": x, "b": x + 1e-6},
    ]
    assert len({weights_digest(weights) for weights in others} | {same}) == 6


@pytest.mark.long
def test_a_forecast_counts_what_trains(tiny):
    words = [*tiny, "training.precision='32'"]
    full, lora = (forecast(compose([*words, *more])) for more in ([], ["adapter=lora", "adapter.rank=1"]))
    trainable = {name: part.trainable for name, part in full.counts.parts.items()}
    added, backbone = lora.counts.parts["backbone"].trainable, lora.counts.parts["backbone"].frozen
    assert backbone == trainable["backbone"] and 0 < added < trainable["backbone"]
    assert lora.counts.parts["view_attention"].trainable == trainable["view_attention"]
    total = sum(part.trainable for part in lora.counts.parts.values())
    assert lora.share.gradients == lora.share.average == 4 * total == 4 * lora.counts.sizes.elements
    assert lora.share.weights == full.share.weights + 4 * added
    assert lora.counts.flops.model < full.counts.flops.model


def test_several_groups_are_cut_up_each_by_itself():
    sizes = WeightSizes(trained=(6, 8, 3), half=(False,) * 3, frozen=0, rates=(None, 1e-4, None))
    assert sizes.groups == [(6, 3), (8,)]
    config = compose(["strategy=zero2", "strategy.devices=2"]).strategy
    found = share(config, sizes, 2, 1)
    # Parts of 6 (9 filled up to 12) and of 4.
    assert found.copies == found.average == 4 * 10 and found.weights == 4 * 20
    assert found.optimizer == 4 * (2 * 10 + 2)
