"""Wan's transformer with what is ours: memory, views, levels and tokens; and view attention that starts as a copy."""

from dataclasses import replace
from functools import partial

import pytest
import torch
from tiny_backbones import BACKBONES
from torch import Tensor

from components.backbones.flux_kontext import FluxKontext
from components.backbones.svd_unet import SvdUNet
from components.backbones.wan_dit import WanDit, WanDitConfig
from components.nn.flux_attention import Places, picture_attention
from components.nn.wan_attention import Memory, Rotation, self_attention
from hvg.config.composition import compose
from hvg.core.errors import ConfigError, HvgError
from hvg.parts import registry
from hvg.parts.context import BackboneContext
from hvg.testing import tiny_batch
from hvg.testing.backbone import LATENTS, let_through
from hvg.testing.scene import SMALL_UNET
from hvg.values.conditioning import Conditioning

SMALL = {"width": 24, "heads": 2, "layers": 1, "feed_forward": 32, "cross_attention_width": 8, "frequencies": 8}
GRID = (2, 2, 3)


def build(cls=WanDit, settings=SMALL, views: str = "none", **more):
    """A network behind latents of four channels. views: a registered view attention, in the settings ``view_settings``."""
    view_settings = more.pop("view_settings", {})
    config = cls.Config(**settings | more)
    ports = cls.ports(config, LATENTS)
    part = registry.load("view_attention", views)
    context = BackboneContext(
        ports=ports,
        memory=frozenset(ports.all_memory),
        view_attention=partial(part, part.Config(**view_settings)) if cls.has_view_layers(config) else None,
    )
    torch.manual_seed(0)
    return cls(config, context).eval()


def latents() -> tuple[Tensor, Tensor]:
    torch.manual_seed(1)
    return torch.randn(*GRID, 4, 8, 8), torch.randn(*GRID)


def run(network, given: Conditioning | None = None, frame_index: Tensor | None = None) -> Tensor:
    noisy, level = latents()
    with torch.no_grad():
        return network(noisy, level, given or Conditioning(), frame_index, tiny_batch(*GRID).view_grid())


def remembered(*lead: int, tokens: int = 16) -> Conditioning:
    """Memory of so many tokens; 16 are one for every cell."""
    torch.manual_seed(2)
    return Conditioning(memory={"block_0": torch.randn(*lead, tokens, 24)})


def attention():
    return build().blocks[0].attn1


# --- memory ---


@pytest.mark.parametrize("tokens", [3, 16, 32])
@pytest.mark.parametrize("memory", ["concatenate", "gated"])
def test_a_clip_s_memory_is_the_same_as_its_copies_for_all_frames(memory, tokens):
    network = let_through(build(memory=memory))
    shared = remembered(2, 1, 1, tokens=tokens)
    torch.testing.assert_close(run(network, shared), run(network, shared.expand(2, 3)), rtol=0, atol=1e-5)
    assert not torch.allclose(run(network, shared), run(network), atol=1e-4)


@pytest.mark.parametrize("memory", ["concatenate", "gated"])
def test_every_frame_sees_the_memory_of_its_own(memory):
    """In a network of one block what a frame has seen reaches no other."""
    network, given = let_through(build(memory=memory)), remembered(*GRID)
    other = given.map(torch.clone)
    other.memory["block_0"][:, 0, 1] += 1
    moved = (run(network, given) - run(network, other)).abs().amax(dim=(0, 3, 4, 5)) > 1e-5
    assert moved.tolist() == [[False, True, False], [False, False, False]]


@pytest.mark.parametrize("memory", ["concatenate", "gated"])
def test_frames_see_their_memory_at_their_own_moment(memory):
    """How far frames are from the beginning says nothing of a photo; how far they are from each other counts."""
    network, given = let_through(build(memory=memory)), remembered(2, 1, 1)
    first, later, apart = (
        run(network, given, torch.tensor([places] * 2)) for places in ([0, 1, 2], [70_000, 70_001, 70_002], [0, 2, 9])
    )
    torch.testing.assert_close(first, later, rtol=0, atol=1e-4)
    assert not torch.allclose(first, apart, atol=1e-4)


