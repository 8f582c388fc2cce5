"""What every view attention promises: identity at the start, and that tokens see exactly what it declares."""

from __future__ import annotations

import pytest
import torch

from components.nn.attention import matrix_products, multiply_and_sum
from hvg import registry
from hvg.protocols import ViewAttention

B, V, T, H, W, D = 1, 3, 2, 2, 4, 16

# Every part with its default settings, and the settings that change a grouping.
CASES = [(name, {}) for name in registry.names("view_attention")] + [("aligned_2d", {"group": "row"})]


def build(name: str, settings: dict, *, randomise: bool) -> ViewAttention:
    part = registry.load("view_attention", name)
    torch.manual_seed(0)
    module = part(part.Config(**settings), D, 2)
    if randomise:
        for parameter in module.parameters():
            torch.nn.init.normal_(parameter, std=0.5)
    return module


@pytest.mark.parametrize(("name", "settings"), CASES)
def test_identity_at_the_start(name, settings):
    x = torch.randn(B, V, T, H, W, D)
    assert torch.equal(build(name, settings, randomise=False)(x), x)


@pytest.mark.parametrize(("name", "settings"), CASES)
@torch.no_grad()
def test_tokens_see_exactly_their_group(name, settings):
    """Perturbs one token at a time; the outputs of its group in its frame and clip move, no others."""
    module = build(name, settings, randomise=True)
    groups = module.token_groups(module.config, V, H, W).flatten()
    x = torch.randn(2, V, T, H, W, D)
    before, clip, frame = module(x), 1, 0
    for token in range(V * H * W):
        v, h, w = token // (H * W), token // W % H, token % W
        moved = x.clone()
        moved[clip, v, frame, h, w, 0] += 3.0
        changed = (module(moved) - before).abs().amax(-1) > 1e-6  # B V t h w
        assert torch.equal(changed[clip, :, frame].flatten(), groups == groups[token])
        assert changed.sum() == changed[clip, :, frame].sum()


@pytest.mark.parametrize(("name", "settings"), CASES)
@pytest.mark.parametrize("views", [1, V])
def test_gradient_reaches_every_weight(name, settings, views):
    module = build(name, settings, randomise=True)
    module(torch.randn(B, views, T, H, W, D, requires_grad=True)).square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in module.parameters())
    if views > 1:  # a pixel seen from one view attends to itself alone, whatever its query is
        assert all(p.grad.abs().sum() > 0 for p in module.parameters())


@pytest.mark.parametrize(("name", "settings"), CASES)
def test_bf16_stays_bf16(name, settings):
    module = build(name, settings, randomise=True).bfloat16()
    assert module(torch.randn(B, V, T, H, W, D, dtype=torch.bfloat16)).dtype == torch.bfloat16


@pytest.mark.parametrize(("name", "settings"), CASES)
def test_the_ways_of_attending_agree(name, settings, monkeypatch):
    """Of which the number of tokens chooses one: values and gradients."""
    module, x = build(name, settings, randomise=True), torch.randn(B, V, T, H, W, D, requires_grad=True)
    results = []
    for few, some in ((1000, 1000), (0, 1000), (0, 0)):
        monkeypatch.setattr("components.nn.attention.MULTIPLY_AND_SUM_UP_TO", few)
        monkeypatch.setattr("components.nn.attention.MATRIX_PRODUCTS_UP_TO", some)
        values = module(x)
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
    assert aligned.flops(pixel, *size) == 2 * 8 * 32 * 32 * (4 * 64 * 64 + 2 * 8 * 64)


@pytest.mark.parametrize("shape", [(3, 4, 5, 2, 8), (1, 5, 4, 2, 8), (1, 7, 3, 1, 8), (2, 6, 3, 2, 8), (1, 9, 3, 2, 8)])
def test_groups_that_share_a_matrix_do_not_see_each_other(shape):
    query, key, value = (torch.randn(shape, dtype=torch.float64) for _ in range(3))
    expected = multiply_and_sum(query, key, value)
    torch.testing.assert_close(matrix_products(query, key, value), expected, rtol=1e-12, atol=1e-12)
    few = key[:, :-1], value[:, :-1]
    torch.testing.assert_close(matrix_products(query, *few), multiply_and_sum(query, *few), rtol=1e-12, atol=1e-12)
