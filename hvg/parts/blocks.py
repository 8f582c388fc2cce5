"""Blocks of networks: of what strategies that divide weights among devices gather, one at a time."""

from collections.abc import Callable, Iterable
from typing import TypeVar

from torch import nn

Result = TypeVar("Result")
# Attribute of a block in which such a strategy leaves what runs it with its weights gathered.
GATHERED = "run_gathered"


class InBlocks:
    """A network most of whose weights lie in blocks."""

    def weight_blocks(self) -> Iterable[nn.Module]:
        """The blocks: modules that are run by their call, or by ``run_block``, and whose weights nothing asks for otherwise.

        What is in none is gathered for the length of a step; so is all of a network that names none.
        """
        return ()


def run_block(block: nn.Module, function: Callable[..., Result], *inputs: object) -> Result:
    """``function(*inputs)``, which asks for the weights of ``block``."""
    run: Callable[..., Result] | None = vars(block).get(GATHERED)
    return function(*inputs) if run is None else run(function, *inputs)