def test_closed_gates_leave_every_bit_as_it_is_without_memory_and_learn():
    network, given = build(memory="gated"), remembered(2, 1, 1)
    assert set(network.memory_gate) == {"block_0", "block_0_beside"} and network.memory_gate["block_0"].shape == (2,)
    assert torch.equal(run(network, given), run(network))
    noisy, level = latents()
    network(noisy, level, given, None, tiny_batch(*GRID).view_grid()).square().sum().backward()
    assert network.memory_gate["block_0"].grad.ne(0).all()
    assert not build().memory_gate


def test_a_memory_of_what_is_there_changes_nothing_beside_it_and_doubles_behind_an_open_gate():
    """The same keys twice share the softmax; a second softmax gives the same again. Their places are those of the cells."""
    layers, x = attention(), torch.randn(2, 12, 24)
    still = Rotation.at(torch.zeros(1, 1, dtype=torch.int64), (3, 4), 12)
    with torch.no_grad():
        alone = self_attention(layers, x, still, (2, 1, 1))
        same = self_attention(layers, x, still, (2, 1, 1), [Memory(x, still)])
        torch.testing.assert_close(same, alone, rtol=0, atol=1e-6)
        opened = Memory(x, still, gate=torch.tensor([1.0, 1.0]))
        gated = self_attention(layers, x, still, (2, 1, 1), [opened], still)
        torch.testing.assert_close(
            gated - layers.to_out[0].bias, 2 * (alone - layers.to_out[0].bias), rtol=0, atol=1e-5
        )


def test_attention_is_its_formula():
    """Written out for a clip of two frames in double precision: turned by place, normalised over all heads."""
    layers, x = attention().double(), torch.randn(2, 6, 24).double()
    rotation = Rotation.at(torch.tensor([[0, 5]]), (2, 3), 12)
    angles = torch.atan2(rotation.sine, rotation.cosine).double().flatten(0, 2)  # 12 tokens, 6 pairs
    cells = [(frame, row, column) for frame in (0, 5) for row in range(2) for column in range(3)]
    for (frame, row, column), angle in zip(cells, angles, strict=True):
        turns = [frame, frame * 1e4**-0.5, row, row * 1e4**-0.5, column, column * 1e4**-0.5]
        expected = torch.tensor(turns, dtype=torch.float64)
        ours, true = (torch.stack([x.cos(), x.sin()]) for x in (angle, expected))
        torch.testing.assert_close(ours, true, rtol=0, atol=1e-6)
    tokens = x.flatten(0, 1)
    query, key, value = layers.norm_q(layers.to_q(tokens)), layers.norm_k(layers.to_k(tokens)), layers.to_v(tokens)

    def turned(y: Tensor) -> Tensor:
        return torch.view_as_complex(y.unflatten(-1, (6, 2))) * torch.polar(torch.ones_like(angles), angles)

    seen = []
    for head in (slice(0, 12), slice(12, 24)):
        scores = (turned(query[:, head]) @ turned(key[:, head]).conj().T).real / 12**0.5
        seen.append(scores.softmax(dim=-1) @ value[:, head])
    expected = layers.to_out[0](torch.cat(seen, dim=-1)).view(2, 6, 24)
    found = self_attention(layers, x, rotation, (1, 1, 2))
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)


# --- views, levels, tokens ---


def test_views_see_each_other_in_the_blocks_that_are_named():
    network = build(views="full_3d", layers=4, view_blocks=(2, 0))
    assert list(network.view_attention) == ["block_0", "block_2"]
    assert list(build(views="full_3d", layers=3).view_attention) == ["block_0", "block_1", "block_2"]
    seen = []
    for module in network.view_attention.values():
        module.register_forward_pre_hook(lambda _, arguments: seen.append((arguments[0].shape, arguments[1])))
    run(network)
    assert [shape for shape, _ in seen] == [(*GRID, 4, 4, 24)] * 2
    assert all(grid.cameras.image_size == (4, 4) for _, grid in seen)


