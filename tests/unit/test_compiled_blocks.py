"""backbone.compile=blocks: no break in a block's graph, no block left uncompiled, and as many compilations as there are kinds.

The graphs are taken as torch takes them, and run as they are: no C++ compiler is needed. tests/integration/test_compile.py trains
what one has compiled.
"""

from collections.abc import Iterator
from functools import partial
from itertools import pairwise

import pytest
import torch
from tiny_backbones import BACKBONES
from torch._dynamo.utils import counters

from hvg.config.composition import compose
from hvg.core.errors import HvgError
from hvg.core.quiet import quiet_training
from hvg.parts import registry
from hvg.parts.backbone import Backbone
from hvg.parts.context import BackboneContext
from hvg.testing import tiny_batch
from hvg.testing.backbone import LATENTS, let_through
from hvg.train.run import train
from hvg.values.conditioning import Conditioning

# Widths of four levels, two of them alike: 11 kinds of residual blocks, more than torch compiles of a function unasked, and 4 of
# transformers.
FOUR_LEVELS = {
    "widths": (32, 32, 64, 64),
    "attention": (True, True, True, False),
    "heads": (2, 2, 2, 2),
    "layers_per_block": 2,
    "cross_attention_width": 8,
    "addition_time_embed_dim": 8,
}
ONE_LEVEL = {**FOUR_LEVELS, "widths": (32,), "attention": (True,), "heads": (2,), "layers_per_block": 1}
GRIDS = ((1, 2, 1), (1, 1, 2))


@pytest.fixture(autouse=True)
def graphs(monkeypatch) -> Iterator[None]:
    """What torch takes of a function, run as it is."""
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager"))
    torch._dynamo.reset()
    counters.clear()
    yield
    torch._dynamo.reset()
    counters.clear()


def network_of(name: str, settings: dict) -> Backbone:
    cls = registry.load("backbone", name)
    config = cls.Config(**settings, compile="blocks")
    ports = cls.ports(config, LATENTS)
    views = registry.load("view_attention", "aligned_2d")
    torch.manual_seed(0)
    return let_through(
        cls(config, BackboneContext(ports=ports, view_attention=partial(views, views.Config()), memory=frozenset()))
    )


def step(network: Backbone, grid: tuple[int, int, int], size: int = 8) -> None:
    x, level = torch.randn(*grid, LATENTS.channels, size, size), torch.zeros(*grid)
    network(x, level, Conditioning(), None, tiny_batch(*grid).view_grid()).square().mean().backward()


def compiled() -> int:
    """Graphs by now. A break would have made two of one, and past its limit torch would have run a block as it is."""
    assert not counters["graph_break"], dict(counters["graph_break"])
    frames = counters["frames"]
    assert frames["total"] == frames["ok"], dict(counters["unimplemented"])
    return counters["stats"]["unique_graphs"]


def test_blocks_that_are_alike_are_compiled_once_for_each_shape():
    """Of one level: residual blocks of one width, the one behind a skip, and the transformer at three sites."""
    network = network_of("svd_unet", ONE_LEVEL)
    found = []
    for grid in (*GRIDS, *GRIDS):
        step(network, grid)
        found.append(compiled())
    kinds = found[0]
    assert kinds <= 4 and found == [kinds, 2 * kinds, 2 * kinds, 2 * kinds]


@pytest.mark.long
def test_no_block_of_a_whole_unet_stays_uncompiled():
    network = network_of("svd_unet", FOUR_LEVELS)
    step(network, GRIDS[0], 16)
    once = compiled()
    assert 8 < once <= 18
    step(network, GRIDS[0], 16)
    assert compiled() == once


@pytest.mark.long
@pytest.mark.parametrize("name", [name for name in BACKBONES if name != "svd_unet"])
def test_blocks_of_transformers_have_no_breaks(name):
    """A kind for each kind of block; the first, behind which weights alone need gradients, may be one of its own."""
    network = network_of(name, BACKBONES[name])
    sees_time = type(network).sees_time(network.config)
    for grid in GRIDS if sees_time else ((1, 2, 1), (2, 1, 1)):
        before = compiled()
        step(network, grid)
        assert 0 < compiled() - before <= 3
        again = compiled()
        step(network, grid)
        assert compiled() == again


@pytest.mark.long
@quiet_training()
def test_a_training_with_drawn_shapes_compiles_each_once(tiny, cache, tmp_path):
    """Shapes are drawn step by step: as many compilations as kinds of blocks times shapes, and none once all were drawn."""
    buckets = "data.buckets=[{views: 2, frames: 1}, {views: 1, frames: 2}, {views: 2, frames: 2}]"
    words = ["backbone.widths=[32]", "backbone.heads=[1]", "backbone.attention=[true]", "reference_keys=none"]
    steps = ["training.steps=12", "training.validate_every=0", "training.checkpoint_every=12"]
    config = compose([*tiny, cache, f"output={tmp_path}", *words, *steps, buckets, "backbone.compile=blocks"])
    found: list[int] = []
    train(config, lambda *_: found.append(compiled()), lambda line: None)
    kinds = found[0]
    assert kinds <= 4
    grown = [after - before for before, after in pairwise(found)]
    assert set(grown) <= {0, kinds} and sum(bool(x) for x in grown) <= 2
    assert found[-1] <= 3 * kinds and grown[-3:] == [0, 0, 0]


def test_a_block_that_cannot_be_compiled_whole_is_told_in_a_line():
    """Nothing is run uncompiled in silence: a part whose graph breaks ends the step."""

    class Breaks(registry.load("view_attention", "none")):
        def forward(self, x, grid):
            torch._dynamo.graph_break()
            return x + 1

    network = network_of("svd_unet", ONE_LEVEL)
    for layers in network.view_attention.values():
        for number in range(len(layers)):
            layers[number] = Breaks(Breaks.Config(), 32, 2)
    with pytest.raises(
        HvgError, match=r"backbone\.compile=blocks: a block cannot be compiled whole: .*; set compile=none"
    ):
        step(network, GRIDS[0])


def test_a_break_and_a_block_that_is_run_as_it_is_would_be_seen():
    def breaks(x: torch.Tensor) -> torch.Tensor:
        torch._dynamo.graph_break()
        return x + 1

    torch.compile(breaks)(torch.ones(2))
    with pytest.raises(AssertionError):
        compiled()
    torch._dynamo.reset()
    counters.clear()
    several = torch.compile(lambda x: x + 1, dynamic=False)
    # By the library's own word: this module cannot put back what pytest sets in it.
    with torch._dynamo.config.patch(recompile_limit=1):
        for size in (1, 2, 3):
            several(torch.ones(size))
    with pytest.raises(AssertionError):
        compiled()
