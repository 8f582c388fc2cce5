"""The backbone against diffusers' own forward pass, and the SVD-xt configuration against the library's defaults."""

import pytest
import torch
from diffusers import UNetSpatioTemporalConditionModel

from components.backbones import svd_unet
from components.backbones.svd_unet import SvdUNet, SvdUNetConfig
from components.view_attention.aligned_2d import Aligned2dConfig, Aligned2dViewAttention
from hvg.core.errors import HvgError
from hvg.parts.context import Context
from hvg.testing import tiny_batch
from hvg.values.conditioning import Conditioning, LatentShape

SHAPES = [(1, 1, 1, 8, 8), (2, 3, 5, 8, 8), (1, 2, 3, 7, 10)]  # B V T h w
ATTENTION = [(True, True), (False, True)]
GRID = tiny_batch(1, 1, 2).view_grid()
SAME_WEIGHTS = "<All keys matched successfully>"


def view_attention(width: int, num_heads: int) -> Aligned2dViewAttention:
    return Aligned2dViewAttention(Aligned2dConfig(), width, num_heads)


def build(attention: tuple[bool, bool], kernels: str, layers_per_block: int = 1, as_frames: bool = False) -> SvdUNet:
    config = SvdUNetConfig(
        widths=(32, 64),
        attention=attention,
        heads=(2, 4),
        layers_per_block=layers_per_block,
        cross_attention_width=32,
        addition_time_embed_dim=16,
        kernels=kernels,
        views_as_frames=as_frames,
    )
    torch.manual_seed(0)
    layers = None if as_frames else view_attention
    return SvdUNet(config, Context(ports=SvdUNet.ports(config, LatentShape(4, 8)), channels=4, view_attention=layers))


def library_twin(ours: SvdUNet, kind: type = UNetSpatioTemporalConditionModel) -> torch.nn.Module:
    """diffusers' model with the weights of ours, found under the same names. kind: its class, or one derived from it."""
    attention = ours.config.attention
    library = kind(
        in_channels=8,
        out_channels=4,
        down_block_types=tuple(f"{'CrossAttn' * yes}DownBlockSpatioTemporal" for yes in attention),
        up_block_types=tuple(f"{'CrossAttn' * yes}UpBlockSpatioTemporal" for yes in attention[::-1]),
        block_out_channels=(32, 64),
        addition_time_embed_dim=16,
        projection_class_embeddings_input_dim=48,
        layers_per_block=1,
        cross_attention_dim=32,
        num_attention_heads=(2, 4),
    )
    weights = {name: x for name, x in ours.state_dict().items() if not name.startswith("view_attention.")}
    assert str(library.load_state_dict(weights)) == SAME_WEIGHTS
    return library


@torch.no_grad()
def outputs(ours: SvdUNet, shape: tuple[int, ...]) -> tuple[torch.Tensor, torch.Tensor]:
    b, v, t, h, w = shape
    torch.manual_seed(1)
    library, x, level = library_twin(ours), torch.randn(b, v, t, 8, h, w), torch.randn(b, v)
    conditioning = Conditioning(channels=x[:, :, :, 4:])
    result = ours(x[:, :, :, :4], level[..., None].expand(b, v, t), conditioning, grid=tiny_batch(b, v, t).view_grid())
    context = torch.zeros(b * v, 1, 32)
    added_ids = torch.tensor([[6, 127, 0.02]]).expand(b * v, 3)
    return result.flatten(0, 1), library(x.flatten(0, 1), level.flatten(), context, added_ids).sample


@pytest.mark.parametrize("attention", ATTENTION)
@pytest.mark.parametrize("shape", SHAPES)
def test_fast_kernels_agree_with_the_library_up_to_rounding(attention, shape):
    torch.testing.assert_close(*outputs(build(attention, "fast"), shape), rtol=0, atol=1e-5)


@pytest.mark.parametrize("attention", ATTENTION)
@pytest.mark.parametrize("shape", SHAPES)
def test_library_kernels_agree_with_the_library_exactly(attention, shape):
    ours = build(attention, "library")
    result, expected = outputs(ours, shape)
    assert torch.equal(result, expected)


@pytest.mark.parametrize("attention", ATTENTION)
@pytest.mark.parametrize("shape", [(2, 3, 1, 8, 8), (1, 2, 3, 8, 8), (2, 1, 4, 8, 8)])
@torch.no_grad()
def test_views_as_frames_are_the_library_s_frames(attention, shape):
    """SVD as it is, fed the views of a clip one after another."""
    b, v, t, h, w = shape
    ours = build(attention, "library", as_frames=True)
    torch.manual_seed(1)
    library, x, level = library_twin(ours), torch.randn(b, v, t, 8, h, w), torch.randn(b)
    result = ours(x[:, :, :, :4], level[:, None, None].expand(b, v, t), Conditioning(channels=x[:, :, :, 4:]))
    ids = torch.tensor([[6, 127, 0.02]]).expand(b, 3)
    expected = library(x.flatten(1, 2), level, torch.zeros(b, 1, 32), ids).sample
    assert result.shape == (b, v, t, 4, h, w) and torch.equal(result.flatten(1, 2), expected)


