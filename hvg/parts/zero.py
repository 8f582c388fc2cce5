"""Zero initialisation: new layers that change nothing until they have learned something."""

from typing import TypeVar

from torch import nn

Module = TypeVar("Module", bound=nn.Module)


def zero_module(module: Module) -> Module:
    """The same module with every parameter set to zero. Source: ControlNet (arXiv 2302.05543), section 3.1."""
    for parameter in module.parameters():
        nn.init.zeros_(parameter)
    return module
