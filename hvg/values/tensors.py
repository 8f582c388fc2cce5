"""Values that hold tensors: the same change to each of them, their size, and several values as one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass, replace
from typing import Any

import torch
from torch import Tensor

from hvg.values.body import BodyMotion
from hvg.values.cameras import Cameras


def map_tensors(value: Any, function: Callable[[Tensor], Tensor]) -> Any:
    """``value`` with ``function`` applied to every tensor in it (dataclasses, mappings and tuples are walked)."""
    if isinstance(value, Tensor):
        return function(value)
    if isinstance(value, Cameras):
        return replace(value, world_to_camera=function(value.world_to_camera), intrinsics=function(value.intrinsics))
    if is_dataclass(value) and not isinstance(value, type):
        return replace(value, **{f.name: map_tensors(getattr(value, f.name), function) for f in fields(value)})
    if isinstance(value, Mapping):
        return {key: map_tensors(item, function) for key, item in value.items()}
    return value


def count_bytes(value: Any, size: Callable[[Tensor], int]) -> int:
    total = 0

    def count(x: Tensor) -> Tensor:
        nonlocal total
        total += size(x)
        return x

    map_tensors(value, count)
    return total


def concatenate(values: list[Any]) -> Any:
    """Concatenates along B, field by field; values that are no tensors are taken from the first."""
    first = values[0]
    if isinstance(first, Tensor):
        return torch.cat(values)
    if isinstance(first, Cameras):
        return replace(
            first,
            world_to_camera=torch.cat([v.world_to_camera for v in values]),
            intrinsics=torch.cat([v.intrinsics for v in values]),
        )
    if isinstance(first, BodyMotion):
        parts = {f.name: concatenate([getattr(v, f.name) for v in values]) for f in fields(first) if f.name != "faces"}
        return replace(first, **parts)
    if is_dataclass(first) and not isinstance(first, type):
        return replace(first, **{f.name: concatenate([getattr(v, f.name) for v in values]) for f in fields(first)})
    if isinstance(first, Mapping):
        return {key: concatenate([v[key] for v in values]) for key in first}
    return first
