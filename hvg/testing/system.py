"""Checks of what every system promises."""

from dataclasses import replace

import torch

from hvg.config.build import build_dataset
from hvg.config.settings import RunConfig
from hvg.data.training_data import DrawnCells
from hvg.model.load import build_system
from hvg.model.trained_system import TrainedSystem
from hvg.testing.building import nudged, require, require_gradients, require_interface
from hvg.values.clip import ClipBatch

# Places of the clips in the training order, and by how much sums that are taken in another order may differ.
_PLACES, _NEAR = (3, 8), 1e-4


def check_system(config: RunConfig) -> None:
    """Runs every check below on the system of a run, with two of its training clips and a small network on the CPU.

    Raises: AssertionError that says which promise is broken.
    """
    require_interface(config.system.cls)
    system, again = build_system(config), build_system(config)
    names = [name for name, x in system.state_dict().items() if not torch.equal(x, again.state_dict()[name])]
    require(not names, f"built twice, {', '.join(names[:3])} differ: initial weights have to be seeded")
    trained = any(parameter.requires_grad for parameter in system.parameters())
    learns = config.system.cls.learns(config)
    require(trained == learns, f"learns is {learns}, but weights are {'' if trained else 'not '}trained")
    batch = training_batch(system, config)
    if trained:
        check_step(nudged(system), batch)
    check_pictures(system.eval(), batch)


def training_batch(system: TrainedSystem, config: RunConfig) -> ClipBatch:
    """Two training clips as a step sees them."""
    clips, bucket = build_dataset(config, "train"), config.data.trained_buckets[0]
    found = []
    for index, place in enumerate(_PLACES):
        clip = system.signals.load(clips, index)
        part = system.signals.draw(clip.select(*DrawnCells(config.seed, place, bucket)(*clip.grid[1:])))
        valid = torch.ones(part.grid, dtype=torch.bool)
        found.append(replace(part, valid=valid, sample_index=torch.tensor([place])))
    return ClipBatch.stack(found)


def check_step(system: TrainedSystem, batch: ClipBatch) -> None:
    """A step's loss is finite and reaches every weight that is trained. What it draws is the clip's own, by its place in the
    training order: the loss of a batch is the mean of those of its clips, in any order, and one that fills a place has none.
    """
    first, second = (batch.clips(slice(i, i + 1)) for i in range(2))
    losses = system.training_step(batch, 0)
    shapes = {name: tuple(x.shape) for name, x in losses.items() if x.shape or not bool(x.isfinite())}
    require(
        "loss" in losses and not shapes, f"training_step has to give finite scalars, `loss` among them; not {shapes}"
    )
    losses["loss"].backward()
    require_gradients(system)
    system.zero_grad()

    def loss(clips: ClipBatch) -> float:
        with torch.no_grad():
            return float(system.training_step(clips, 0)["loss"])

    whole = float(losses["loss"].detach())
    require(loss(batch) == whole, "the same batch has another loss when it is seen again")
    alone = [loss(clip) for clip in (first, second)]
    _near(sum(alone) / 2, whole, "the loss of two clips is not the mean of theirs")
    _near(loss(ClipBatch.stack([second, first])), whole, "the loss depends on the order of the clips")
    elsewhere = replace(first, sample_index=torch.tensor([_PLACES[1]]))
    require(loss(elsewhere) != alone[0], "a clip at another place of the training order has the same draws")
    filled = replace(second, valid=torch.zeros(second.grid, dtype=torch.bool))
    _near(
        loss(ClipBatch.stack([first, filled])), alone[0] / 2, "a clip that only fills a place has a share in the loss"
    )


def check_pictures(system: TrainedSystem, batch: ClipBatch) -> None:
    """Pictures of a clip are in [-1, 1], the same again, the same in any batch, and do not look at the clip's frames."""
    asked = replace(batch, frames=None, alpha=None, valid=None, sample_index=None)
    made = system.generate(asked, num_steps=1)
    views, frames = batch.grid[1:]
    shape = (len(batch.clip_id), views, frames, 3, *batch.cameras.image_size)
    require(tuple(made.shape) == shape, f"generate gives {tuple(made.shape)}, expected {shape}")
    require(bool((made.abs() <= 1).all()), "pictures are not in [-1, 1]")
    require(torch.equal(system.generate(asked, num_steps=1), made), "the same clip has other pictures the second time")
    alone = system.generate(asked.clips(slice(1, 2)), num_steps=1)
    require(bool((alone - made[1:]).abs().max() < _NEAR), "a clip's pictures depend on the clips beside it")
    require(not made.requires_grad, "what is sampled keeps gradients")


def _near(found: float, expected: float, message: str) -> None:
    require(abs(found - expected) <= _NEAR * max(1e-6, abs(expected)), f"{message}: {found:.6g}, not {expected:.6g}")
