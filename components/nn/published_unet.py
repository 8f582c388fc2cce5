"""Published weights of SVD's UNet into a network of ours that may have more layers and other input channels."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from hvg.core.errors import HvgError
from hvg.parts.pretrained import Component
from hvg.parts.weights import load_weights

INPUT = "conv_in.weight"


def load_unet(unet: nn.Module, published: Component, own_settings: Mapping[str, Any], new: Sequence[str]) -> list[str]:
    """Loads every published weight and returns what it did, a line each.

    own_settings: of the library's UNet (its names), as ours is. new: prefixes of layers that no published UNet has;
    they keep their initial values. Raises: HvgError for other settings; CheckpointError for a published weight
    without a place, a layer of ours without a weight, and another shape.
    """
    _check_settings(published, own_settings)
    weights = published.weights()
    count, own = len(weights), unet.state_dict()
    input_line = _fit_input(weights, own[INPUT])
    fresh = {name: x for name, x in own.items() if name.startswith(tuple(new)) and name not in weights}
    load_weights(unet, {**fresh, **weights}, f"{published.setting}: {published.place}")
    numbers = {prefix: sum(x.numel() for name, x in fresh.items() if name.startswith(prefix)) for prefix in new}
    told = ", ".join(f"{prefix.rstrip('.')} ({number:,} weights)" for prefix, number in numbers.items() if number)
    return [f"unet: {count} tensors from {published.place}; new: {told or 'nothing'}", *input_line]


def _fit_input(weights: dict[str, Tensor], own: Tensor) -> list[str]:
    """Gives the first convolution as many input channels as ours has, and says so.

    Channels that no published network knows start with zero weights. Of channels that ours lacks the weights are left out,
    which is what zeros in these channels would do.
    """
    published = weights.get(INPUT)
    if published is None or published.ndim != 4:
        return []
    known, ours = published.shape[1], own.shape[1]
    if known < ours:
        zeros = published.new_zeros(published.shape[0], ours - known, *published.shape[2:])
        weights[INPUT] = torch.cat([published, zeros], dim=1)
        return [f"conv_in: {ours - known} input channels beyond the published {known} start at zero"]
    if known > ours:
        weights[INPUT] = published[:, :ours]
        return [f"conv_in: the first {ours} of {known} published input channels are used, as if the others were zero"]
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
