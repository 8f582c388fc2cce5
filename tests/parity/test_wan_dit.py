"""The backbone against diffusers' own forward pass, and its presets against the library at the published sizes."""

from functools import partial

import pytest
import torch
import yaml
from diffusers import WanTransformer3DModel
from torch import Tensor, nn

from components.backbones import wan_dit
from components.backbones.wan_dit import WanDit, WanDitConfig
from components.nn.wan_attention import patches
from components.view_attention.aligned_2d import Aligned2dConfig, Aligned2dViewAttention
from hvg.core.errors import HvgError
from hvg.core.shipped import CONF
from hvg.parts.context import BackboneContext
from hvg.testing import tiny_batch
from hvg.testing.backbone import let_through
from hvg.values.conditioning import Conditioning, LatentShape

SHAPES = [(1, 1, 1, 8, 8), (2, 3, 5, 8, 8), (1, 2, 3, 6, 10)]  # B V T h w
LATENTS = LatentShape(4, 8, 4)
SMALL = {
    "width": 48,
    "heads": 2,
    "layers": 3,
    "feed_forward": 64,
    "cross_attention_width": 16,
    "frequencies": 16,
    "token_width": 20,
}
SAME_WEIGHTS = "<All keys matched successfully>"
# Text tokens that the library's image-to-video model takes for granted.
TEXT = 512


def build(views: bool = True, **settings) -> WanDit:
    """Takes 4 latent channels and 4 more."""
    config = WanDitConfig(**SMALL | settings)
    attention = partial(Aligned2dViewAttention, Aligned2dConfig()) if views and not config.views_as_frames else None
    ports = WanDit.ports(config, LATENTS)
    torch.manual_seed(0)
    return WanDit(config, BackboneContext(ports=ports, channels=4, view_attention=attention)).eval()


def library_twin(ours: WanDit) -> WanTransformer3DModel:
    """diffusers' model with the weights of ours, found under the same names."""
    library = WanTransformer3DModel(in_channels=8, **wan_dit._library_settings(ours.config, 4)).eval()
    weights = {name: x for name, x in ours.state_dict().items() if not name.startswith("view_attention.")}
    assert str(library.load_state_dict(weights)) == SAME_WEIGHTS
    return library


def latents(shape: tuple[int, ...]) -> Tensor:
    b, v, t, h, w = shape
    torch.manual_seed(1)
    return torch.randn(b, v, t, 8, h, w)


def outputs(ours: WanDit, shape: tuple[int, ...], level: Tensor, text: Tensor, image: Tensor | None = None):
    """Of ours and of the library. level: (B, V), or (B, V, t). text, image: (B, L, D), of all views of a clip."""
    (b, v, t, h, w), x = shape, latents(shape)
    told = Conditioning(
        channels=x[:, :, :, 4:],
        text=text[:, None, None],
        tokens=None if image is None else image[:, None, None],
    )
    by_frame = level[..., None].expand(b, v, t) if level.ndim == 2 else level
    cells = h * w // ours.config.patch**2
    library_level = level.flatten() if level.ndim == 2 else level.flatten(0, 1).repeat_interleave(cells, dim=1)
    with torch.no_grad():
        result = ours(x[:, :, :, :4], by_frame, told, grid=tiny_batch(b, v, t).view_grid())
        expected = library_twin(ours)(
            x.flatten(0, 1).transpose(1, 2),
            library_level,
            text.repeat_interleave(v, dim=0),
            None if image is None else image.repeat_interleave(v, dim=0),
        ).sample
    return result, expected.transpose(1, 2).unflatten(0, (b, v))


@pytest.mark.parametrize("patch", [1, 2])
@pytest.mark.parametrize("shape", SHAPES)
def test_at_its_start_it_is_the_library_s_model(shape, patch):
    ours = build(patch=patch)
    level, text = 1000 * torch.rand(shape[:2]), torch.randn(shape[0], 7, 16)
    torch.testing.assert_close(*outputs(ours, shape, level, text), rtol=0, atol=1e-5)


@pytest.mark.parametrize("shape", SHAPES)
def test_a_time_step_for_every_token_is_the_library_s(shape):
    """Wan 2.2's 5B model is told one for every token; a clean first frame has 0."""
    level = 1000 * torch.rand(shape[:3])
    level[:, :, 0] = 0
    torch.testing.assert_close(*outputs(build(), shape, level, torch.randn(shape[0], 7, 16)), rtol=0, atol=1e-5)


@pytest.mark.parametrize("shape", SHAPES)
def test_image_tokens_are_seen_as_in_the_image_to_video_model(shape):
    ours = let_through(build(views=False, tokens="own"))
    level, text, image = 1000 * torch.rand(shape[:2]), torch.randn(shape[0], TEXT, 16), torch.randn(shape[0], 5, 20)
    torch.testing.assert_close(*outputs(ours, shape, level, text, image), rtol=0, atol=1e-5)


