"""The backbone of single pictures against diffusers' own forward pass, its preset against the library at the published size."""

from functools import partial

import pytest
import torch
import yaml
from diffusers import FluxTransformer2DModel
from torch import Tensor, nn
from torch.nn.functional import pixel_shuffle, pixel_unshuffle

from components.backbones import flux_kontext
from components.backbones.flux_kontext import FluxKontext, FluxKontextConfig
from components.view_attention.aligned_2d import Aligned2dConfig, Aligned2dViewAttention
from hvg.core.errors import HvgError
from hvg.core.shipped import CONF
from hvg.parts.context import BackboneContext
from hvg.testing import tiny_batch
from hvg.testing.backbone import let_through
from hvg.values.conditioning import Conditioning, LatentShape

SHAPES = [(1, 1, 1, 8, 8), (2, 3, 2, 6, 10)]  # B V T h w
LATENTS = LatentShape(4, 8)
SMALL = {
    "width": 48,
    "heads": 2,
    "axes": (8, 8, 8),
    "double_blocks": 2,
    "single_blocks": 2,
    "cross_attention_width": 16,
    "pooled_width": 10,
}
SAME_WEIGHTS = "<All keys matched successfully>"


def build(views: bool = True, channels: int = 0, **settings) -> FluxKontext:
    """Takes 4 latent channels and ``channels`` more."""
    config = FluxKontextConfig(**SMALL | settings)
    attention = partial(Aligned2dViewAttention, Aligned2dConfig()) if views else None
    torch.manual_seed(0)
    context = BackboneContext(ports=FluxKontext.ports(config, LATENTS), channels=channels, view_attention=attention)
    return FluxKontext(config, context).eval()


def own_weights(ours: FluxKontext) -> dict[str, Tensor]:
    return {name: x for name, x in ours.state_dict().items() if not name.startswith("view_attention.")}


def library_twin(ours: FluxKontext) -> FluxTransformer2DModel:
    """diffusers' model with the weights of ours, found under the same names."""
    features = ours.x_embedder.in_features
    settings = flux_kontext._library_settings(ours.config)
    library = FluxTransformer2DModel(in_channels=features, out_channels=ours.proj_out.out_features, **settings).eval()
    assert str(library.load_state_dict(own_weights(ours))) == SAME_WEIGHTS
    return library


def packed(x: Tensor, patch: int = 2) -> Tensor:
    """Latents (N, C, h, w) as tokens (N, S, patch patch C), as the library's pipelines have them."""
    return pixel_unshuffle(x, patch).flatten(2).mT


def ids(number: int, height: int, width: int) -> Tensor:
    """The library's ids of a picture of so many tokens."""
    found = torch.zeros(height, width, 3)
    found[..., 0] = number
    found[..., 1] += torch.arange(height)[:, None]
    found[..., 2] += torch.arange(width)
    return found.reshape(-1, 3)


