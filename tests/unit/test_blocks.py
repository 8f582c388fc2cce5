"""Blocks of networks: what strategies that divide weights gather, one at a time."""

from typing import Any

import pytest
import torch
from tiny_backbones import BACKBONES
from torch import nn
from torch.distributed.fsdp import FSDPModule

from hvg.parts import registry
from hvg.parts.blocks import InBlocks, blocks_of, run_block
from hvg.parts.registry import KINDS
from hvg.testing.backbone import LATENTS, SIZE, build_backbone, let_through
from hvg.testing.blocks import check_blocks
from hvg.train.shares import weight_sizes


@pytest.mark.parametrize("name", BACKBONES)
def test_copies_for_photos_and_maps_ask_for_weights_of_a_block_while_it_runs(name):
    cls = registry.load("backbone", name)
    config = cls.Config(**BACKBONES[name])
    backbone, ports = let_through(build_backbone(cls, config)), cls.ports(config, LATENTS)
    early = [site for site, its in ports.memory.items() if its.early]
    encoder = backbone.reference_encoder(early[-1:])
    latents = torch.randn(2, LATENTS.channels, SIZE, SIZE)
    assert list(encoder.weight_blocks())
    check_blocks(encoder, lambda: encoder(latents))
    behind = [site for site in ports.residuals if site != "stem"][:2]
    control, stem = backbone.control_encoder(behind), ports.residuals["stem"]
    features = torch.randn(2, stem.channels, SIZE // stem.stride, SIZE // stem.stride)
    assert list(control.weight_blocks())
    check_blocks(control, lambda: control(features))


@pytest.mark.parametrize("name", BACKBONES)
def test_most_weights_of_a_backbone_lie_in_blocks_and_each_in_one(name):
    cls = registry.load("backbone", name)
    backbone = build_backbone(cls, cls.Config(**BACKBONES[name]))
    sizes = weight_sizes([backbone], bf16=False)
    assert sum(rows.count * rows.size for rows in sizes.rows) == sum(x.numel() for x in backbone.parameters())
    inside = sum(rows.count * rows.size for rows in sizes.rows if rows.block is not None)
    assert inside > 0.5 * sizes.elements
    # A view attention that runs within a block is one of its own; compiled blocks are gathered whole.
    views = {*backbone.view_attention.modules()}
    assert any(block in views for block in blocks_of([backbone]))
    compiled = build_backbone(cls, cls.Config(**BACKBONES[name], compile="blocks"))
    assert not {*compiled.view_attention.modules()} & {*blocks_of([compiled])}


class Pair(InBlocks, nn.Module):
    """Two layers, of which the second is read without being run."""

    def __init__(self, careful: bool) -> None:
        super().__init__()
        self.first, self.second, self.careful = nn.Linear(2, 2), nn.Linear(2, 2), careful

    def weight_blocks(self):
        return [self.first, self.second]

    def forward(self, x):
        x = self.first(x)
        turned = nn.functional.linear
        if self.careful:
            return run_block(self.second, turned, x, self.second.weight)
        return turned(x, self.second.weight)


def test_a_weight_that_is_asked_for_while_its_block_does_not_run_is_found():
    x = torch.randn(3, 2)
    for careful in (True, False):
        network = Pair(careful)
        before = {name: weight.clone() for name, weight in network.named_parameters()}
        if careful:
            check_blocks(network, lambda network=network: {"the output": network(x)})
        else:
            with pytest.raises(AssertionError, match=r"the output: weights of a block .* use run_block"):
                check_blocks(network, lambda network=network: {"the output": network(x)})
        assert all(torch.equal(weight, before[name]) for name, weight in network.named_parameters())


def test_modules_of_every_kind_of_part_can_be_given_the_class_that_shards():
    """Python refuses classes whose bases are laid out otherwise; blocks may be parts, as attention over views is."""
    parts = [registry.load(kind, name) for kind in KINDS for name in registry.names(kind)]
    modules = [cls for cls in parts if issubclass(cls, nn.Module)]
    assert {"Aligned2dViewAttention", "SvdUNet"} <= {cls.__name__ for cls in modules}
    for cls in modules:
        part: Any = object.__new__(cls)
        object.__setattr__(part, "__class__", type(f"FSDP{cls.__name__}", (FSDPModule, cls), {}))
        assert isinstance(part, FSDPModule) and isinstance(part, cls)
