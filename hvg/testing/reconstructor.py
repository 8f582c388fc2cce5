"""Checks of what every reconstructor promises."""

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from hvg.core.random_keys import generator
from hvg.core.required import required
from hvg.parts.context import SceneContext
from hvg.parts.reconstructor import Reconstructor, Seen
from hvg.testing.building import build, nudged, require, require_gradients
from hvg.testing.scene import posed_batch
from hvg.values.clip import ClipBatch
from hvg.values.tensors import concatenate

# Share of values that may differ by more than rounding where others are computed beside them: a ray along an outline.
_ROUNDING, _OUTLINE = 1e-3, 1e-3
# By which colour may exceed alpha, or alpha one: sums of many shares.
_SUMS = 1e-4


def check_reconstructor(
    cls: type[Reconstructor], config: Any, context: SceneContext, batch: ClipBatch | None = None
) -> None:
    """Runs every check below. batch: at least 2 clips, views and frames; None: people of the context's body model.

    Raises: AssertionError that says which promise is broken.
    """
    batch = photographed(posed_batch(context.body)) if batch is None else batch
    part = nudged(build(cls, config, context))
    missing = part.needs(config) - batch.present()
    require(not missing, f"{cls.__name__}.needs names unknown ClipBatch fields: {sorted(missing)}")
    with torch.no_grad():
        for grid in (batch, batch.select([0], [0]), batch.select([1], [0, 1])):
            check_form(part, grid)
        for check in (check_pixels, check_parts, check_clips, check_repeats):
            check(part, batch)
        again = nudged(build(cls, config, context)).render(batch)
        require(_same(again, part.render(batch)), "another instance with the same weights sees something else")
    check_learning(part, cls.learns(config), batch)


def photographed(batch: ClipBatch) -> ClipBatch:
    """The clips with photos of which camera and alpha are known: the first view's, and all of the picture."""
    photo = required(batch.reference, "ClipBatch.reference")
    alpha = torch.ones_like(photo.frames[:, :, :1])
    return replace(batch, reference=replace(photo, cameras=batch.cameras[:, 0, :1], alpha=alpha))


def check_form(part: Reconstructor, batch: ClipBatch) -> None:
    """Pictures (B, V, T, H, W), float32 and finite: alpha in [0, 1], colours no larger than it, depth where it is not 0."""
    seen = part.render(batch)
    shape = (*batch.grid, *batch.cameras.image_size)
    for name, x, expected in (
        ("colour", seen.colour, (*shape, 3)),
        ("alpha", seen.alpha, shape),
        ("depth", seen.depth, shape),
    ):
        require(tuple(x.shape) == expected, f"{name} is {tuple(x.shape)}, not {expected}")
        require(x.dtype == torch.float32, f"{name} is {x.dtype}, not float32")
        require(bool(x.isfinite().all()), f"{name} is not finite everywhere")
    alpha = seen.alpha
    require(bool(((alpha >= 0) & (alpha <= 1 + _SUMS)).all()), "alpha leaves [0, 1]")
    require(bool((alpha > 0).any()), "nobody is seen")
    largest = float((seen.colour.abs().amax(dim=-1) - alpha).max())
    require(largest <= _SUMS, f"colour exceeds alpha by {largest:.3g}: it has to be multiplied by it")
    require(not seen.depth[alpha == 0].any(), "there is a depth where nobody is")
    require(bool((seen.depth[alpha > 0] > 0).all()), "somebody is seen at no distance")


def check_pixels(part: Reconstructor, batch: ClipBatch) -> None:
    """Some pixels are those of the whole pictures."""
    whole = part.render(batch)
    count = whole.alpha[0].numel()
    pixels = torch.randint(count, (batch.grid[0], 200), generator=generator("pixels"))
    require(_alike(part.render(batch, pixels), whole.at(pixels)), "pixels differ from those of whole pictures")


def check_parts(part: Reconstructor, batch: ClipBatch) -> None:
    """A picture is the same whichever views and frames it is drawn with."""
    whole, views, frames = part.render(batch), [batch.grid[1] - 1], [batch.grid[2] - 1]
    some = part.render(batch.select(views, frames))
    expected = Seen(**{name: x[:, views][:, :, frames] for name, x in vars(whole).items()})
    require(_alike(some, expected), "a picture depends on the views or frames beside it")


def check_clips(part: Reconstructor, batch: ClipBatch) -> None:
    """A clip is the same whichever clips it is drawn with."""
    alone = [part.render(batch.clips(slice(b, b + 1))) for b in range(batch.grid[0])]
    require(_alike(concatenate(alone), part.render(batch)), "a clip depends on the clips beside it")


def check_repeats(part: Reconstructor, batch: ClipBatch) -> None:
    """The same bits when asked again; in training, for the same draws."""
    require(_same(part.render(batch), part.render(batch)), "the same clips look different the second time")
    pixels = torch.arange(50).expand(batch.grid[0], -1)
    once, twice = (part.render(batch, pixels, _draws(batch)) for _ in range(2))
    require(_same(once, twice), "the same draws give other pictures the second time")


def check_learning(part: nn.Module, learns: bool, batch: ClipBatch) -> None:
    """What learns has weights, and a gradient reaches each; what does not has none to train."""
    weights = [p for p in part.parameters() if p.requires_grad]
    require(bool(weights) == learns, f"learns says {learns}, but it has {len(weights)} weights to train")
    if not learns or not isinstance(part, Reconstructor):
        return
    seen = part.render(batch, draws=_draws(batch))
    random = generator("loss")
    losses = [(x * torch.randn(x.shape, generator=random).to(x)).sum() for x in (seen.colour, seen.alpha)]
    torch.stack(losses).sum().backward()
    require_gradients(part)


def _draws(batch: ClipBatch) -> list[torch.Generator]:
    return [generator("draws", b) for b in range(batch.grid[0])]


def _both(a: Seen, b: Seen) -> list[tuple[Tensor, Tensor]]:
    return list(zip(vars(a).values(), vars(b).values(), strict=True))


def _same(a: Seen, b: Seen) -> bool:
    return all(torch.equal(x, y) for x, y in _both(a, b))


def _alike(a: Seen, b: Seen) -> bool:
    def near(x: Tensor, y: Tensor) -> bool:
        return x.shape == y.shape and float(((x - y).abs() > _ROUNDING).float().mean()) <= _OUTLINE

    return all(near(x, y) for x, y in _both(a, b))
