"""Attention as a GPU's kernels take it: through the library's function, in four axes, in no more groups than they start at once.

No GPU is needed: torch's device "meta" stands for one, as in test_waits, and what is asked of the library is seen there.
"""

from contextlib import nullcontext
from functools import partial

import pytest
import torch
from tiny_backbones import BACKBONES
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from hvg.model.counted_step import Watch
from hvg.parts import attention, registry
from hvg.parts.attention import (
    GPU_MATRIX_PRODUCTS_UP_TO,
    MOST_GROUPS,
    TOKENS_TO_A_MATRIX,
    attend,
    fused_kernel,
    matrix_products,
    multiply_and_sum,
)
from hvg.parts.context import BackboneContext
from hvg.testing import tiny_batch
from hvg.testing.backbone import LATENTS
from hvg.values.conditioning import Conditioning
from hvg.values.tensors import map_tensors

META = torch.device("meta")
WIDTH, HEADS = 16, 2
PARTS = [(name, {}) for name in registry.names("view_attention") if name != "none"] + [
    ("aligned_2d", {"group": "row"}),
    ("full_3d", {"places": "rotary"}),
    ("full_3d", {"packed": 2}),
]


@pytest.fixture(autouse=True)
def no_autocast(monkeypatch):
    """There is none for this device; parts switch it off where they need all digits."""
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: nullcontext())


class Asked(TorchFunctionMode):
    """Shapes and types of query, key and value of every call of the library's attention."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[torch.Size, torch.Size, set[torch.dtype]]] = []

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if func is functional.scaled_dot_product_attention:
            query, key, value, *_ = args
            self.calls.append((query.shape, key.shape, {x.dtype for x in (query, key, value)}))
        return func(*args, **(kwargs or {}))


class Written:
    """Numbers of scores that a softmax of ours goes over, which are written out; those inside the library's function apart."""

    def __init__(self) -> None:
        self.rows: list[int] = []
        self.operations: list[str] = []

    def watch(self, func, args, kwargs, result) -> None:
        self.operations.append(func.overloadpacket.__name__)
        if func is torch.ops.aten._softmax.default:
            self.rows.append(args[0].shape[args[1]])


def require_kernels(asked: Asked, written: Written) -> None:
    """Every call fits a GPU's fused kernels, and only few scores are written out."""
    for query, key, types in asked.calls:
        assert len(query) == len(key) == 4, f"{len(query)} axes: a fused kernel takes four"
        assert query[0] <= MOST_GROUPS and query[1] <= MOST_GROUPS
        assert len(types) == 1 and query[-1] == key[-1] <= 256
    assert max(written.rows, default=0) <= max(GPU_MATRIX_PRODUCTS_UP_TO, 2 * TOKENS_TO_A_MATRIX)


def grid_of(views: int, frames: int, size: tuple[int, int], clips: int = 1):
    grid = tiny_batch(clips, views, frames).view_grid().resized(size)
    return map_tensors(grid, lambda x: x.to(META))


@pytest.mark.parametrize("views", [3, 8])
@pytest.mark.parametrize(("name", "settings"), PARTS)
def test_view_attention_reaches_a_fused_kernel_or_is_a_product_of_few_tokens(name, settings, views):
    part = registry.load("view_attention", name)
    with META:
        module = part(part.Config(**settings), WIDTH, HEADS)
        x = torch.zeros(1, views, 2, 8, 8, WIDTH)
    written = Written()
    with Watch(written.watch), Asked() as asked:
        assert module(x, grid_of(views, 2, (8, 8))).shape == x.shape
    require_kernels(asked, written)
    assert asked.calls or written.rows


@pytest.mark.parametrize("name", BACKBONES)
def test_backbones_attend_through_fused_kernels(name):
    cls = registry.load("backbone", name)
    config = cls.Config(**BACKBONES[name])
    aligned = registry.load("view_attention", "aligned_2d")
    context = BackboneContext(ports=cls.ports(config, LATENTS), view_attention=partial(aligned, aligned.Config()))
    frames = 2 if cls.sees_time(config) else 1
    with META:
        # A library makes some weights where it likes.
        network = cls(config, context).to(META)
        noisy, level = torch.zeros(1, 3, frames, LATENTS.channels, 8, 8), torch.zeros(1, 3, frames)
    written = Written()
    with Watch(written.watch), Asked() as asked:
        network(noisy, level, Conditioning(), None, grid_of(3, frames, (8, 8)))
    require_kernels(asked, written)
    assert asked.calls


def test_attention_over_time_of_many_views_is_cut_into_pieces_that_a_gpu_takes():
    """16 views of 576 x 576 pixels are 82,944 cells, a group each."""
    cls = registry.load("backbone", "svd_unet")
    config = cls.Config(**BACKBONES["svd_unet"])
    with META:
        network = cls(config, BackboneContext(ports=cls.ports(config, LATENTS))).to(META)
        noisy, level = torch.zeros(1, 16, 2, LATENTS.channels, 72, 72), torch.zeros(1, 16, 2)
    written = Written()
    with Watch(written.watch), Asked() as asked:
        network(noisy, level, Conditioning())
    require_kernels(asked, written)
    assert any(query[0] > MOST_GROUPS // 2 for query, _, _ in asked.calls)


@pytest.mark.parametrize("views", [2, 4, 8, 16])
def test_few_tokens_are_one_batched_product_on_a_gpu(views):
    """Scores of all groups and heads together, then their values: two products whatever the number of groups."""
    query, key, value = (torch.zeros(2, views, 3, 8, 8, HEADS, 8, device=META) for _ in range(3))
    written = Written()
    with Watch(written.watch), Asked() as asked:
        attend(query, key, value)
    products = [name for name in written.operations if name in ("bmm", "baddbmm", "mm", "addmm")]
    assert len(products) == 2 and not asked.calls
    assert max(written.rows) <= max(views, 2 * TOKENS_TO_A_MATRIX)


@pytest.mark.parametrize("shape", [(3, 20, 2, 8), (2, 20, 3, 2, 8), (2, 9, 3, 2, 2, 8)])
@pytest.mark.parametrize("masked", [False, True])
def test_the_fused_kernel_takes_any_axes_and_any_number_of_groups(shape, masked, monkeypatch):
    torch.manual_seed(0)
    query, key, value = (torch.randn(shape, dtype=torch.float64) for _ in range(3))
    seen = torch.ones(shape[0], shape[1], dtype=torch.bool)
    seen[:, 5:] = not masked
    with Asked() as asked:
        whole = fused_kernel(query, key, value, seen if masked else None)
    few = key[:, :5] if masked else key, value[:, :5] if masked else value
    torch.testing.assert_close(whole, multiply_and_sum(query, *few), rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(whole, matrix_products(query, *few), rtol=1e-10, atol=1e-10)
    assert all(len(size) == 4 for size, _, _ in asked.calls)
    monkeypatch.setattr(attention, "MOST_GROUPS", 2)
    with Asked() as pieces:
        assert torch.equal(fused_kernel(query, key, value, seen if masked else None), whole)
    assert len(pieces.calls) == -(-asked.calls[0][0][0] // 2) and all(size[0] <= 2 for size, _, _ in pieces.calls)


def test_five_axes_would_be_seen():
    x = torch.zeros(2, 3, 2, 9, 8, device=META)
    with Asked() as asked:
        functional.scaled_dot_product_attention(x, x, x)
    with pytest.raises(AssertionError, match="5 axes"):
        require_kernels(asked, Written())
