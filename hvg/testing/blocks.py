"""Check that nothing but a block asks for its weights."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from hvg.parts.blocks import GATHERED, blocks_of
from hvg.testing.building import require


@torch.no_grad()
def check_blocks(network: nn.Module, compute: Callable[[], Mapping[str, Tensor]]) -> None:
    """What ``compute`` gives by the network is the same where weights of its blocks are there only while these run: as under a
    strategy that gathers them for as long.
    """
    expected = {name: x.clone() for name, x in compute().items()}
    with only_while_they_run(network):
        found = compute()
    wrong = [name for name, x in expected.items() if not torch.equal(found[name], x)]
    require(
        not wrong,
        f"{', '.join(wrong)}: weights of a block that weight_blocks names are asked for while it does not run; use run_block",
    )


@contextmanager
def only_while_they_run(network: nn.Module) -> Iterator[None]:
    """Inside, the weights of every block of a network are not numbers, but while the block runs."""
    owned: set[Tensor] = set()
    handles: list[Any] = []
    blocks = blocks_of([network])
    for block in blocks:
        # Those of a block inside of this one are its own.
        weights = [weight for weight in block.parameters() if weight not in owned]
        owned |= {*weights}
        door = _Door({weight: weight.detach().clone() for weight in weights})
        handles.append(block.register_forward_pre_hook(door.open, prepend=True))
        handles.append(block.register_forward_hook(door.shut))
        vars(block)[GATHERED] = door.run
        door.shut()
        handles.append(door)
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
        for block in blocks:
            del vars(block)[GATHERED]


class _Door:
    """Weights of a block, which are there while it is open; it may be opened several times."""

    def __init__(self, weights: Mapping[Tensor, Tensor]) -> None:
        self._weights, self._times = weights, 1

    def open(self, *_: Any) -> None:
        self._times += 1
        for weight, value in self._weights.items():
            weight.detach().copy_(value)

    def shut(self, *_: Any) -> None:
        self._times -= 1
        if not self._times:
            for weight in self._weights:
                weight.detach().fill_(torch.nan)

    def run(self, function: Callable[..., Any], *inputs: Any) -> Any:
        """Result of a function that asks for the weights."""
        self.open()
        try:
            return function(*inputs)
        finally:
            self.shut()

    def remove(self) -> None:
        """Leaves the weights as they were."""
        self.open()