@pytest.mark.parametrize(
    ("words", "place"),
    [
        ("backbone.view_blocks=[7]", "are not different blocks of 7"),
        ("backbone.view_blocks=[1,1]", "are not different blocks of 7"),
        ("backbone.heads=6", "not divisible by twice the 6 heads"),
        ("backbone.patch=3", "patch=3 is no power of two"),
        ("backbone.tokens=own", "tokens=own needs cross-attention"),
    ],
)
def test_settings_that_do_not_agree_are_refused(words, place):
    with pytest.raises(ConfigError, match=place):
        compose(["backbone=wan_tiny", words])


def test_every_frame_has_its_own_noise_level():
    """In a network of one block a frame's level reaches others by its keys and values alone."""
    network = let_through(build())
    noisy, level = latents()
    other = level.clone()
    other[:, :, 1] += 1
    with torch.no_grad():
        grid = tiny_batch(*GRID).view_grid()
        moved = (
            network(noisy, level, Conditioning(), grid=grid) - network(noisy, other, Conditioning(), grid=grid)
        ).abs()
    by_frame = moved.mean(dim=(0, 1, 3, 4, 5))
    assert by_frame[1] > 2 * by_frame[0] > 0


def test_latents_that_are_no_whole_patches_are_refused():
    with pytest.raises(HvgError, match="latents of 7 x 8 cells are not cut into patches of 2"):
        build()(
            torch.zeros(1, 1, 1, 4, 7, 8), torch.zeros(1, 1, 1), Conditioning(), grid=tiny_batch(1, 1, 1).view_grid()
        )


def test_text_and_tokens_are_seen_together_or_each_by_its_own():
    torch.manual_seed(3)
    text, tokens = torch.randn(2, 1, 1, 5, 8), torch.randn(2, 2, 3, 4, 8)
    both = Conditioning(tokens=tokens, text=text)
    network = let_through(build())
    joined = torch.cat([tokens, text.expand(-1, 2, 3, -1, -1)], dim=3)
    torch.testing.assert_close(run(network, both), run(network, Conditioning(tokens=joined)), rtol=0, atol=1e-6)
    assert torch.equal(run(network, Conditioning(text=text)), run(network, Conditioning(tokens=text)))
    apart = build(tokens="own", token_width=8)
    # What is new starts without effect; with weights it tells one from the other.
    assert torch.equal(run(apart, both), run(apart, replace(both, tokens=None)))
    apart = let_through(apart)
    changed = [replace(both, tokens=tokens.flip(3)), replace(both, text=tokens[:, :1, :1], tokens=text)]
    torch.testing.assert_close(run(apart, changed[0]), run(apart, both), rtol=0, atol=1e-5)
    assert not torch.allclose(run(apart, changed[1]), run(apart, both), atol=1e-4)


@pytest.mark.parametrize("lead", [(2, 1, 1), (2, 2, 1), (2, 1, 3), GRID])
def test_ports_of_a_clip_hold_for_all_its_views_and_frames(lead):
    torch.manual_seed(4)
    given = Conditioning(
        tokens=torch.randn(*lead, 3, 8),
        embedding=torch.randn(*lead, 24),
        residuals={"stem": torch.randn(*lead, 24, 4, 4), "block_0": torch.randn(*lead, 24, 4, 4)},
        memory={"block_0": torch.randn(*lead, 3, 24)},
    )
    network = let_through(build())
    torch.testing.assert_close(run(network, given), run(network, given.expand(2, 3)), rtol=0, atol=1e-5)


