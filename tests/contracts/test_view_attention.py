"""Every registered view attention keeps the promises that hvg.testing spells out; tokens see exactly what it declares."""

import pytest
import torch

from hvg.parts import registry
from hvg.parts.attention import matrix_products, multiply_and_sum
from hvg.parts.view_attention import ViewAttention
from hvg.testing import check_view_attention, tiny_batch

B, V, T, H, W, D = 1, 3, 2, 2, 4, 16

# Every part with its default settings, and the settings that change who sees whom.
CASES = [(name, {}) for name in registry.names("view_attention")] + [
    ("aligned_2d", {"group": "row"}),
    ("epipolar", {"band": 0.3}),
    ("full_3d", {"places": "rotary"}),
    ("neighbours", {"reach": 0}),
    ("neighbours", {"reach": 2}),
    ("selected_views", {"offsets_degrees": (180.0,)}),
    ("selected_views", {"offsets_degrees": (80.0, -100.0), "tolerance_degrees": 15.0}),
]


def build(name: str, settings: dict) -> ViewAttention:
    part = registry.load("view_attention", name)
    torch.manual_seed(0)
    module = part(part.Config(**settings), D, 2)
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return module


@pytest.mark.parametrize(("name", "settings"), CASES)
def test_view_attention(name, settings):
    part = registry.load("view_attention", name)
    check_view_attention(part, part.Config(**settings))


@pytest.mark.parametrize(("name", "settings"), CASES)
def test_the_ways_of_attending_agree(name, settings, monkeypatch):
    """Of which the number of tokens chooses one: values and gradients."""
    module, x = build(name, settings), torch.randn(B, V, T, H, W, D, requires_grad=True)
    grid = tiny_batch(B, V, T).view_grid().resized((H, W))
    results = []
    for few, some in ((1000, 1000), (0, 1000), (0, 0)):
        monkeypatch.setattr("hvg.parts.attention.MULTIPLY_AND_SUM_UP_TO", few)
        monkeypatch.setattr("hvg.parts.attention.MATRIX_PRODUCTS_UP_TO", some)
        values = module(x, grid)
        results.append((values, *torch.autograd.grad(values.square().sum(), x)))
    for others in results[1:]:
        torch.testing.assert_close(others, results[0], rtol=1e-4, atol=1e-4)


def test_declared_cost_grows_as_it_should():
    none, aligned, full = (registry.load("view_attention", n) for n in ("none", "aligned_2d", "full_3d"))
    size = (8, 32, 32, 64)  # V h w D
    pixel, row, every = aligned.Config(), aligned.Config(group="row"), full.Config()
    assert none.flops(none.Config(), *size) == 0
    assert aligned.flops(pixel, *size) < aligned.flops(row, *size) < full.flops(every, *size)
    # Four D x D projections per token, then scores and mixing over 8 keys; 2 FLOPs per multiply-add.
    epipolar, neighbours = (registry.load("view_attention", n) for n in ("epipolar", "neighbours"))
    near = [neighbours.flops(neighbours.Config(reach=reach), *size) for reach in (0, 1, 2, 4, 9)]
    assert near[0] < near[1] < near[2] < near[3] == near[4] == full.flops(every, *size)
    # What the mask hides is computed, and the mask is, too.
    assert full.flops(every, *size) < epipolar.flops(epipolar.Config(), *size) < 1.05 * full.flops(every, *size)
    assert aligned.flops(pixel, *size) == 2 * 8 * 32 * 32 * (4 * 64 * 64 + 2 * 8 * 64)


@pytest.mark.parametrize("shape", [(3, 4, 5, 2, 8), (1, 5, 4, 2, 8), (1, 7, 3, 1, 8), (2, 6, 3, 2, 8), (1, 9, 3, 2, 8)])
def test_groups_that_share_a_matrix_do_not_see_each_other(shape):
    query, key, value = (torch.randn(shape, dtype=torch.float64) for _ in range(3))
    expected = multiply_and_sum(query, key, value)
    torch.testing.assert_close(matrix_products(query, key, value), expected, rtol=1e-12, atol=1e-12)
    few = key[:, :-1], value[:, :-1]
    torch.testing.assert_close(matrix_products(query, *few), multiply_and_sum(query, *few), rtol=1e-12, atol=1e-12)