@pytest.mark.parametrize("kernels", ["fast", "library"])
@torch.no_grad()
def test_views_as_frames_are_layout_alone(kernels):
    """The same network without the setting, fed frames, gives the same bits; of one view the places of frames count."""
    folded, plain = build((True, True), kernels, as_frames=True), build((True, True), kernels)
    assert (
        not folded.view_attention and str(plain.load_state_dict(folded.state_dict(), strict=False)).count("up_0") <= 12
    )
    plain.view_attention = torch.nn.ModuleDict()
    torch.manual_seed(2)
    x, level = torch.randn(2, 3, 2, 4, 8, 8), torch.randn(2)[:, None, None].expand(2, 3, 2)
    conditioning = Conditioning(
        residuals={"stem": torch.randn(2, 3, 2, 32, 8, 8)},
        tokens=torch.randn(2, 3, 2, 3, 32),
        channels=torch.randn(2, 3, 2, 4, 8, 8),
        embedding=torch.randn(2, 1, 1, 128),
        memory={"mid_attention_0": torch.randn(2, 3, 2, 5, 64)},
    )
    frames = conditioning.expand(3, 2).map(lambda port: port.flatten(1, 2)[:, None])
    expected = plain(x.flatten(1, 2)[:, None], level.flatten(1, 2)[:, None], frames)
    assert torch.equal(folded(x, level, conditioning).flatten(1, 2)[:, None], expected)
    # Places in the whole video are those of one camera; several are counted from 0.
    later = torch.tensor([[7, 8], [7, 8]])
    assert torch.equal(folded(x, level, conditioning, later).flatten(1, 2)[:, None], expected)
    one = [folded(x[:, :1], level[:, :1], Conditioning(channels=x[:, :1]), index) for index in (None, later)]
    assert torch.equal(one[1], plain(x[:, :1], level[:, :1], Conditioning(channels=x[:, :1]), later))
    assert not torch.equal(*one)


def test_library_kernels_know_one_level_a_clip():
    levels = torch.tensor([[[0.1, 0.2]]])
    with pytest.raises(HvgError, match="use kernels=fast"):
        build((True, True), "library")(torch.ones(1, 1, 2, 4, 8, 8), levels, Conditioning(), grid=GRID)


def test_checkpointing_changes_no_gradient():
    gradients = []
    for checkpointing in ("none", "blocks"):
        ours = build((True, True), "fast")
        ours.config = ours.config.model_copy(update={"checkpointing": checkpointing})
        ours(
            torch.ones(1, 1, 2, 4, 8, 8),
            torch.zeros(1, 1, 2),
            Conditioning(channels=torch.ones(1, 1, 2, 4, 8, 8)),
            grid=GRID,
        ).sum().backward()
        gradients.append(ours.conv_in.weight.grad)
    assert torch.equal(*gradients)


def test_the_default_is_svd_xt():
    config = SvdUNetConfig()
    with torch.device("meta"):
        ours = SvdUNet(config, Context(ports=SvdUNet.ports(config, LatentShape(4, 8)), channels=4))
        library = UNetSpatioTemporalConditionModel()
    shapes = {name: tuple(x.shape) for name, x in ours.state_dict().items()}
    assert shapes == {name: tuple(x.shape) for name, x in library.state_dict().items()}
    # Heads leave no trace in shapes: SVD-xt has 64 channels each.
    assert [block.attentions[0].transformer_blocks[0].attn1.heads for block in ours.down_blocks[:3]] == [5, 10, 20]


@pytest.mark.parametrize("attention", [*ATTENTION, (True, False)])
def test_a_seed_draws_the_weights_that_the_library_draws(attention):
    """Every weight of a run that starts from nothing is a function of its seed."""
    ours = build(attention, "fast", layers_per_block=2)
    settings = svd_unet._library_settings(ours.config, 4)
    torch.manual_seed(0)
    library = UNetSpatioTemporalConditionModel(in_channels=8, **settings).state_dict()
    weights = {name: x for name, x in ours.state_dict().items() if not name.startswith("view_attention.")}
    assert list(weights) == list(library)
    assert all(torch.equal(x, library[name]) for name, x in weights.items())
    # What is no weight: the library's own description of every layer, but for what holds them.
    library_layers = layers_of(UNetSpatioTemporalConditionModel(in_channels=8, **settings))
    assert {name: x for name, x in layers_of(ours).items() if not name.startswith("view_attention.")} == library_layers


def layers_of(network: torch.nn.Module) -> dict[str, str]:
    """Name -> what a layer says of itself, of those that hold no others and are no list of some."""
    lists = (torch.nn.ModuleList, torch.nn.ModuleDict, torch.nn.ParameterDict)
    modules = [(name, x) for name, x in network.named_modules() if not isinstance(x, lists)]
    return {name: str(x) for name, x in modules if not list(x.children())}


def test_ports_match_what_the_blocks_produce():
    config = build((True, True), "fast").config
    ports = SvdUNet.ports(config, LatentShape(4, 8))
    assert {site: (s.channels, s.stride) for site, s in ports.residuals.items()} == {
        "stem": (32, 1),
        "down_0": (32, 2),
        "down_1": (64, 2),
        "mid": (64, 2),
    }
    assert [(site, s.channels, s.stride) for site, s in ports.memory.items()] == [
        ("down_0_attention_0", 32, 1),
        ("down_1_attention_0", 64, 2),
        ("mid_attention_0", 64, 2),
        ("up_0_attention_0", 64, 2),
        ("up_0_attention_1", 64, 2),
        ("up_1_attention_0", 32, 1),
        ("up_1_attention_1", 32, 1),
    ]