@pytest.mark.long
def test_compiled_blocks_are_the_same_function():
    """With views, memory and text; half a minute, of which the compiler takes most."""
    given, (noisy, level), found = remembered(2, 1, 1), latents(), []
    for compile_blocks in ("none", "blocks"):
        network = let_through(build(views="aligned_2d", memory="gated", compile=compile_blocks))
        out = network(noisy, level, given, None, tiny_batch(*GRID).view_grid())
        out.square().sum().backward()
        found.append((out.detach(), network.patch_embedding.weight.grad))
    torch.testing.assert_close(found[1], found[0], rtol=1e-4, atol=1e-4)


# --- view attention that starts as a copy ---

NETWORKS = [(WanDit, SMALL), (SvdUNet, SMALL_UNET), (FluxKontext, BACKBONES["flux_kontext"])]
COPYING = ("aligned_2d", "epipolar", "full_3d", "neighbours")


@pytest.mark.parametrize("views", COPYING)
@pytest.mark.parametrize(("cls", "settings"), NETWORKS)
def test_a_copy_starts_without_effect(cls, settings, views):
    network = build(cls, settings, views, view_settings={"init": "copy"})
    network.copy_spatial_attention()
    gates = {name: x for name, x in network.named_parameters() if name.endswith(".gate")}
    assert len(gates) == len([*network.spatial_attention()]) > 0
    assert not any(gate.any() for gate in gates.values())
    alone = build(cls, settings, "none")
    assert torch.equal(run(network), run(alone))
    with torch.no_grad():
        for gate in gates.values():
            gate.fill_(1.0)
    assert not torch.allclose(run(network), run(alone), atol=1e-4)


def test_a_copy_attends_as_the_unet_does_within_a_picture():
    """Over all cells of one view."""
    network = build(SvdUNet, SMALL_UNET, "full_3d", view_settings={"init": "copy"})
    network.copy_spatial_attention()
    x = torch.randn(2, 1, 3, 4, 4, 64)
    grid = tiny_batch(2, 1, 3).view_grid().resized((4, 4))
    found = [(m, norm, layers) for m, norm, layers in network.spatial_attention() if layers.to_q.in_features == 64]
    assert found
    for module, norm, layers in found:
        module.attention.gate.data.fill_(1.0)
        tokens = x.flatten(0, 2).flatten(1, 2)
        expected = (tokens + layers(norm(tokens))).view(x.shape)
        torch.testing.assert_close(module(x, grid), expected, rtol=0, atol=1e-5)


def test_a_copy_attends_as_wan_does_within_a_picture_but_for_places_and_levels():
    network = build(views="full_3d", view_settings={"init": "copy"})
    network.copy_spatial_attention()
    x = torch.randn(2, 1, 3, 4, 4, 24)
    grid = tiny_batch(2, 1, 3).view_grid().resized((4, 4))
    ((module, norm, layers),) = network.spatial_attention()
    module.attention.gate.data.fill_(1.0)
    nowhere = Rotation(torch.ones(1, 1, 16, 6), torch.zeros(1, 1, 16, 6))
    tokens = x.flatten(0, 2).flatten(1, 2)
    expected = tokens + self_attention(layers, norm(tokens), nowhere, (6, 1, 1))
    torch.testing.assert_close(module(x, grid), expected.view(x.shape), rtol=0, atol=1e-5)


def test_a_copy_with_places_attends_to_views_as_wan_does_to_frames():
    """But for noise levels: with its gate open it is attention over a video of the views, wherever they stand among all."""
    network = build(views="full_3d", view_settings={"init": "copy", "places": "rotary"})
    network.copy_spatial_attention()
    x = torch.randn(2, 3, 2, 4, 4, 24)
    grid = tiny_batch(2, 5, 2).view_grid().resized((4, 4)).select([0, 1, 4], [0, 1])
    ((module, norm, layers),) = network.spatial_attention()
    module.attention.gate.data.fill_(1.0)
    tokens = x.transpose(1, 2).flatten(0, 2).flatten(1, 2)  # of every moment the views as frames
    places = Rotation.at(torch.tensor([[0, 1, 4]]).expand(4, 3), (4, 4), 12)
    expected = (tokens + self_attention(layers, norm(tokens), places, (4, 1, 3))).view(2, 2, 3, 4, 4, 24)
    torch.testing.assert_close(module(x, grid), expected.transpose(1, 2), rtol=0, atol=1e-5)


