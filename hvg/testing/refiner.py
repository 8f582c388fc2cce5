"""Checks of what every refiner promises."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from hvg.core.random_keys import generator
from hvg.core.required import required
from hvg.parts.refiner import RefinedStep, Refiner
from hvg.testing.building import make, require
from hvg.testing.outputs import check_batch_independence, check_device
from hvg.testing.scene import tiny_batch
from hvg.values.cameras import project
from hvg.values.clip import ClipBatch
from hvg.values.conditioning import Conditioning
from hvg.values.grid import ViewGrid

# (V, t): one picture, and windows of a few.
_GRIDS = ((1, 1), (2, 5), (1, 6))
_SITES = ("down", "mid", "up")


def check_refiner(cls: type[Refiner], config: Any) -> None:
    """Runs every check below. Raises: AssertionError that says which promise is broken."""
    refiner = make(cls, config)
    for views, frames in _GRIDS:
        check_estimate(refiner, views, frames)
        check_around(refiner, views, frames)
    check_crops(refiner, tiny_batch())


def check_estimate(refiner: Refiner, views: int, frames: int) -> None:
    """Estimates keep shape and type, and change nothing that they are given; what was given stays; a clip is the same alone."""
    x0, given = (_noise(name, views, frames) for name in ("x0", "given"))
    places = tuple(range(frames))
    for done in (0.0, 0.5, 0.99):
        for some in (places, places[1:] or places):
            _check_step(refiner, x0[:, :, list(some)], given[:, :, list(some)], some, done)


def _check_step(refiner: Refiner, x0: Tensor, given: Tensor, frames: tuple[int, ...], done: float) -> None:
    def run(x0: Tensor, given: Tensor) -> dict[str, Tensor]:
        return {"the estimate": refiner.estimate(x0, RefinedStep(given=given, frames=frames, done=done))}

    before = x0.clone(), given.clone()
    made = run(x0, given)["the estimate"]
    require(made.shape == x0.shape, f"estimates are {tuple(made.shape)}, not {tuple(x0.shape)}")
    require(made.dtype == x0.dtype, f"{x0.dtype} estimates come back as {made.dtype}")
    unchanged = torch.equal(x0, before[0]) and torch.equal(given, before[1])
    require(unchanged, "estimate changes the tensors that it is given")
    require(torch.equal(run(x0, given)["the estimate"], made), "the same estimate is another one the second time")
    kept = run(given, given)["the estimate"]
    require(bool((kept - given).abs().max() < 1e-4), "an estimate that is what was given does not stay")
    check_batch_independence(run, (x0, given))
    check_device(run, (x0, given))


def check_around(refiner: Refiner, views: int, frames: int) -> None:
    """The network in its place gives estimates of the same shape, the same again, and for a clip the same alone."""
    grid = ViewGrid.whole(tiny_batch(2, views, frames).cameras)
    noisy, sigma = _noise("noisy", views, frames), torch.full((2, views, frames, 1, 1, 1), 0.7)
    index = torch.arange(frames).expand(2, frames)
    asked = refiner.around(_estimate, _attended)

    def run(noisy: Tensor, sigma: Tensor, index: Tensor, grid: ViewGrid) -> Mapping[str, Tensor]:
        return {"the network's estimate": asked(noisy, sigma, Conditioning(), index, grid)}

    before = noisy.clone()
    made = run(noisy, sigma, index, grid)["the network's estimate"]
    require(made.shape == noisy.shape, f"the network's estimates are {tuple(made.shape)}, not {tuple(noisy.shape)}")
    require(torch.equal(noisy, before), "around changes the tensors that it is given")
    again = run(noisy, sigma, index, grid)["the network's estimate"]
    require(torch.equal(again, made), "the same window is another one the second time")
    check_batch_independence(run, (noisy, sigma, index, grid))


def check_crops(refiner: Refiner, batch: ClipBatch) -> None:
    """Crops have the clips' views, frames and size; cameras see them where they lie; nothing around them changes."""
    crops = refiner.crops(batch)
    require((crops is not None) == refiner.redraws, "redraws says whether there are crops")
    if crops is None:
        return
    frames, parts = required(batch.frames, "ClipBatch.frames"), len(crops.parts)
    cut, seen = crops.cut(frames), crops.batch(batch)
    require(cut.shape == (parts * len(frames), *frames.shape[1:]), f"crops are {tuple(cut.shape)}")
    views, times = batch.grid[1:]
    require(seen.grid == (parts * batch.grid[0], views, times), f"the clips of crops are {seen.grid}")
    require(len({*seen.clip_id}) == len(seen.clip_id), "two clips of crops have one name")
    require(not seen.signals, "clips of crops carry maps of whole pictures")
    blank, white = torch.zeros_like(frames), torch.ones_like(cut)
    inside = (crops.paste(blank, white) != 0).any(dim=3, keepdim=True)
    made = crops.paste(frames, white)
    require(torch.equal(made[~inside.expand_as(made)], frames[~inside.expand_as(made)]), "pixels around a crop change")
    require(bool(inside.any()), "nothing is put back")
    points = torch.tensor([[0.0, 1.5, 0.0], [0.1, 1.6, 0.1]])[None, None, None]
    whole, zoomed = (project(points, cameras)[0] for cameras in (batch.cameras, seen.cameras))
    for number, part in enumerate(crops.parts):
        moved = whole - part.corners[..., None, :]
        factor = torch.tensor([frames.shape[-1], frames.shape[-2]]) / part.sizes.flip(-1)
        expected = moved * factor[:, :, None, None]
        found = zoomed[number * len(frames) : (number + 1) * len(frames)]
        require(torch.allclose(found, expected, atol=1e-2), f"cameras do not see the crop '{part.name}' where it lies")


def _estimate(
    noisy: Tensor, sigma: Tensor, conditioning: Conditioning, frame_index: Tensor | None, grid: ViewGrid
) -> Tensor:
    """A network that hears every memory."""
    heard = sum((x.mean(dim=(3, 4)) for x in conditioning.memory.values()), torch.zeros(()))
    return noisy / (1 + sigma) + torch.as_tensor(heard)[..., None, None, None].expand_as(noisy)


def _attended(
    noisy: Tensor, sigma: Tensor, conditioning: Conditioning, frame_index: Tensor | None, grid: ViewGrid
) -> dict[str, Tensor]:
    return {site: (number + 1) * noisy.flatten(4).mT for number, site in enumerate(_SITES)}


def _noise(name: str, views: int, frames: int) -> Tensor:
    return torch.randn(2, views, frames, 3, 6, 8, generator=generator("refiner", name, views, frames))
