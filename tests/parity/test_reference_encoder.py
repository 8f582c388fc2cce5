"""The backbone's reference encoder and its two ways to look at a memory, against diffusers and explicit attention."""

import math

import pytest
import torch
from torch.nn import functional

from components.backbones.svd_unet import SvdUNet, SvdUNetConfig
from components.nn.spatio_temporal import spatial_transformer_block
from hvg.core.errors import HvgError
from hvg.parts import registry
from hvg.parts.context import Context
from hvg.testing import tiny_batch
from hvg.values.conditioning import Conditioning, LatentShape

SETTINGS = {
    "widths": (32, 64),
    "heads": (2, 4),
    "layers_per_block": 2,
    "transformer_layers": 2,
    "addition_time_embed_dim": 16,
    "kernels": "library",
}
DOWN_MID = ("down_0_attention_0", "down_0_attention_1", "down_1_attention_0", "down_1_attention_1", "mid_attention_0")


def build(**settings) -> SvdUNet:
    """Takes 4 latent channels and 4 more, has view attention, and gates (if any) at ``DOWN_MID``."""
    config = SvdUNetConfig(**{"attention": (True, True), "cross_attention_width": 32, **SETTINGS, **settings})
    view = registry.load("view_attention", "aligned_2d")
    context = Context(
        ports=SvdUNet.ports(config, LatentShape(4, 8)),
        channels=4,
        memory=frozenset(DOWN_MID),
        view_attention=lambda width, num_heads: view(view.Config(), width, num_heads),
    )
    torch.manual_seed(0)
    return SvdUNet(config, context).eval()


def run(network: SvdUNet, noisy: torch.Tensor, level: torch.Tensor, conditioning: Conditioning) -> torch.Tensor:
    """The network's output for cameras on an orbit."""
    return network(noisy, level, conditioning, grid=tiny_batch(*noisy.shape[:3]).view_grid())


def spatial_library_unet(ours: SvdUNet) -> torch.nn.Module:
    """diffusers' model with our weights whose blends are spatial to the last bit: sigmoid(100) is 1 in float32."""
    from diffusers import UNetSpatioTemporalConditionModel

    attention = ours.config.attention
    library = UNetSpatioTemporalConditionModel(
        in_channels=8,
        out_channels=4,
        down_block_types=tuple(f"{'CrossAttn' * yes}DownBlockSpatioTemporal" for yes in attention),
        up_block_types=tuple(f"{'CrossAttn' * yes}UpBlockSpatioTemporal" for yes in attention[::-1]),
        block_out_channels=(32, 64),
        addition_time_embed_dim=16,
        projection_class_embeddings_input_dim=48,
        layers_per_block=2,
        cross_attention_dim=32,
        transformer_layers_per_block=2,
        num_attention_heads=(2, 4),
    )
    library.load_state_dict({n: x for n, x in ours.state_dict().items() if not n.startswith("view_attention.")})
    for name, weight in library.named_parameters():
        if name.endswith("mix_factor"):
            torch.nn.init.constant_(weight, 100.0)
    return library


def what_the_library_sees(library, latents: torch.Tensor) -> dict[str, torch.Tensor]:
    """Site -> input of its first spatial self-attention, for photos as videos of one frame at sigma 0.002."""
    seen: dict[str, torch.Tensor] = {}
    blocks = {f"down_{i}": block for i, block in enumerate(library.down_blocks)}
    blocks |= {"mid": library.mid_block, **{f"up_{i}": block for i, block in enumerate(library.up_blocks)}}
    for name, block in blocks.items():
        for j, transformer in enumerate(getattr(block, "attentions", ())):
            transformer.transformer_blocks[0].attn1.register_forward_pre_hook(
                lambda module, inputs, site=f"{name}_attention_{j}": seen.update({site: inputs[0]})
            )
    n = len(latents)
    no_other_channels = torch.zeros_like(latents)
    library(
        torch.cat([latents, no_other_channels], dim=1)[:, None],
        torch.full((n,), math.log(0.002) / 4),
        torch.zeros(n, 1, 32),
        torch.tensor([[6, 127, 0.02]]).expand(n, 3),
    )
    return seen


@pytest.mark.parametrize("size", [(8, 8), (7, 10)])
@pytest.mark.parametrize("attention", [(True, True), (False, True)])
@torch.no_grad()
def test_features_are_what_the_librarys_spatial_layers_see(attention, size):
    ours, latents = build(attention=attention), torch.randn(2, 4, *size)
    expected = what_the_library_sees(spatial_library_unet(ours), latents)
    assert set(expected) == set(SvdUNet.ports(ours.config, LatentShape(4, 8)).memory)
    for sites in ([s for s in DOWN_MID if s in expected], list(expected), ["mid_attention_0"]):
        features = ours.reference_encoder(sites)(latents)
        assert set(features) == set(sites)
        for site in sites:
            torch.testing.assert_close(features[site], expected[site], rtol=0, atol=2e-5)


