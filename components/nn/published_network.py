"""Published weights of a denoiser into a network of ours that may have more layers and other input channels."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from hvg.core.errors import HvgError
from hvg.parts.pretrained import Component
from hvg.parts.weights import load_weights


def load_network(
    network: nn.Module,
    published: Component,
    own_settings: Mapping[str, Any],
    new: Sequence[str],
    *,
    first: str,
    ignored: Collection[str] = (),
) -> list[str]:
    """Loads every published weight and returns what it did, a line each.

    own_settings: of the library's network (its names), as ours is. new: layers that no published network has, by a word of
    their names between dots; they keep their initial values. first: the layer that the latents enter. ignored: words of weights
    that are in published files and in no network. Raises: HvgError for other settings; CheckpointError for a published weight
    without a place, a layer of ours without a weight, and another shape.
    """
    _check_settings(published, own_settings)
    weights = {name: x for name, x in published.weights().items() if not _words(name) & {*ignored}}
    count, own = len(weights), network.state_dict()
    input_line = _fit_input(weights, own, first)
    fresh = {name: x for name, x in own.items() if _words(name) & {*new} and name not in weights}
    load_weights(network, {**fresh, **weights}, f"{published.setting}: {published.place}")
    numbers = {word: sum(x.numel() for name, x in fresh.items() if word in _words(name)) for word in new}
    told = ", ".join(f"{word} ({number:,} weights)" for word, number in numbers.items() if number)
    return [f"{published.name}: {count} tensors from {published.place}; new: {told or 'nothing'}", *input_line]


def _words(name: str) -> set[str]:
    return {*name.split(".")}


def _fit_input(weights: dict[str, Tensor], own: Mapping[str, Tensor], layer: str) -> list[str]:
    """Gives the first convolution as many input channels as ours has, and says so.

    Channels that no published network knows start with zero weights. Of channels that ours lacks the weights are left out,
    which is what zeros in these channels would do.
    """
    name = f"{layer}.weight"
    published = weights.get(name)
    if published is None or published.ndim != own[name].ndim:
        return []
    known, ours = published.shape[1], own[name].shape[1]
    if known < ours:
        zeros = published.new_zeros(published.shape[0], ours - known, *published.shape[2:])
        weights[name] = torch.cat([published, zeros], dim=1)
        return [f"{layer}: {ours - known} input channels beyond the published {known} start at zero"]
    if known > ours:
        weights[name] = published[:, :ours]
        return [f"{layer}: the first {ours} of {known} published input channels are used, as if the others were zero"]
    return []


def _check_settings(published: Component, own: Mapping[str, Any]) -> None:
    """Raises: HvgError that lists every setting in which the published network is another one."""
    theirs = published.settings()
    wrong = [
        f"{name} is {_plain(ours)} here and {_plain(theirs.get(name))} there"
        for name, ours in own.items()
        if _plain(ours) != _plain(theirs.get(name))
    ]
    if wrong:
        raise HvgError(f"{published.setting}: the network at '{published.place}' is another one: {'; '.join(wrong)}")


def _plain(value: Any) -> Any:
    """Tuples as lists; a list of one number, repeated, as that number, which means the same to the library."""
    if isinstance(value, (list, tuple)):
        return value[0] if len(set(value)) == 1 else list(value)
    return value