def test_a_copy_attends_as_flux_does_within_a_picture_but_for_places_and_levels():
    """In blocks of two streams and of one, whose layer out of attention is a part of another."""
    network = build(FluxKontext, BACKBONES["flux_kontext"], "full_3d", view_settings={"init": "copy"})
    network.copy_spatial_attention()
    x, nowhere = torch.randn(2, 1, 3, 4, 4, 24), Places(torch.ones(16, 6), torch.zeros(16, 6))
    grid, tokens = tiny_batch(2, 1, 3).view_grid().resized((4, 4)), x.flatten(0, 2).flatten(1, 2)
    found = [*network.spatial_attention()]
    assert len(found) == 2
    for module, norm, layers in found:
        module.attention.gate.data.fill_(1.0)
        expected = tokens + picture_attention(layers, norm(tokens), nowhere)
        torch.testing.assert_close(module(x, grid), expected.view(x.shape), rtol=0, atol=1e-5)


def test_what_a_copy_learns_stays_its_own():
    network = build(views="aligned_2d", view_settings={"init": "copy"})
    network.copy_spatial_attention()
    before = {name: x.clone() for name, x in network.blocks.state_dict().items()}
    with torch.no_grad():
        for weight in network.view_attention.parameters():
            weight.add_(1)
    assert all(torch.equal(x, before[name]) for name, x in network.blocks.state_dict().items())


def test_a_run_starts_with_copies_of_the_weights_that_it_starts_from(tmp_path):
    """Also from the checkpoint of a run without view attention; what a checkpoint knows of it is kept."""
    from hvg.model.checkpoint_writing import Entry, write_checkpoint
    from hvg.model.load import build_system
    from hvg.train.run import start_system

    small = ["width=24", "heads=2", "layers=2", "feed_forward=32", "view_blocks=[1]"]
    words = ["backbone=wan_tiny", *(f"backbone.{word}" for word in small), "evaluation.weights=raw"]

    def saved(system, name: str) -> str:
        weights = [Entry.of(f"weights/{key}", tensor) for key, tensor in system.state_dict().items()]
        write_checkpoint(tmp_path / name, {}, weights)
        return f"checkpoint={tmp_path / name}"

    def copied(system) -> bool:
        layers = system.backbone.view_attention["block_1"].attention
        query = system.backbone.blocks[1].attn1.to_q.weight
        return torch.equal(layers.query_key_value.weight[:24], query)

    first = build_system(compose([*words, "view_attention=none", "seed=5"]))
    copy = [*words, "view_attention=aligned_2d", "view_attention.init=copy"]
    second = start_system(compose([*copy, saved(first, "step-0000001.ckpt")]), lambda line: None)
    assert copied(second) and copied(build_system(compose(copy)))
    assert torch.equal(second.backbone.blocks[1].attn1.to_q.weight, first.backbone.blocks[1].attn1.to_q.weight)
    with torch.no_grad():
        second.backbone.view_attention["block_1"].attention.query_key_value.weight.add_(1)
    third = start_system(compose([*copy, saved(second, "step-0000002.ckpt")]), lambda line: None)
    assert not copied(third)
    assert all(torch.equal(x, third.state_dict()[name]) for name, x in second.state_dict().items())


def test_a_backbone_without_such_attention_says_so():
    class Bare(WanDit):
        def spatial_attention(self):
            return ()

    with pytest.raises(HvgError, match=r"Bare has no attention for view_attention\.init=copy; set it to zero"):
        build(Bare, views="full_3d", view_settings={"init": "copy"}).copy_spatial_attention()


def test_the_defaults_are_those_of_the_smallest_published_model():
    config = WanDitConfig()
    assert (config.width, config.heads, config.layers, config.tokens) == (1536, 12, 30, "text")
