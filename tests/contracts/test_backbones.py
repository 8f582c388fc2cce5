"""Every registered backbone keeps the promises that hvg.testing spells out, on the smallest network that has all ports."""

from dataclasses import replace

import pytest
import torch
from tiny_backbones import BACKBONES

from hvg.core.errors import HvgError
from hvg.parts import registry
from hvg.parts.context import Context
from hvg.testing import build, check_backbone
from hvg.testing.backbone import build_backbone, check_reuse, inputs
from hvg.values.conditioning import LatentShape

# The smallest settings of each backbone; a new one adds its line.
TINY = {
    "svd_unet": {
        "widths": (32, 32),
        "attention": (True, False),
        "heads": (2, 2),
        "layers_per_block": 1,
        "cross_attention_width": 8,
        "addition_time_embed_dim": 8,
    },
    "wan_dit": BACKBONES["wan_dit"],
    "flux_kontext": BACKBONES["flux_kontext"],
}
# Settings beyond these that change what a backbone is.
VARIANTS = {
    "svd_unet": [{"views_as_frames": True}, {"memory": "gated"}],
    "wan_dit": [
        {"views_as_frames": True},
        {"memory": "gated"},
        {"tokens": "own", "token_width": 12, "patch": 1, "view_blocks": (1,)},
    ],
    "flux_kontext": [
        {"memory": "gated"},
        {
            "cross_attention_width": 0,
            "pooled_width": 0,
            "guidance": "none",
            "patch": 1,
            "view_blocks": (0,),
        },
    ],
}
# Settings of networks that have a deep half.
DEEP = {
    "svd_unet": [
        {"shallow": 0},
        {"layers_per_block": 2, "shallow": 1},
        {"widths": (32,), "attention": (True,), "heads": (2,)},
    ],
    "wan_dit": [{"layers": 3}, {"shallow": 0}],
    "flux_kontext": [{"double_blocks": 2}, {"shallow": 0}, {"single_blocks": 2, "cross_attention_width": 0}],
}
NAMES = registry.names("backbone")
CASES = [(name, more) for name in NAMES for more in [{}, *VARIANTS[name]]]


@pytest.mark.parametrize(("name", "more"), CASES, ids=str)
def test_backbone(name, more):
    part = registry.load("backbone", name)
    check_backbone(part, part.Config(**TINY[name] | more))


@pytest.mark.parametrize(("name", "more"), [(name, more) for name in NAMES for more in DEEP[name]], ids=str)
def test_steps_can_share_the_deep_half(name, more):
    part = registry.load("backbone", name)
    config = part.Config(**TINY[name] | more)
    assert part.reuses(config)
    check_reuse(part, config)


def test_a_network_all_of_whose_blocks_are_outer_ones_has_no_deep_half():
    for name in ("wan_dit", "flux_kontext"):
        part = registry.load("backbone", name)
        assert not part.reuses(part.Config(**TINY[name]))


@pytest.mark.parametrize("name", NAMES)
@torch.no_grad()
def test_zero_output_and_missing_tokens(name):
    part = registry.load("backbone", name)
    config = part.Config(**TINY[name], init="residual_zero")
    given = inputs(part, config, (1, 1, 2))
    without = given._replace(conditioning=replace(given.conditioning, tokens=None, text=None))
    assert not build_backbone(part, config)(*without).any()


def test_view_attention_is_told_where_the_views_stand():
    """Cameras are those of the pictures, at the size of every site; without them, and with others, it is said."""
    part = registry.load("backbone", "svd_unet")
    config = part.Config(**TINY["svd_unet"] | {"attention": (True, True)})
    backbone, given = build_backbone(part, config), inputs(part, config, (1, 3, 2))
    seen = []
    for site in backbone.view_attention.values():
        site[0].register_forward_pre_hook(lambda _, arguments: seen.append(arguments[1]))
    backbone(*given)
    sizes = [grid.cameras.image_size for grid in seen]
    assert sorted(set(sizes)) == [(4, 4), (8, 8)]
    for grid in seen:
        expected = given.grid.cameras.resized(grid.cameras.image_size)
        assert torch.equal(grid.cameras.intrinsics, expected.intrinsics)
        assert torch.equal(grid.cameras.world_to_camera, expected.world_to_camera)
        assert grid.view_index.tolist() == [[0, 1, 2]] and grid.circle.tolist() == [True]
    with pytest.raises(HvgError, match=r"grid of the views \(ClipBatch.view_grid\).*not given"):
        backbone(*given._replace(grid=None))
    with pytest.raises(HvgError, match=r"latents are \(1, 3, 2\).*grid \(1, 2, 2\)"):
        backbone(*given._replace(grid=given.grid.select([0, 1], [0, 1])))


@pytest.mark.parametrize("name", NAMES)
def test_weights_do_not_depend_on_which_view_attention_stands_beside_them(name):
    """Names of the other weights stay, so that a checkpoint of one arm starts another."""
    part = registry.load("backbone", name)
    config = part.Config(**TINY[name])
    alone = build(part, config, Context(ports=part.ports(config, LatentShape(4, 8)), channels=2))
    names = {n for n in build_backbone(part, config).state_dict() if not n.startswith("view_attention.")}
    assert names == set(alone.state_dict())
