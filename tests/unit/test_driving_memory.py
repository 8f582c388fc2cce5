"""The driving video as memory: where it lies, who sees it, whose weights make it, how often it is made."""

from dataclasses import replace

import pytest
import torch
from test_reference_net import TwoHalves, default
from test_transformer import GRID, SMALL, attention, latents, run
from test_transformer import build as network_of
from tiny_backbones import BACKBONES

from components.nn.wan_attention import Memory, Rotation, self_attention
from hvg.core.errors import HvgError
from hvg.model.system import HumanVideoSystem
from hvg.parts import registry
from hvg.testing import build, tiny_batch, tiny_context
from hvg.testing.backbone import let_through
from hvg.values.conditioning import Conditioning, Site

DRIVING = registry.load("conditioner", "driving_memory")
B, V, T = GRID


def beside(*lead: int) -> Conditioning:
    """A picture of 16 tokens to the right of every frame of networks of one block."""
    torch.manual_seed(2)
    return Conditioning(memory={"block_0_beside": torch.randn(*lead, 16, 24)})


# --- where it lies, and who sees it ---


def test_a_picture_beside_a_frame_is_the_right_half_of_a_wider_one():
    """Rows of 4 cells beside rows of 4 are rows of 8: the left half sees the same."""
    layers, x, other = attention(), torch.randn(2, 12, 24), torch.randn(2, 12, 24)
    place = torch.tensor([[3]])
    own, right, wide = (Rotation.at(place, (3, w), 12, column) for w, column in ((4, 0), (4, 4), (8, 0)))
    whole = torch.cat([x.unflatten(1, (3, 4)), other.unflatten(1, (3, 4))], dim=2).flatten(1, 2)
    with torch.no_grad():
        found = self_attention(layers, x, own, (2, 1, 1), [Memory(other, right, beside=True)])
        expected = self_attention(layers, whole, wide, (2, 1, 1)).unflatten(1, (3, 8))[:, :, :4].flatten(1, 2)
        elsewhere = self_attention(layers, x, own, (2, 1, 1), [Memory(other, own)])
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
    assert not torch.allclose(found, elsewhere, atol=1e-4)


@pytest.mark.parametrize("memory", ["concatenate", "gated"])
def test_every_frame_sees_the_driving_video_at_its_own_moment_alone(memory):
    network, given = let_through(network_of(memory=memory)), beside(B, 1, T)
    other = given.map(torch.clone)
    other.memory["block_0_beside"][:, 0, 1] += 1
    moved = (run(network, given) - run(network, other)).abs().amax(dim=(0, 3, 4, 5)) > 1e-5
    assert moved.tolist() == [[False, True, False]] * V


@pytest.mark.parametrize("memory", ["concatenate", "gated"])
def test_a_picture_of_zeros_is_not_there(memory):
    network, given = let_through(network_of(memory=memory)), beside(B, 1, T)
    nothing = given.map(torch.zeros_like)
    torch.testing.assert_close(run(network, nothing), run(network), rtol=0, atol=1e-6)
    given.memory["block_0_beside"][:, 0, 0] = 0
    some, all_of_it = run(network, given), run(network, beside(B, 1, T))
    gone = (some - all_of_it).abs().amax(dim=(0, 1, 3, 4, 5)) > 1e-5
    assert gone.tolist() == [True, False, False]
    torch.testing.assert_close(some[:, :, 0], run(network)[:, :, 0], rtol=0, atol=1e-5)


def test_it_stands_beside_other_memory_of_the_same_block():
    """Photo and driving video together are more than either, and what is not there changes nothing of the other."""
    network, driving = let_through(network_of()), beside(B, 1, T)
    photo = Conditioning(memory={"block_0": torch.randn(B, 1, 1, 3, 24)})
    both = run(network, Conditioning.merge([photo, driving]))
    assert not torch.allclose(both, run(network, photo), atol=1e-4)
    assert not torch.allclose(both, run(network, driving), atol=1e-4)
    dropped = run(network, Conditioning.merge([photo, driving.map(torch.zeros_like)]))
    torch.testing.assert_close(dropped, run(network, photo), rtol=0, atol=1e-6)


def test_places_far_from_the_beginning_change_nothing():
    network, given = let_through(network_of()), beside(B, 1, T)
    first, later = (run(network, given, torch.tensor([places] * 2)) for places in ([0, 1, 2], [7000, 7001, 7002]))
    torch.testing.assert_close(first, later, rtol=0, atol=1e-4)