def asked_of_library(library, x: Tensor, level: Tensor, told: Conditioning, guidance: float = 3.5) -> Tensor:
    """What the library makes of latents (B, V, T, C, h, w), every picture by itself with its text and reference pictures."""
    b, v, t, _, h, w = x.shape
    patch = int((library.config.in_channels / x.shape[3]) ** 0.5)
    tokens, places = [packed(x.flatten(0, 2), patch)], [ids(0, h // patch, w // patch)]
    if told.pictures is not None:
        pictures = told.pictures.expand(b, v, t, -1, -1, -1, -1).flatten(0, 2)
        for number, picture in enumerate(pictures.unbind(1)):
            tokens.append(packed(picture, patch))
            places.append(ids(number + 1, picture.shape[2] // patch, picture.shape[3] // patch))
    text = told.text.expand(b, v, t, -1, -1).flatten(0, 2)
    pooled = told.pooled.expand(b, v, t, -1).flatten(0, 2)
    with torch.no_grad():
        out = library(
            torch.cat(tokens, dim=1),
            text,
            pooled,
            # Which the library multiplies by 1000.
            level.flatten() / 1000,
            torch.cat(places),
            torch.zeros(text.shape[1], 3),
            torch.full((len(text),), guidance) if library.config.guidance_embeds else None,
        ).sample
    made = out[:, : len(places[0])].mT.unflatten(2, (h // patch, w // patch))
    return pixel_shuffle(made, patch).unflatten(0, (b, v, t))


def inputs(shape: tuple[int, ...], pictures: int = 0) -> tuple[Tensor, Tensor, Conditioning]:
    """Latents, levels, and what a clip is told; reference pictures of another size than the latents."""
    b, v, t, h, w = shape
    torch.manual_seed(1)
    told = Conditioning(
        text=torch.randn(b, 1, 1, 7, 16),
        pooled=torch.randn(b, 1, 1, 10),
        pictures=torch.randn(b, 1, 1, pictures, 4, h + 2, 4) if pictures else None,
    )
    return torch.randn(b, v, t, 4, h, w), 1000 * torch.rand(b, v, t), told


def run(ours: FluxKontext, x: Tensor, level: Tensor, told: Conditioning) -> Tensor:
    with torch.no_grad():
        return ours(x, level, told, grid=tiny_batch(*x.shape[:3]).view_grid())


@pytest.mark.parametrize("settings", [{}, {"patch": 1}, {"guidance": "none"}, {"guidance_scale": 2.0}], ids=str)
@pytest.mark.parametrize("shape", SHAPES)
def test_at_its_start_it_is_the_library_s_model(shape, settings):
    ours, given = build(**settings), inputs(shape)
    expected = asked_of_library(library_twin(ours), *given, guidance=ours.config.guidance_scale)
    torch.testing.assert_close(run(ours, *given), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("pictures", [1, 2])
@pytest.mark.parametrize("shape", SHAPES)
def test_reference_pictures_are_tokens_behind_those_of_the_picture_that_is_made(shape, pictures):
    """One is Kontext's; the second has the next number."""
    ours, given = build(), inputs(shape, pictures)
    expected = asked_of_library(library_twin(ours), *given)
    torch.testing.assert_close(run(ours, *given), expected, rtol=0, atol=1e-5)
    assert not torch.allclose(expected, run(ours, *inputs(shape)), atol=1e-3)


def test_further_channels_are_features_of_the_tokens_behind_the_latents_and_pictures_have_none():
    ours, shape = build(channels=3), SHAPES[1]
    x, level, told = inputs(shape, 1)
    more = torch.randn(*x.shape[:3], 3, *x.shape[4:])
    found = run(ours, x, level, Conditioning(text=told.text, pooled=told.pooled, pictures=told.pictures, channels=more))
    wide = Conditioning(
        text=told.text, pooled=told.pooled, pictures=nn.functional.pad(told.pictures, (0, 0, 0, 0, 0, 3))
    )
    library = library_twin(ours)
    torch.testing.assert_close(
        found, asked_of_library(library, torch.cat([x, more], dim=3), level, wide), rtol=0, atol=1e-5
    )


def test_nothing_to_read_is_one_zero_token_and_a_zero_vector_or_nothing_where_there_is_no_stream_of_text():
    x, level, _ = inputs(SHAPES[1])
    ours, nothing = build(), Conditioning(text=torch.zeros(2, 1, 1, 1, 16), pooled=torch.zeros(2, 1, 1, 10))
    expected = asked_of_library(library_twin(ours), x, level, nothing)
    torch.testing.assert_close(run(ours, x, level, Conditioning()), expected, rtol=0, atol=1e-5)
    bare = build(cross_attention_width=0, pooled_width=0)
    # The library's model with the same weights, of no text token and of a text vector that adds nothing.
    settings = flux_kontext._library_settings(bare.config) | {"joint_attention_dim": 16, "pooled_projection_dim": 10}
    library = FluxTransformer2DModel(in_channels=16, **settings).eval()
    missing, unexpected = library.load_state_dict(own_weights(bare), strict=False)
    assert not unexpected and all("context" in name or "add" in name or "text_embedder" in name for name in missing)
    for weight in library.time_text_embed.text_embedder.parameters():
        nn.init.zeros_(weight)
    empty = Conditioning(text=torch.zeros(2, 1, 1, 0, 16), pooled=torch.zeros(2, 1, 1, 10))
    expected = asked_of_library(library, x, level, empty)
    torch.testing.assert_close(run(bare, x, level, Conditioning()), expected, rtol=0, atol=1e-5)


def test_a_seed_draws_the_weights_that_the_library_draws():
    ours = build()
    torch.manual_seed(0)
    library = FluxTransformer2DModel(in_channels=16, **flux_kontext._library_settings(ours.config))
    weights, expected = own_weights(ours), library.state_dict()
    assert list(weights) == list(expected) and all(torch.equal(x, expected[name]) for name, x in weights.items())
    # What is no weight: the library's own description of every layer, but for its table of rotations.
    found = {name: x for name, x in layers_of(ours).items() if not name.startswith("view_attention.")}
    assert found == {name: x for name, x in layers_of(library).items() if name != "pos_embed"}


def layers_of(network: nn.Module) -> dict[str, str]:
    """Name -> what a layer says of itself, of those that hold no others and are no list of some."""
    lists = (nn.ModuleList, nn.ModuleDict, nn.ParameterDict)
    modules = [(name, x) for name, x in network.named_modules() if not isinstance(x, lists)]
    return {name: str(x) for name, x in modules if not list(x.children())}


# --- what is ours ---


@pytest.mark.parametrize("tokens", [3, 12, 24])
@pytest.mark.parametrize("memory", ["concatenate", "gated"])
def test_a_clip_s_memory_is_the_same_as_its_copies_for_all_pictures(memory, tokens):
    """12 tokens are one for every cell of a picture of 6 x 8 latent cells, 24 are two such pictures."""
    config = FluxKontextConfig(**SMALL | {"memory": memory})
    ports = FluxKontext.ports(config, LATENTS)
    torch.manual_seed(0)
    ours = let_through(FluxKontext(config, BackboneContext(ports=ports, memory=frozenset(ports.memory)))).eval()
    x, level, told = inputs((2, 2, 2, 6, 8))
    seen = {site: torch.randn(2, 1, 1, tokens, 48) for site in ("block_0", "block_3")}
    shared = Conditioning(text=told.text, pooled=told.pooled, memory=seen)
    torch.testing.assert_close(run(ours, x, level, shared), run(ours, x, level, shared.expand(2, 2)), rtol=0, atol=1e-5)
    assert not torch.allclose(run(ours, x, level, shared), run(ours, x, level, told), atol=1e-4)


def test_closed_gates_leave_every_bit_as_it_is_without_memory():
    config = FluxKontextConfig(**SMALL | {"memory": "gated"})
    ports = FluxKontext.ports(config, LATENTS)
    ours = FluxKontext(config, BackboneContext(ports=ports, memory=frozenset({"block_0"}))).eval()
    assert set(ours.memory_gate) == {"block_0"}
    x, level, told = inputs(SHAPES[0])
    memory = Conditioning(text=told.text, pooled=told.pooled, memory={"block_0": torch.randn(1, 1, 1, 16, 48)})
    torch.testing.assert_close(run(ours, x, level, memory), run(ours, x, level, told), rtol=0, atol=0)


def test_views_see_each_other_behind_the_blocks_that_are_named_and_frames_never_do():
    ours = let_through(build(view_blocks=(3, 0)))
    assert list(ours.view_attention) == ["block_0", "block_3"]
    assert list(build().view_attention) == [f"block_{n}" for n in range(4)]
    x, level, told = inputs(SHAPES[1], 1)
    other = x.clone()
    other[:, 1, 1] += 1
    moved = (run(ours, x, level, told) - run(ours, other, level, told)).abs().amax(dim=(0, 3, 4, 5)) > 1e-5
    assert moved.tolist() == [[False, True], [False, True], [False, True]]


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"axes": (8, 8, 6)}, r"axes=\[8, 8, 6\] are not the 24 channels of a head in all"),
        ({"heads": 5}, "width 48 is not divisible by 5 heads"),
        ({"patch": 3}, "patch=3 is no power of two"),
        ({"view_blocks": (4,)}, r"view_blocks=\[4\] are not different blocks of 4"),
    ],
)
def test_settings_that_do_not_agree_are_refused(settings, told):
    with pytest.raises(ValueError, match=told):
        FluxKontextConfig(**SMALL | settings)


def test_latents_that_are_no_whole_patches_are_refused():
    with pytest.raises(HvgError, match="latents of 7 x 8 cells are not cut into patches of 2"):
        run(build(), torch.zeros(1, 1, 1, 4, 7, 8), torch.zeros(1, 1, 1), Conditioning())


# --- copies for photos and maps ---


@torch.no_grad()
def what_the_library_sees(ours: FluxKontext, photos: Tensor) -> dict[str, tuple[Tensor, Tensor]]:
    """Block -> what its attention sees of photos (N, C, h, w), and what it gives: at time step 0, without text."""
    library = library_twin(ours)
    seen: dict[str, Tensor] = {}
    given: dict[str, Tensor] = {}
    for number, block in enumerate([*library.transformer_blocks, *library.single_transformer_blocks]):
        site = f"block_{number}"
        block.attn.register_forward_pre_hook(
            lambda _, x, named, site=site: seen.update({site: named["hidden_states"]}), with_kwargs=True
        )
        block.register_forward_hook(lambda _, x, y, site=site: given.update({site: y[1]}))
    nothing = Conditioning(text=torch.zeros(len(photos), 1, 1, 0, 16), pooled=torch.zeros(len(photos), 1, 1, 10))
    asked_of_library(library, photos[:, None, None], torch.zeros(len(photos), 1, 1), nothing)
    return {site: (seen[site], given[site]) for site in seen}


@pytest.mark.parametrize("size", [(8, 8), (6, 10)])
@torch.no_grad()
def test_a_reference_encoder_sees_what_the_library_s_blocks_see(size):
    ours, photos = build(channels=2), torch.randn(2, 4, *size)
    expected = what_the_library_sees(without_channels(ours), photos)
    for sites in (["block_0", "block_2"], ["block_1"], list(expected)):
        features = ours.reference_encoder(sites)(photos)
        assert set(features) == set(sites)
        for site in sites:
            torch.testing.assert_close(features[site], expected[site][0], rtol=0, atol=1e-5)


def without_channels(ours: FluxKontext) -> FluxKontext:
    """The same network for latents alone."""
    alone, weights = build(), dict(ours.state_dict())
    weights["x_embedder.weight"] = weights["x_embedder.weight"][:, :16]
    alone.load_state_dict(weights)
    return alone


@torch.no_grad()
def test_a_control_encoder_is_the_library_s_blocks_behind_projections_that_start_at_zero():
    ours, photos = build(), torch.randn(2, 4, 6, 10)
    expected, sites = what_the_library_sees(ours, photos), ["block_1", "block_2"]
    encoder = ours.control_encoder(sites)
    stem = ours.x_embedder(packed(photos)).mT.unflatten(2, (3, 5))
    assert encoder(stem).keys() == {*sites} and not any(x.any() for x in encoder(stem).values())
    for projection in encoder.projections.values():
        nn.init.eye_(projection.weight)
    for site, found in encoder(stem).items():
        torch.testing.assert_close(found.flatten(2).mT, expected[site][1], rtol=0, atol=1e-5)


def test_copies_end_at_their_last_site_and_learn_all_that_they_hold():
    ours = let_through(build())
    reference, control = ours.reference_encoder(["block_2"]), let_through(ours.control_encoder(["block_0", "block_2"]))
    assert list(reference.blocks) == list(control.blocks) == ["block_0", "block_1", "block_2"]
    assert {name for name, _ in reference.blocks["block_2"].named_parameters()} == {"modulation"}
    found = [*reference(torch.randn(1, 4, 8, 8)).values(), *control(torch.randn(1, 48, 4, 4)).values()]
    sum(x.square().sum() for x in found).backward()
    for copy in (reference, control):
        assert all(weight.grad is not None and weight.grad.any() for weight in copy.parameters())
    assert all(weight.grad is None for weight in ours.parameters())
    with pytest.raises(HvgError, match="no block is named mid; there are block_0, block_1, block_2, block_3"):
        ours.reference_encoder(["mid"])


def test_checkpointing_changes_no_gradient():
    gradients, (x, level, told) = [], inputs(SHAPES[0], 1)
    for checkpointing in ("none", "blocks"):
        ours = build(checkpointing=checkpointing)
        ours(x, level, told, grid=tiny_batch(1, 1, 1).view_grid()).sum().backward()
        gradients.append(ours.x_embedder.weight.grad)
    assert torch.equal(*gradients)


# --- the published size ---


def test_the_preset_has_the_shapes_of_the_published_model():
    given = yaml.safe_load((CONF / "backbone" / "flux_kontext.yaml").read_text(encoding="utf-8"))
    assert given.pop("name") == "flux_kontext"
    config = FluxKontextConfig(**given)
    with torch.device("meta"):
        ours = FluxKontext(config, BackboneContext(ports=FluxKontext.ports(config, LatentShape(16, 8))))
        # What its config.json says besides the library's defaults.
        library = FluxTransformer2DModel(guidance_embeds=True)
    shapes = {key: tuple(x.shape) for key, x in ours.state_dict().items()}
    assert shapes == {key: tuple(x.shape) for key, x in library.state_dict().items()}
    stated = flux_kontext._library_settings(config)
    found = {key: value for key, value in library.config.items() if key in stated}
    assert {**found, "axes_dims_rope": [*found["axes_dims_rope"]]} == stated and len(stated) == 8


def test_the_tiny_preset_has_as_many_weights_as_the_unet_s():
    """Within a tenth, behind the codec of scale=cpu, each told of the photo in its own way."""
    from hvg.config.composition import compose

    found = {}
    for name, channels in (("svd_tiny", 48), ("flux_tiny", 0)):
        choice = compose([f"backbone={name}"]).backbone
        with torch.device("meta"):
            ports = choice.cls.ports(choice.config, LatentShape(48, 4))
            network = choice.cls(choice.config, BackboneContext(ports=ports, channels=channels))
        found[name] = sum(weight.numel() for weight in network.parameters())
    assert 0.9 < found["flux_tiny"] / found["svd_tiny"] < 1.1, found
