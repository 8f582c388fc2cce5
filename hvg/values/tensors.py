"""Values that hold tensors: the same change to each of them, a list of them, and several values as one."""

from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from dataclasses import fields, is_dataclass, replace
from typing import Any

import torch
from torch import Tensor

# Fields of a mesh that is one for all clips of a batch: they have no B axis.
SHARED = ("faces", "vertex_bones", "vertex_weights")


def map_tensors(value: Any, function: Callable[[Tensor], Tensor], leave: Container[str] = ()) -> Any:
    """``value`` with ``function`` applied to every tensor in it. leave: names of fields that stay as they are."""
    return combine([value], lambda tensors: function(tensors[0]), leave)


def moved(value: Any, *args: Any, leave: Container[str] = (), **kwargs: Any) -> Any:
    """``value`` on another device, as of ``Tensor.to``; a floating type changes floating tensors only."""
    device = kwargs.get("device", next((a for a in args if isinstance(a, (str, torch.device))), None))
    waits = {"non_blocking": kwargs.get("non_blocking", False)}

    def there(x: Tensor) -> Tensor:
        if x.is_floating_point():
            return x.to(*args, **kwargs)
        return x if device is None else x.to(device=device, **waits)

    return map_tensors(value, there, leave)


def change(value: Any, names: Iterable[str], function: Callable[[Tensor], Tensor]) -> Any:
    """A dataclass with ``function`` applied to every tensor in the fields of these names."""
    return replace(value, **map_tensors({name: getattr(value, name) for name in names}, function))


def tensors_of(value: Any) -> list[Tensor]:
    """Every tensor in a value, in the order of its fields."""
    found: list[Tensor] = []
    map_tensors(value, lambda x: found.append(x) or x)
    return found


def concatenate(values: Sequence[Any]) -> Any:
    """Values of one form along B, field by field; what is ``SHARED``, and what is no tensor, is the first one's."""
    return combine(values, torch.cat, leave=SHARED)


def combine(values: Sequence[Any], function: Callable[[list[Tensor]], Tensor], leave: Container[str] = ()) -> Any:
    """One value of several of one form (tensors, dataclasses, mappings): ``function`` makes a tensor of theirs.

    Fields named in ``leave``, and what is no tensor, are the first one's.
    """
    first = values[0]
    if isinstance(first, Tensor):
        return function(list(values))
    if is_dataclass(first) and not isinstance(first, type):
        names = [f.name for f in fields(first) if f.name not in leave]
        return replace(first, **{n: combine([getattr(v, n) for v in values], function, leave) for n in names})
    if isinstance(first, Mapping):
        return {key: combine([v[key] for v in values], function, leave) for key in first}
    return first