# --- what the network sees of it ---


def what_attention_saw(network, noisy, level) -> dict[str, torch.Tensor]:
    """Site -> what spatial self-attention is given in a whole forward pass, without view attention."""
    seen: dict[str, torch.Tensor] = {}
    if hasattr(network, "blocks"):
        layers = {f"block_{n}_beside": block.attn1.to_k for n, block in enumerate(network.blocks)}
    elif hasattr(network, "single_transformer_blocks"):
        blocks = [*network.transformer_blocks, *network.single_transformer_blocks]
        layers = {f"block_{n}": block.attn.to_k for n, block in enumerate(blocks)}
    else:
        from components.nn.reference_encoder import unet_layers

        layers = {
            name: module.transformer_blocks[0].attn1 for name, module in unet_layers(network) if "_attention_" in name
        }
    hooks = [
        layer.register_forward_pre_hook(lambda _, x, site=site: seen.update({site: x[0]}))
        for site, layer in layers.items()
    ]
    with torch.no_grad():
        network(noisy, level, Conditioning())
    for hook in hooks:
        hook.remove()
    return seen


@pytest.mark.parametrize("name", BACKBONES)
def test_it_is_what_self_attention_sees_of_the_same_clip(name):
    network = let_through(tiny_context(name, BACKBONES[name]).backbone)
    channels = tiny_context(name, BACKBONES[name]).ports.latent_channels
    torch.manual_seed(5)
    noisy, level = torch.randn(2, 1, 3, channels, 8, 8), torch.full((2, 1, 3), 0.5)
    expected = what_attention_saw(network, noisy, level)
    for sites in ([*expected], [*expected][:1]):
        found = network.attended(noisy, level, Conditioning(), sites=sites)
        assert [*found] == sites
        for site in sites:
            tokens = found[site].flatten(0, 2)
            # Ahead of a picture's tokens may be those of text.
            torch.testing.assert_close(tokens, expected[site][:, -tokens.shape[1] :], rtol=0, atol=1e-5)


def conditioner(name: str = "wan_dit", **settings):
    context = tiny_context(name, BACKBONES[name])
    let_through(context.backbone)
    return build(DRIVING, DRIVING.Config(**settings), context), context


@pytest.mark.parametrize("name", BACKBONES)
def test_its_weights_are_the_backbone_s(name):
    part, context = conditioner(name)
    assert not [*part.parameters()] and not part.state_dict()
    batch = tiny_batch(1, 2, 2)
    before = part(None, batch).memory
    with torch.no_grad():
        for weight in context.backbone.parameters():
            weight.mul_(1.1)
    assert all(not torch.allclose(before[site], x) for site, x in part(None, batch).memory.items())


def test_in_a_network_without_places_it_fills_the_photo_s_sites():
    wan, unet = conditioner()[0], conditioner("svd_unet")[0]
    assert wan.sites == ["block_0_beside", "block_1_beside"]
    assert unet.sites == [*tiny_context().ports.memory]
    early = conditioner("svd_unet", sites="down_mid")[0]
    assert early.sites == ["down_0_attention_0", "down_1_attention_0", "mid_attention_0"]
    ports = replace(tiny_context().ports, memory={"block_0": Site(32, 1, early=False)})
    with pytest.raises(HvgError, match=r"sites=down_mid finds none among the backbone's memory sites \(block_0\)"):
        DRIVING.spec(DRIVING.Config(sites="down_mid"), ports)


def test_a_level_of_its_own_is_told_and_the_backbone_s_word_for_clean_otherwise():
    batch = tiny_batch(1, 1, 2)
    (usual, context), (other, _) = conditioner("svd_unet"), conditioner("svd_unet", level=1.0)
    clean = build(DRIVING, DRIVING.Config(level=type(context.backbone).clean_level), context)
    found, same, noisy = (part(None, batch).memory for part in (usual, clean, other))
    assert all(torch.equal(x, same[site]) for site, x in found.items())
    # At the first site a group norm of one channel has taken out what the level added.
    assert not torch.allclose(found["mid_attention_0"], noisy["mid_attention_0"], atol=1e-3)


