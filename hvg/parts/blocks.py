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


def blocks_of(networks: Iterable[nn.Module]) -> list[nn.Module]:
    """All blocks in some networks, those within others before these."""
    modules = [module for network in networks for module in network.modules()]
    named = {block for module in modules if isinstance(module, InBlocks) for block in module.weight_blocks()}
    return [module for module in reversed(modules) if module in named]


def run_block(block: nn.Module, function: Callable[..., Result], *inputs: object) -> Result:
    """``function(*inputs)``, which asks for the weights of ``block``."""
    run: Callable[..., Result] | None = vars(block).get(GATHERED)
    return function(*inputs) if run is None else run(function, *inputs)
