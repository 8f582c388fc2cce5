"""Checks of what every view attention promises."""

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from hvg.core.random_keys import generator
from hvg.model.counted_step import counted_flops
from hvg.parts.view_attention import ViewAttention
from hvg.testing.building import build, require, require_gradients
from hvg.testing.outputs import check_batch_independence, check_device
from hvg.testing.scene import tiny_batch
from hvg.values.grid import ViewGrid

WIDTH, HEADS, SIZE = 16, 2, (2, 4)
# Output that a token of 3 more in one channel has not reached moves by less.
_STILL = 1e-6


def check_view_attention(cls: type[ViewAttention], config: Any) -> None:
    """Runs every check below. Raises: AssertionError that says which promise is broken."""
    whole = tiny_batch(2, 4, 2, size=32)
    windows = (whole.select([0]), whole, whole.select([3, 0]), whole.select([2, 0, 3]))
    for grid in (*map(view_grid, windows), unlike_clips(whole)):
        check_identity(cls, config, grid)
        check_sight(cls, config, grid)
        check_view_order(cls, config, grid)
    grid = view_grid(whole)
    check_gradients(cls, config, grid)
    check_half_precision(cls, config, grid)
    check_flops(cls, config, grid)
    part, grid = _stirred(cls, config), unlike_clips(whole)

    def run(x: Tensor, grid: ViewGrid) -> dict[str, Tensor]:
        return {"what is seen": cls.sees(config, grid), "the features": part(x, grid)}

    with torch.no_grad():
        check_batch_independence(run, (_features(grid), grid))
        check_device(run, (_features(grid), grid), part)


def check_identity(cls: type[ViewAttention], config: Any, grid: ViewGrid) -> None:
    """A new part changes nothing."""
    part, x = _build(cls, config), _features(grid)
    require(torch.equal(part(x, grid), x), "a new part changes its input: its output projection has to start at zero")


@torch.no_grad()
def check_sight(cls: type[ViewAttention], config: Any, grid: ViewGrid) -> None:
    """A token sees what ``sees`` (or ``token_groups``) declares, in its own clip and latent frame, and nothing else."""
    part, x = _stirred(cls, config), _features(grid)
    (b, v, t), (h, w) = grid.cameras.shape, grid.cameras.image_size
    declared = cls.sees(config, grid)
    shape = (b, t, v * h * w, v * h * w)
    require(
        tuple(declared.shape) == shape and declared.dtype == torch.bool,
        f"sees gives {declared.dtype} {tuple(declared.shape)}, not bool {shape}",
    )
    require(bool(declared.diagonal(dim1=-2, dim2=-1).all()), "a token has to see itself")
    before, clip, frame = part(x, grid), b - 1, 0
    for token in range(v * h * w):
        moved = x.clone()
        moved[clip, token // (h * w), frame, token // w % h, token % w, 0] += 3.0
        changed = (part(moved, grid) - before).abs().amax(-1).transpose(1, 2) > _STILL  # B t V h w
        expected = torch.zeros_like(changed.flatten(2))
        expected[clip, frame] = declared[clip, frame, :, token]
        wrong = (changed.flatten(2) != expected).nonzero().tolist()
        if wrong:
            c, f, other = wrong[0]
            does = "does not see" if bool(expected[c, f, other]) else "sees"
            raise AssertionError(
                f"{cls.__name__}: token {other} of clip {c}, latent frame {f} {does} token {token} of clip {clip}, latent frame "
                f"{frame} ({len(wrong)} such pairs); that is not what it declares"
            )


@torch.no_grad()
def check_view_order(cls: type[ViewAttention], config: Any, grid: ViewGrid) -> None:
    """The order in which views are held does not matter."""
    part, x = _stirred(cls, config), _features(grid)
    order = torch.arange(x.shape[1]).flip(0)
    turned = part(x[:, order], grid.select(order, slice(None)))
    close = torch.allclose(turned, part(x, grid)[:, order], rtol=1e-4, atol=1e-5)
    require(close, "the values of a view depend on the order in which the views are held")


def check_gradients(cls: type[ViewAttention], config: Any, grid: ViewGrid) -> None:
    """Every weight gets a gradient once the zero-initialised ones have moved."""
    part = _stirred(cls, config)
    part(_features(grid).requires_grad_(), grid).square().sum().backward()
    require_gradients(part)


def check_half_precision(cls: type[ViewAttention], config: Any, grid: ViewGrid) -> None:
    """bfloat16 weights and features give bfloat16 features; under autocast a token sees the same ones."""
    part, x = _stirred(cls, config).bfloat16(), _features(grid).bfloat16()
    require(part(x, grid).dtype == torch.bfloat16, "bfloat16 weights and features give another type")
    exact = cls.sees(config, grid)
    with torch.autocast("cpu", torch.bfloat16):
        require(torch.equal(cls.sees(config, grid), exact), "who sees whom changes under autocast")


@torch.no_grad()
def check_flops(cls: type[ViewAttention], config: Any, grid: ViewGrid) -> None:
    """``flops`` declares no less than what torch's own counter sees (which sees products of matrices alone)."""
    part, x = _build(cls, config), _features(grid)
    b, v, t = grid.cameras.shape
    declared = b * t * cls.flops(config, v, *grid.cameras.image_size, WIDTH)
    _, counted = counted_flops(lambda: part(x, grid))
    require(declared >= counted, f"flops declares {declared}, and {counted} run")


def view_grid(batch: Any) -> ViewGrid:
    """The grid of a batch's views at a site of 2 x 4 cells."""
    return batch.view_grid().resized(SIZE)


def unlike_clips(batch: Any) -> ViewGrid:
    """Clips of three views that stand otherwise: some of a circle, others of it in another order, all of a line."""
    line = replace(batch.select([0, 1, 2]), view_index=None, num_views=None, circle=None, origin=None)
    views = (batch.select([0, 2, 1]), batch.select([1, 0, 3]), line)
    return ViewGrid.stack([view_grid(clips.clips(slice(0, 1))) for clips in views])


def _features(grid: ViewGrid) -> Tensor:
    return torch.randn(*grid.cameras.shape, *grid.cameras.image_size, WIDTH, generator=generator("features"))


def _build(cls: type[ViewAttention], config: Any) -> ViewAttention:
    return build(cls, config, WIDTH, HEADS)


def _stirred(cls: type[ViewAttention], config: Any) -> ViewAttention:
    """The part with large random weights, so that a token shows in every token that sees it."""
    part, random = _build(cls, config), generator("weights")
    with torch.no_grad():
        for parameter in part.parameters():
            parameter.copy_(0.5 * torch.randn(parameter.shape, generator=random))
    return part