@pytest.mark.parametrize("attention", [(True, True), (False, True)])
@torch.no_grad()
def test_a_control_encoder_is_the_librarys_spatial_layers_behind_projections_that_start_at_zero(attention):
    ours, latents = build(attention=attention), torch.randn(2, 4, 8, 8)
    library, expected = spatial_library_unet(ours), {}
    for site, block in {
        "down_0": library.down_blocks[0],
        "down_1": library.down_blocks[1],
        "mid": library.mid_block,
    }.items():
        block.register_forward_hook(
            lambda _, x, y, site=site: expected.update({site: y[0] if isinstance(y, tuple) else y})
        )
    what_the_library_sees(library, latents)
    stem = ours.conv_in(torch.cat([latents, torch.zeros_like(latents)], dim=1))
    for sites in (["down_0"], ["mid", "down_1"], list(expected)):
        encoder = ours.control_encoder(sites)
        found = encoder(stem)
        assert found.keys() == set(sites) and not any(x.any() for x in found.values())
        for projection in encoder.projections.values():
            torch.nn.init.dirac_(projection.weight)
        for site, features in encoder(stem).items():
            torch.testing.assert_close(features, expected[site], rtol=0, atol=2e-5)


def test_a_control_encoder_holds_what_it_needs_and_learns_all_of_it():
    ours = build()
    encoder = ours.control_encoder(["down_0"])
    assert {name.split("_residual")[0].split("_attention")[0] for name in encoder.layers} == {
        "down_0",
        "down_0_sampler",
    }
    assert not [name for name, _ in encoder.named_parameters() if "temporal" in name or "attn2" in name]
    for projection in encoder.projections.values():
        torch.nn.init.ones_(projection.weight)
    gradients = []
    for checkpointing in (False, True):
        encoder.checkpointing = checkpointing
        encoder.zero_grad()
        encoder(torch.randn(1, 32, 8, 8, generator=torch.Generator().manual_seed(0)))[
            "down_0"
        ].square().sum().backward()
        gradients.append({name: weight.grad for name, weight in encoder.named_parameters()})
    assert all(grad is not None and torch.equal(grad, gradients[1][name]) for name, grad in gradients[0].items())
    with pytest.raises(HvgError, match="no level is named stem; there are down_0, down_1, mid"):
        ours.control_encoder(["stem"])


def test_nothing_beyond_the_last_site_is_kept():
    ours = build(cross_attention_width=0)
    encoder = ours.reference_encoder(DOWN_MID)
    names = {name for name, _ in encoder.named_parameters()}
    assert not [name for name in names if "up_" in name or "temporal" in name or "view" in name or "attn2" in name]
    last = {name.removeprefix("layers.mid_attention_0.") for name in names if "mid_attention" in name}
    assert {name.rpartition(".")[0] for name in last} == {"norm", "proj_in", "blocks.0.norm1"}
    sum(x.square().sum() for x in encoder(torch.randn(1, 4, 8, 8)).values()).backward()
    assert not [name for name, weight in encoder.named_parameters() if weight.grad is None]


@pytest.mark.parametrize("sites", ["down_mid", "all"])
def test_checkpointing_changes_no_gradient_and_runs_every_layer_again(sites):
    ours, latents, gradients, calls = build(), torch.randn(2, 4, 8, 8), [], []
    sites = DOWN_MID if sites == "down_mid" else list(SvdUNet.ports(ours.config, LatentShape(4, 8)).memory)
    for checkpointing in (False, True):
        encoder, count = ours.reference_encoder(sites, checkpointing), []
        for layer in encoder.layers.values():
            layer.register_forward_pre_hook(lambda *_, count=count: count.append(1))
        sum(x.square().sum() for x in encoder(latents).values()).backward()
        gradients.append({name: weight.grad for name, weight in encoder.named_parameters()})
        calls.append(len(count))
    assert calls == [len(encoder.layers), 2 * len(encoder.layers)]
    assert all(torch.equal(x, gradients[1][name]) for name, x in gradients[0].items())


def test_weights_are_the_backbones_and_become_its_own():
    ours = build(cross_attention_width=0)
    encoder = ours.reference_encoder(DOWN_MID)
    residual, transformer = ours.down_blocks[1].resnets[0], ours.down_blocks[1].attentions[0]
    copies = {
        "down_1_residual_0": residual.spatial_res_block,
        "down_0_sampler": ours.down_blocks[0].downsamplers[0],
    }
    pairs = [(encoder.layers[name], original) for name, original in copies.items()]
    copied = encoder.layers["down_1_attention_0"]
    pairs += [(copied.blocks, transformer.transformer_blocks), (copied.proj_out, transformer.proj_out)]
    for copy, original in pairs:
        state = original.state_dict()
        assert state and copy.state_dict().keys() == state.keys()
        assert all(torch.equal(x, state[name]) for name, x in copy.state_dict().items())
    assert torch.equal(encoder.conv_in.weight, ours.conv_in.weight[:, :4])
    storages = {weight.untyped_storage().data_ptr() for weight in ours.parameters()}
    assert not [n for n, weight in encoder.named_parameters() if weight.untyped_storage().data_ptr() in storages]
    before = {name: x.clone() for name, x in ours.state_dict().items()}
    with torch.no_grad():
        for weight in encoder.parameters():
            weight.add_(1)
    assert all(torch.equal(x, before[name]) for name, x in ours.state_dict().items())


