"""Inception blocks as data: chains of layers that see one input, and whose outputs are laid side by side."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn


class Branches(nn.Module):
    """(N, C, ...) -> (N, C of all branches, ...).

    branches: each a chain of layers, in order, by the names that published files give them. A mapping in place of a layer
    holds layers side by side, each of which goes on with the chain.
    """

    def __init__(self, *branches: Mapping[str, nn.Module | Mapping[str, nn.Module]]) -> None:
        super().__init__()
        self.chains: list[list[list[str]]] = []
        for branch in branches:
            links = [{name: layer} if isinstance(layer, nn.Module) else layer for name, layer in branch.items()]
            for name, layer in (item for link in links for item in link.items()):
                self.add_module(name, layer)
            self.chains.append([list(link) for link in links])

    def forward(self, x: Tensor) -> Tensor:
        outputs = []
        for chain in self.chains:
            ends = [x]
            for names in chain:
                ends = [self.get_submodule(name)(end) for end in ends for name in names]
            outputs += ends
        return torch.cat(outputs, dim=1)
