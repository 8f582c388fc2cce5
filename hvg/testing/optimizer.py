"""Checks of what every optimiser promises."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from hvg.core.random_keys import generator
from hvg.model.ema import Averaging
from hvg.parts.optimizer import TAKEN, Optimizer
from hvg.testing.building import make, require

# Sizes of weights: of a few numbers, and of more than an optimiser that rounds in blocks keeps exactly, no multiple of one.
_SHAPES = ((3,), (5, 7), (70, 3, 31), (90, 100))
_RATE, _STEPS = 0.05, 4


def check_optimizer(cls: type[Optimizer], config: Any) -> None:
    """Runs every check below on weights that are drawn towards others, on the CPU.

    Raises: AssertionError that says which promise is broken.
    """
    part = make(cls, config)
    missing = part.missing()
    require(missing is None, f"it cannot be tried here: {missing}")
    check_names(part)
    check_fall(part)
    check_same_again(part)
    check_groups(part)
    check_begin(part)
    check_resume(part)
    check_bytes(part)
    if not part.whole_weights:
        check_pieces(part)


def check_names(part: Optimizer) -> None:
    """What it keeps has names of its own."""
    taken = [name for name in part.moments if name in TAKEN]
    require(not taken, f"moments names {', '.join(taken)}, sections that checkpoints have anyway")


def check_fall(part: Optimizer) -> None:
    """Weights come nearer to where their gradients lead; one that has no gradient stays where it is, its state too."""
    weights = _weights()
    optimizer = _optimizer(part, weights)
    before = [weight.detach().clone() for weight in weights]
    still = optimizer.prepare(weights[0])
    kept = {name: x.clone() for name, x in still.items() if isinstance(x, Tensor)}
    for step in range(_STEPS):
        _gradients(weights, step, noise=0.0)
        weights[0].grad = None
        optimizer.step()
    far, near = (sum(float(x.square().sum()) for x in some[1:]) for some in (before, _plain(weights)))
    require(near < far, f"the squared distance from where gradients lead went from {far:.4g} to {near:.4g}")
    require(torch.equal(weights[0], before[0]), "a weight without a gradient was moved")
    changed = [name for name, x in kept.items() if not torch.equal(still[name], x)]
    require(not changed, f"of a weight without a gradient this changed: {', '.join(changed)}")


def check_same_again(part: Optimizer) -> None:
    """The same weights and gradients end in the same bits."""
    first, second = (_trained(part, _weights()) for _ in range(2))
    require(_equal(first, second), "the same steps end in other bits when they are taken again")


def check_groups(part: Optimizer) -> None:
    """Each group has its own learning rate, which a schedule sets anew; at 0 nothing moves."""
    weights = _weights()
    groups = [{"params": weights[:2], "lr": 0.0}, {"params": weights[2:]}]
    optimizer = Averaging(part, groups, _RATE, decay=0.9)
    rates = [group["lr"] for group in optimizer.param_groups]
    require(rates == [0.0, _RATE], f"groups have the learning rates {rates}, not those that they were given")
    before = _plain(weights)
    _gradients(weights, 0)
    optimizer.step()
    moved = [not torch.equal(x, weight) for x, weight in zip(before, weights, strict=True)]
    require(moved == [False, False, True, True], "a learning rate of 0 moves weights, or another one does not")
    for group, rate in zip(optimizer.param_groups, (_RATE, 0.0), strict=True):
        group["lr"] = rate
    before = _plain(weights)
    _gradients(weights, 1)
    optimizer.step()
    moved = [not torch.equal(x, weight) for x, weight in zip(before, weights, strict=True)]
    require(moved == [True, True, False, False], "learning rates that a schedule sets have no effect")


def check_begin(part: Optimizer) -> None:
    """What ``begin`` makes is what it starts with by itself, and holds every moment."""
    weights, others = _weights(), _weights()
    prepared, own = _optimizer(part, weights), part.make([{"params": others}], _RATE)
    for weight in weights:
        state = prepared.prepare(weight)
        lacking = [name for name in part.moments if name not in state]
        require(not lacking, f"begin makes no {', '.join(lacking)}")
    for step in range(_STEPS):
        for some in (weights, others):
            _gradients(some, step)
        prepared.step()
        own.step()
    require(_equal(_plain(weights), _plain(others)), "prepared by begin, weights move otherwise than by themselves")


def check_resume(part: Optimizer) -> None:
    """What is read of the moments, float32 in the weight's shape, written elsewhere in parts, goes on to the same bits."""
    weights = _weights()
    optimizer = _optimizer(part, weights)
    _take(optimizer, weights, range(_STEPS))
    others = [torch.nn.Parameter(weight.detach().clone()) for weight in weights]
    resumed = _optimizer(part, others)
    for weight, other in zip(weights, others, strict=True):
        count, state = weight.numel(), resumed.prepare(other)
        # As pieces come from several processes: of a length that no block has.
        cuts = sorted({0, count // 3, count // 3 + 1, count})
        places = [slice(*ends) for ends in pairwise(cuts)]
        for section in optimizer.sections:
            whole = optimizer.read(weight, section, slice(0, count))
            require(
                whole.dtype == torch.float32 and tuple(whole.shape) == (count,),
                f"{section} of a weight {tuple(weight.shape)} is read as {whole.dtype} {tuple(whole.shape)}",
            )
            parts = [optimizer.read(weight, section, place) for place in places]
            require(torch.equal(torch.cat(parts), whole), f"parts of {section} are read otherwise than the whole")
            resumed.write(other, section, zip(places, (x.clone() for x in parts), strict=True))
        require("step" not in state or bool(state["step"] == 0), "writing moments counts steps")
    resumed.restore_steps(optimizer.steps)
    for some, whose in ((weights, optimizer), (others, resumed)):
        _take(whose, some, range(_STEPS, 2 * _STEPS))
    require(_equal(_plain(weights), _plain(others)), "with its moments read and written again it ends in other bits")


def check_bytes(part: Optimizer) -> None:
    """``kept_bytes`` is what the state of a weight takes."""
    for shape in _SHAPES:
        weight = torch.nn.Parameter(torch.zeros(shape))
        found = [x for x in part.begin(weight.detach()).values() if isinstance(x, Tensor)]
        taken, said = sum(x.numel() * x.element_size() for x in found), part.kept_bytes(part.config, weight.numel())
        require(taken == said, f"of {weight.numel()} numbers it keeps {taken} bytes, kept_bytes says {said}")


def check_pieces(part: Optimizer) -> None:
    """Cut into flat pieces, as strategies do, weights move as they do whole, but for what rounding makes of it."""

    def flat(cuts: Sequence[int]) -> Tensor:
        weights = _weights()
        start = torch.cat([weight.detach().flatten() for weight in weights])
        pieces = [torch.nn.Parameter(x.clone()) for x in start.tensor_split(cuts)]
        optimizer = _optimizer(part, pieces)
        for step in range(_STEPS):
            # What the weights have become, for the gradients that they would have whole.
            now = torch.cat([piece.detach() for piece in pieces]).split([weight.numel() for weight in weights])
            for weight, value in zip(weights, now, strict=True):
                weight.data.copy_(value.view_as(weight))
            _gradients(weights, step)
            gradient = torch.cat([x.grad.flatten() for x in weights if x.grad is not None])
            for piece, own in zip(pieces, gradient.tensor_split(cuts), strict=True):
                piece.grad = own.clone()
            optimizer.step()
        return torch.cat([piece.detach() for piece in pieces])

    whole = torch.cat([x.flatten() for x in _trained(part, _weights())])
    count = len(whole)
    apart = max(float((flat(cuts) - whole).abs().max()) for cuts in ((), (count // 2,), (7, 5000)))
    moved = float((whole - torch.cat([x.detach().flatten() for x in _weights()])).abs().max())
    require(
        apart < 0.05 * moved,
        f"in pieces weights end {apart:.3g} from where they end whole; the farthest moved {moved:.3g}",
    )


def _weights() -> list[torch.nn.Parameter]:
    random = generator("check_optimizer")
    return [torch.nn.Parameter(torch.randn(shape, generator=random)) for shape in _SHAPES]


def _gradients(weights: Sequence[torch.nn.Parameter], step: int, noise: float = 0.3) -> None:
    """Gives every weight a gradient away from 0, with noise of the step."""
    random = generator("check_optimizer", step)
    for weight in weights:
        drawn = torch.randn(weight.shape, generator=random)
        weight.grad = weight.detach() + noise * drawn


def _optimizer(part: Optimizer, weights: Sequence[torch.nn.Parameter]) -> Averaging:
    return Averaging(part, [{"params": list(weights)}], _RATE, decay=0.9)


def _take(optimizer: Averaging, weights: Sequence[torch.nn.Parameter], steps: range) -> None:
    for step in steps:
        _gradients(weights, step)
        optimizer.step()


def _trained(part: Optimizer, weights: list[torch.nn.Parameter]) -> list[Tensor]:
    _take(_optimizer(part, weights), weights, range(_STEPS))
    return _plain(weights)


def _plain(weights: Sequence[torch.nn.Parameter]) -> list[Tensor]:
    return [weight.detach().clone() for weight in weights]


def _equal(first: Sequence[Tensor], second: Sequence[Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