def test_an_unknown_site_is_refused():
    with pytest.raises(HvgError, match=r"no transformer is named level0; there are down_0_attention_0,"):
        build().reference_encoder(["mid_attention_0", "level0"])


def inputs(ours: SvdUNet, grid: tuple[int, int, int], spread: bool = False) -> tuple:
    """Latents, levels and a conditioning with memory at ``DOWN_MID``; spread: the memory differs in views and frames."""
    torch.manual_seed(1)
    ports = SvdUNet.ports(ours.config, LatentShape(4, 8))
    lead = grid if spread else (grid[0], 1, 1)
    channels = torch.randn(*grid, 4, 8, 8)
    memory = {site: torch.randn(*lead, 5, ports.memory[site].channels) for site in DOWN_MID}
    level = torch.randn(*grid[:2], 1).expand(grid)
    return torch.randn(*grid, 4, 8, 8), level, Conditioning(channels=channels, memory=memory)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("spread", [False, True])
@torch.no_grad()
def test_closed_gates_leave_every_bit_as_it_is_without_memory(spread, dtype):
    ours = build(memory="gated").to(dtype)
    noisy, level, conditioning = inputs(ours, (2, 2, 3), spread)
    noisy, conditioning = noisy.to(dtype), conditioning.map(lambda x: x.to(dtype))
    without = Conditioning(channels=conditioning.channels)
    assert torch.equal(run(ours, noisy, level, conditioning), run(ours, noisy, level, without))
    plain = build().to(dtype)
    assert torch.equal(run(ours, noisy, level, without), run(plain, noisy, level, without))
    assert not torch.equal(run(plain, noisy, level, conditioning), run(plain, noisy, level, without))


def test_gates_learn_and_an_open_gate_lets_the_memory_in():
    ours = build(memory="gated")
    noisy, level, conditioning = inputs(ours, (1, 2, 2))
    run(ours, noisy, level, conditioning).square().sum().backward()
    assert set(ours.memory_gate) == set(DOWN_MID)
    assert all(gate.grad.ne(0).all() for gate in ours.memory_gate.values())
    with torch.no_grad():
        before = run(ours, noisy, level, conditioning)
        ours.memory_gate["mid_attention_0"][1, 2] = 0.5
        after = run(ours, noisy, level, conditioning)
        assert not torch.equal(before, after)
        other = run(ours, noisy, level, conditioning.map(lambda x: x if x.ndim == 6 else x.flip(-1)))
        assert not torch.equal(after, other)
        dropped = run(ours, noisy, level, conditioning.map(lambda x: x if x.ndim == 6 else torch.zeros_like(x)))
        assert torch.equal(dropped, run(ours, noisy, level, Conditioning(channels=conditioning.channels)))


@pytest.mark.parametrize("memory", ["concatenate", "gated"])
@torch.no_grad()
def test_a_clips_memory_is_the_same_as_its_copies_for_all_frames(memory):
    ours = build(memory=memory)
    for gate in ours.memory_gate.values():
        gate.fill_(0.7)
    noisy, level, conditioning = inputs(ours, (2, 2, 3))
    result = run(ours, noisy, level, conditioning)
    torch.testing.assert_close(run(ours, noisy, level, conditioning.expand(2, 3)), result, rtol=0, atol=1e-5)


@torch.no_grad()
def test_gated_attention_is_its_formula():
    """attend(q, K, V) + gate attend(q, K_m, V_m), written out for every frame and head in double precision."""
    block = build(cross_attention_width=0).double().mid_block.attentions[0].transformer_blocks[0]
    attention, heads, (frames, cells, tokens, width) = block.attn1, 4, (6, 9, 5, 64)
    x, memory = torch.randn(frames, cells, width).double(), torch.randn(2, tokens, width).double()
    gate = torch.randn(heads).double()

    def attend(query, keys, values):
        return torch.softmax(query @ keys.T / math.sqrt(width // heads), dim=-1) @ values

    attended = torch.empty_like(x)
    for n in range(frames):
        seen, extra = block.norm1(x[n]), memory[n // 3]
        for head in range(heads):
            part = slice(head * 16, head * 16 + 16)
            query, key, value = (f.weight[part] for f in (attention.to_q, attention.to_k, attention.to_v))
            image = attend(seen @ query.T, seen @ key.T, seen @ value.T)
            attended[n, :, part] = image + gate[head] * attend(seen @ query.T, extra @ key.T, extra @ value.T)
    after_attention = x + functional.linear(attended, attention.to_out[0].weight, attention.to_out[0].bias)
    expected = after_attention + block.ff(block.norm3(after_attention))
    torch.testing.assert_close(spatial_transformer_block(block, x, None, memory, gate), expected)


def test_gates_exist_only_where_asked():
    plain, gated = (dict(build(memory=memory).named_parameters()) for memory in ("concatenate", "gated"))
    assert gated.keys() - plain.keys() == {f"memory_gate.{site}" for site in DOWN_MID}
    assert gated["memory_gate.mid_attention_0"].shape == (2, 4)  # blocks, heads