def test_a_driving_video_of_another_size_is_cut_and_resized():
    part, _ = conditioner()
    batch = tiny_batch(1, 1, 2, size=32)
    wide = torch.nn.functional.pad(batch.driving, (8, 8))
    cut = part.latents(replace(batch, driving=wide))
    torch.testing.assert_close(cut, part.latents(batch), rtol=0, atol=1e-5)
    large = part(None, replace(batch, driving=torch.rand(1, 2, 3, 96, 80))).memory
    assert {x.shape for x in large.values()} == {x.shape for x in part(None, batch).memory.values()}


def test_channels_beside_the_noise_are_zeros_or_the_driving_video_behind_ones():
    context = replace(tiny_context("wan_dit", BACKBONES["wan_dit"]), channels=52)
    latents = torch.randn(1, 1, 2, 48, 4, 4)
    zeros, driving = (build(DRIVING, DRIVING.Config(channels=word), context) for word in ("zeros", "driving"))
    assert zeros._beside(latents).shape == (1, 1, 2, 52, 4, 4) and not zeros._beside(latents).any()
    beside = driving._beside(latents)
    assert beside[:, :, :, :4].eq(1).all() and torch.equal(beside[:, :, :, 4:], latents)
    with pytest.raises(HvgError, match="needs the 48 channels of a photo's latents beside the noise, and there are 4"):
        build(DRIVING, DRIVING.Config(channels="driving"), replace(context, channels=4))


# --- in a system ---


def system_of(**settings) -> HumanVideoSystem:
    part, context = conditioner(**settings)
    return HumanVideoSystem(
        alignment=default("alignment", "none"),
        backbone=context.backbone,
        conditioners={"pose": part},
        codec=context.codec,
        prediction=default("prediction", "flow"),
        sampler=TwoHalves(),
        solver=default("solver", "euler"),
        guidance=default("guidance", "constant", value=2.0),
        signal_keys={"pose": "driving_memory"},
        seed=0,
        optimizer=lambda weights: (torch.optim.SGD(weights, lr=0.1), lambda step: 1.0),
    )


def test_sampling_makes_it_once_for_each_window_however_many_steps_there_are():
    system, calls = system_of(dropout=0.1), []
    backbone = system.backbone
    attended = backbone.attended
    backbone.attended = lambda *inputs, **more: calls.append("driving") or attended(*inputs, **more)
    backbone.register_forward_hook(lambda *_: calls.append("backbone"))
    system.generate(tiny_batch(2, 2, 4), num_steps=3, windows_per_call=1)
    # 2 views, 2 halves; 3 steps of each, with and without the driving video.
    assert calls.count("driving") == 4 and calls.count("backbone") == 24


@pytest.mark.parametrize("trainable", [True, False])
def test_the_network_learns_from_both_passes_or_from_the_second(trainable):
    system = system_of(trainable=trainable)
    batch = replace(tiny_batch(), sample_index=torch.arange(2))
    memory = system.condition(batch).memory
    assert all(x.requires_grad == trainable for x in memory.values())
    system.training_step(batch, 0)["loss"].backward()
    # Of one token there is nothing to choose, so that what asks for text has no gradient here.
    weights = {n: w for n, w in system.backbone.blocks.named_parameters() if "attn2" not in n and "norm2" not in n}
    assert all(weight.grad is not None and weight.grad.any() for weight in weights.values())
    assert not [name for name in system.state_dict() if name.startswith("conditioners")]


def test_every_view_is_driven_by_the_same_video():
    system = system_of()
    batch = replace(tiny_batch(1, 3, 2), sample_index=torch.arange(1))
    assert all(x.shape[:3] == (1, 1, 2) for x in system.condition(batch).memory.values())


def test_a_clip_is_driven_by_its_own_video_in_networks_of_one_block():
    """Latents, too: of the second clip's driving video the first knows nothing."""
    noisy, level = latents()
    network = let_through(network_of(settings=SMALL))
    given = beside(B, 1, T)
    other = given.map(torch.clone)
    other.memory["block_0_beside"][1] += 1
    with torch.no_grad():
        grid = tiny_batch(*GRID).view_grid()
        found = [network(noisy, level, told, grid=grid) for told in (given, other)]
    torch.testing.assert_close(found[0][0], found[1][0], rtol=0, atol=1e-5)
    assert not torch.allclose(found[0][1], found[1][1], atol=1e-4)
