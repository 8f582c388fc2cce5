"""Inception blocks as data: chains of layers that see one input, and whose outputs are laid side by side."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn


class Branches(nn.Module):
    """(N, C, ...) -> (N, C of all branches, ...).

    layers: by the names that published files give them. chains: one per branch, such as ``"a b c|d"``: a, then b, then c
    and d side by side.
    """

    def __init__(self, layers: Mapping[str, nn.Module], *chains: str) -> None:
        super().__init__()
        for name, layer in layers.items():
            self.add_module(name, layer)
        self.chains = [[link.split("|") for link in chain.split()] for chain in chains]

    def forward(self, x: Tensor) -> Tensor:
        outputs = []
        for chain in self.chains:
            ends = [x]
            for names in chain:
                ends = [self.get_submodule(name)(end) for end in ends for name in names]
            outputs += ends
        return torch.cat(outputs, dim=1)
