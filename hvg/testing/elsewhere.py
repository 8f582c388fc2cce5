"""A device that no machine has: its tensors are in main memory, with values, and must not meet tensors of the CPU.

What a part makes on the CPU although its inputs are elsewhere shows here, without a GPU::

    with elsewhere() as device:
        part.to(device)(batch.to(device))
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode, resolve_name
from torch.utils._pytree import tree_leaves, tree_map

# Device that its tensors report. It has a name that torch.autocast knows.
DEVICE = torch.device("cuda", 0)
# As on a GPU: what may take tensors of two devices, and what leaves the device.
_CROSSING = {"to", "copy_", "type_as", "__getitem__", "__setitem__", "index_put", "index_put_"}
_LEAVING = {"cpu", "item", "tolist", "__bool__", "__int__", "__float__", "__index__", "__repr__", "__format__"}
# What torch.nn.Module.to asks.
_OF_MODULES = {"_parse_to", "_has_compatible_shallow_copy_type"}
_OF_ANOTHER = {"to", "type_as"}


class _Elsewhere(Tensor):
    """A tensor that says it is on ``DEVICE``."""

    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None):
        return _call(func, args, kwargs or {})


class _Mode(TorchFunctionMode):
    """Looks at every call, also at those that make a tensor out of nothing."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        return _call(func, args, kwargs or {})


@contextmanager
def elsewhere() -> Iterator[torch.device]:
    """The device, to which ``.to(device)`` moves tensors, values and modules inside.

    Raises: AssertionError inside, where a tensor with axes that is on the CPU meets one that is not, as a GPU would.
    """
    overwrites = torch.__future__.get_overwrite_module_params_on_conversion()
    # Otherwise a module that moves keeps its parameters, and exchanges what they hold.
    torch.__future__.set_overwrite_module_params_on_conversion(True)
    try:
        with _Mode():
            yield DEVICE
    finally:
        torch.__future__.set_overwrite_module_params_on_conversion(overwrites)


def is_elsewhere(x: Tensor) -> bool:
    """Whether a tensor is on that device."""
    return isinstance(x, _Elsewhere)


def _call(func: Callable, args: tuple, kwargs: Mapping[str, Any]) -> Any:
    """Result of a torch function, with its tensors on the device where a GPU would have them."""
    name = getattr(func, "__name__", "")
    if name == "__get__":
        return _attribute(func, args)
    if name == "cuda":
        return _placed(args[0], True)
    if name in _OF_MODULES:
        with torch._C.DisableTorchFunctionSubclass():
            return func(*args, **kwargs)
    args, kwargs = _with_devices(name, args, kwargs)
    leaves = tree_leaves((args, kwargs))
    there = [x for x in leaves if is_elsewhere(x)]
    here = [x for x in leaves if isinstance(x, Tensor) and not is_elsewhere(x) and x.ndim > 0]
    if there and name in ("numpy", "__array__"):
        raise AssertionError(f"{name} of a tensor {tuple(there[0].shape)} that is not on the CPU; call .cpu() before")
    if there and here and name not in _CROSSING:
        shapes = [", ".join(str(tuple(x.shape)) for x in side) for side in (here, there)]
        raise AssertionError(
            f"{resolve_name(func) or name} meets {shapes[0]} on the CPU and {shapes[1]} on the device of the inputs; make the "
            "former on the latter's device"
        )
    device = next((x for x in tree_leaves((args[1:], kwargs)) if isinstance(x, torch.device)), None)
    if name in _OF_ANOTHER and device is None and len(args) > 1 and isinstance(args[1], Tensor):
        device = DEVICE if is_elsewhere(args[1]) else torch.device("cpu")
    args, kwargs = tree_map(_where_memory_is, (args, kwargs))
    with torch._C.DisableTorchFunctionSubclass():
        result = func(*args, **kwargs)
    if name == "__setitem__" or (name.endswith("_") and not name.endswith("__")):
        return result
    target = bool(there) and name not in _LEAVING if device is None else device.type == DEVICE.type
    return tree_map(lambda x: _placed(x, target), result)


def _attribute(func: Callable, args: tuple) -> Any:
    """Attribute of a tensor: ``device``, or a tensor such as ``mT`` on the same one."""
    (x, *_), name = args, getattr(getattr(func, "__self__", None), "__name__", "")
    if name == "device":
        with torch._C.DisableTorchFunctionSubclass():
            return DEVICE if is_elsewhere(x) else func(*args)
    with torch._C.DisableTorchFunctionSubclass():
        result = func(*args)
    return _placed(result, is_elsewhere(x))


def _where_memory_is(x: Any) -> Any:
    """The CPU in place of the device that no machine has; others, such as ``meta``, are left alone."""
    return torch.device("cpu") if isinstance(x, torch.device) and x.type == DEVICE.type else x


def _placed(x: Any, there: bool) -> Any:
    if not isinstance(x, Tensor) or is_elsewhere(x) == there:
        return x
    with torch._C.DisableTorchFunctionSubclass():
        return x.as_subclass(_Elsewhere if there else Tensor)


def _with_devices(name: str, args: tuple, kwargs: Mapping[str, Any]) -> tuple[tuple, dict[str, Any]]:
    """The arguments of a call with devices in place of their names."""
    kwargs = {key: torch.device(x) if key == "device" and isinstance(x, str) else x for key, x in kwargs.items()}
    if name == "to" and len(args) > 1 and isinstance(args[1], str):
        args = (args[0], torch.device(args[1]), *args[2:])
    return args, kwargs