def test_an_empty_prompt_is_one_of_padding():
    ours, shape = build(), SHAPES[1]
    level = 1000 * torch.rand(shape[:2])
    result, expected = outputs(ours, shape, level, torch.zeros(shape[0], TEXT, 16))
    torch.testing.assert_close(result, expected, rtol=0, atol=1e-5)
    (b, v, t, *_), x = shape, latents(shape)
    grid, told = tiny_batch(b, v, t).view_grid(), Conditioning(channels=x[:, :, :, 4:])
    with torch.no_grad():
        nothing = ours(x[:, :, :, :4], level[..., None].expand(b, v, t), told, grid=grid)
    torch.testing.assert_close(nothing, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("shape", [(2, 3, 1, 8, 8), (1, 2, 3, 6, 10)])
@torch.no_grad()
def test_views_as_frames_are_the_library_s_frames(shape):
    (b, v, t, *_), x, ours = shape, latents(shape), build(views_as_frames=True)
    level, text = 1000 * torch.rand(b), torch.randn(b, 7, 16)
    told = Conditioning(channels=x[:, :, :, 4:], text=text[:, None, None])
    result = ours(x[:, :, :, :4], level[:, None, None].expand(b, v, t), told)
    expected = library_twin(ours)(x.flatten(1, 2).transpose(1, 2), level, text).sample.transpose(1, 2)
    torch.testing.assert_close(result.flatten(1, 2), expected, rtol=0, atol=1e-5)


def test_a_seed_draws_the_weights_that_the_library_draws():
    """Every weight of a run that starts from nothing is a function of its seed."""
    ours = build()
    torch.manual_seed(0)
    library = WanTransformer3DModel(in_channels=8, **wan_dit._library_settings(ours.config, 4))
    weights = {name: x for name, x in ours.state_dict().items() if not name.startswith("view_attention.")}
    assert list(weights) == list(library.state_dict())
    assert all(torch.equal(x, library.state_dict()[name]) for name, x in weights.items())
    # What is no weight: the library's own description of every layer, but for its table of rotations.
    found = {name: x for name, x in layers_of(ours).items() if not name.startswith("view_attention.")}
    assert found == {name: x for name, x in layers_of(library).items() if name != "rope"}


def layers_of(network: nn.Module) -> dict[str, str]:
    """Name -> what a layer says of itself, of those that hold no others and are no list of some."""
    lists = (nn.ModuleList, nn.ModuleDict, nn.ParameterDict)
    modules = [(name, x) for name, x in network.named_modules() if not isinstance(x, lists)]
    return {name: str(x) for name, x in modules if not list(x.children())}


# --- copies for photos and maps ---


def what_the_library_sees(library: WanTransformer3DModel, photos: Tensor) -> dict[str, tuple[Tensor, Tensor]]:
    """Block -> what its self-attention sees of photos (N, C, h, w), and what it gives: videos of a frame at time step 0."""
    seen: dict[str, Tensor] = {}
    given: dict[str, Tensor] = {}
    for number, block in enumerate(library.blocks):
        block.attn1.register_forward_pre_hook(lambda _, x, site=f"block_{number}": seen.update({site: x[0]}))
        block.register_forward_hook(lambda _, x, y, site=f"block_{number}": given.update({site: y}))
    padded = torch.cat([photos, torch.zeros_like(photos)], dim=1)
    library(padded[:, :, None], torch.zeros(len(photos)), torch.zeros(len(photos), 1, 16))
    return {site: (seen[site], given[site]) for site in seen}


@pytest.mark.parametrize("size", [(8, 8), (6, 10)])
@torch.no_grad()
def test_a_reference_encoder_sees_what_the_library_s_blocks_see(size):
    ours, photos = build(), torch.randn(2, 4, *size)
    expected = what_the_library_sees(library_twin(ours), photos)
    for sites in (["block_0", "block_1"], ["block_2"], list(expected)):
        features = ours.reference_encoder(sites)(photos)
        assert set(features) == set(sites)
        for site in sites:
            torch.testing.assert_close(features[site], expected[site][0], rtol=0, atol=1e-5)


@torch.no_grad()
def test_a_control_encoder_is_the_library_s_blocks_behind_projections_that_start_at_zero():
    ours, photos = build(), torch.randn(2, 4, 6, 10)
    expected = what_the_library_sees(library_twin(ours), photos)
    encoder = ours.control_encoder(["block_0", "block_1"])
    stem = patches(ours.patch_embedding, torch.cat([photos, torch.zeros_like(photos)], dim=1))
    assert encoder(stem).keys() == {"block_0", "block_1"} and not any(x.any() for x in encoder(stem).values())
    for projection in encoder.projections.values():
        nn.init.eye_(projection.weight)
    for site, found in encoder(stem).items():
        torch.testing.assert_close(found.flatten(2).mT, expected[site][1], rtol=0, atol=1e-5)


def test_copies_end_at_their_last_site_and_learn_all_that_they_hold():
    ours = let_through(build(tokens="own"))
    reference, control = ours.reference_encoder(["block_1"]), let_through(ours.control_encoder(["block_0"]))
    assert list(reference.blocks) == ["block_0", "block_1"] and list(control.blocks) == ["block_0"]
    assert {name for name, _ in reference.blocks["block_1"].named_parameters()} == {"modulation"}
    found = [*reference(torch.randn(1, 4, 8, 8)).values(), *control(torch.randn(1, 48, 4, 4)).values()]
    sum(x.square().sum() for x in found).backward()
    for copy in (reference, control):
        assert all(weight.grad is not None and weight.grad.any() for weight in copy.parameters())
    assert all(weight.grad is None for weight in ours.parameters())
    with pytest.raises(HvgError, match="no block is named mid; there are block_0, block_1, block_2"):
        ours.reference_encoder(["mid"])
    with pytest.raises(HvgError, match="no block is named stem"):
        ours.control_encoder(["stem"])


@pytest.mark.parametrize("kind", ["reference_encoder", "control_encoder"])
def test_checkpointing_a_copy_changes_no_gradient(kind):
    ours, gradients = let_through(build()), []
    x = torch.randn(2, 4, 8, 8) if kind == "reference_encoder" else torch.randn(2, 48, 4, 4)
    for checkpointing in (False, True):
        copy = let_through(getattr(ours, kind)(["block_1"], checkpointing))
        sum(y.square().sum() for y in copy(x).values()).backward()
        gradients.append({name: weight.grad for name, weight in copy.named_parameters()})
    assert all(torch.equal(gradient, gradients[1][name]) for name, gradient in gradients[0].items())


def test_checkpointing_changes_no_gradient():
    gradients, given = [], torch.ones(1, 1, 2, 4, 8, 8)
    for checkpointing in ("none", "blocks"):
        ours = build(checkpointing=checkpointing)
        told = Conditioning(channels=given)
        ours(given, torch.zeros(1, 1, 2), told, grid=tiny_batch(1, 1, 2).view_grid()).sum().backward()
        gradients.append(ours.patch_embedding.weight.grad)
    assert torch.equal(*gradients)


# --- published sizes ---

# What is said of them in their config.json, besides the library's defaults, which are those of 14 billion weights.
PUBLISHED = {
    "wan_1_3b": (LatentShape(16, 8, 4), {"num_attention_heads": 12, "ffn_dim": 8960, "num_layers": 30}),
    "wan_5b": (
        LatentShape(48, 16, 4),
        {"num_attention_heads": 24, "ffn_dim": 14336, "num_layers": 30, "in_channels": 48, "out_channels": 48},
    ),
    "wan_14b": (LatentShape(16, 8, 4), {}),
}


def preset(name: str) -> WanDitConfig:
    given = yaml.safe_load((CONF / "backbone" / f"{name}.yaml").read_text(encoding="utf-8"))
    assert given.pop("name") == "wan_dit"
    return WanDitConfig(**given)


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_preset_has_the_shapes_of_the_published_model(name):
    shape, settings = PUBLISHED[name]
    config = preset(name)
    with torch.device("meta"):
        ours = WanDit(config, BackboneContext(ports=WanDit.ports(config, shape)))
        library = WanTransformer3DModel(**settings)
    shapes = {key: tuple(x.shape) for key, x in ours.state_dict().items()}
    assert shapes == {key: tuple(x.shape) for key, x in library.state_dict().items()}
    # Heads leave no trace in shapes, and neither do numbers of sinusoids and norms.
    stated = wan_dit._library_settings(config, shape.channels)
    found = {key: value for key, value in library.config.items() if key in stated}
    assert found == stated and len(stated) == 14


def test_the_image_to_video_model_has_the_shapes_of_the_published_one():
    config = preset("wan_14b").model_copy(update={"tokens": "own"})
    with torch.device("meta"):
        ports = WanDit.ports(config, LatentShape(16, 8, 4))
        ours = WanDit(config, BackboneContext(ports=ports, channels=20))
        library = WanTransformer3DModel(in_channels=36, image_dim=1280, added_kv_proj_dim=5120)
    shapes = {key: tuple(x.shape) for key, x in ours.state_dict().items()}
    assert shapes == {key: tuple(x.shape) for key, x in library.state_dict().items()}
    assert ports.token_width == 1280 and ports.text_width == 4096


def test_the_tiny_preset_has_as_many_weights_as_the_unet_s():
    """Within a tenth, with and without attention over views, behind the codec of scale=cpu."""
    from hvg.config.composition import compose

    found = {}
    for name in ("svd_tiny", "wan_tiny"):
        choice, shape = compose([f"backbone={name}"]).backbone, LatentShape(48, 4)
        for attention in (None, partial(Aligned2dViewAttention, Aligned2dConfig())):
            with torch.device("meta"):
                context = BackboneContext(
                    ports=choice.cls.ports(choice.config, shape), channels=48, view_attention=attention
                )
                network = choice.cls(choice.config, context)
            found[name, attention is None] = sum(weight.numel() for weight in network.parameters())
    for alone in (True, False):
        assert 0.9 < found["wan_tiny", alone] / found["svd_tiny", alone] < 1.1, found
