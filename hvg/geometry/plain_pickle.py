"""Pickles from anyone, as plain values. The one reader of pickles.

A pickle is a program that names functions and calls them. This reader follows the program with nothing to call: names become
names, calls become a name with arguments, and only a handful of names is let through. What arrays of NumPy, tensors of
PyTorch, matrices of SciPy and values of chumpy hold is then taken from these descriptions, by code that checks every size.

joblib writes the bytes of arrays into the midst of the pickle, after a byte that says how many to skip (joblib/numpy_pickle.py).
Tensors of PyTorch have theirs in files of their own, whose numbers the pickle tells (torch/serialization.py).
"""

import io
import math
import pickletools
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

# Bytes of a file, and of an array in it. The largest, SMPL-X with 400 shape and expression directions, takes 0.5 GB.
LARGEST = 2**31
# Errors raised while reading a pickle that is none, or is damaged.
DAMAGE = (ValueError, KeyError, IndexError, TypeError, AttributeError, OverflowError)
# Numbers, and text of fixed length; without byte order.
_DTYPE = re.compile(r"b1|[iu][1248]|f[248]|[SU]\d{1,6}")
# PyTorch's types of numbers; of bfloat16, which is the upper half of a float, its bits.
_STORAGES = {
    f"torch.{name}Storage": np.dtype(kind)
    for name, kind in (
        *(("Float", "<f4"), ("Double", "<f8"), ("Half", "<f2"), ("BFloat16", "<u2"), ("Long", "<i8"), ("Int", "<i4")),
        *(("Short", "<i2"), ("Char", "i1"), ("Byte", "u1"), ("Bool", "?")),
    )
}


class Refused(ValueError):
    """The pickle asks for something that is not let through."""


@dataclass(frozen=True)
class _Name:
    """A function or class that the pickle names; nothing is imported for it."""

    name: str


@dataclass(eq=False)
class Made:
    """Stand-in for the object that a call in a pickle would have made.

    by: the function's or class's name. state: what the pickle would have set afterwards.
    """

    by: str
    arguments: tuple[Any, ...]
    state: Any = None


_NUMPY = ("numpy.core", "numpy._core")
_RECONSTRUCT = {f"{package}.multiarray._reconstruct" for package in _NUMPY}
_SCALAR = {f"{package}.multiarray.scalar" for package in _NUMPY}
_FROM_BUFFER = {f"{package}.numeric._frombuffer" for package in _NUMPY}
_SPARSE = {f"scipy.sparse.{file}.{kind}_matrix": kind for kind in ("csc", "csr") for file in (kind, f"_{kind}")}
_CHUMPY, _SELECT = "chumpy.ch.Ch", "chumpy.reordering.Select"
# How classes without a method of their own are pickled, and bytes by Python 3 for Python 2.
_RECONSTRUCTOR = {"copy_reg._reconstructor", "copyreg._reconstructor"}
_ENCODE = "_codecs.encode"
_PLAIN = {f"{module}.{name}" for module in ("__builtin__", "builtins") for name in ("object", "set", "dict")}
_DICTIONARIES = {"collections.OrderedDict", "collections.defaultdict"}
_TENSOR, _PARAMETER = "torch._utils._rebuild_tensor_v2", "torch._utils._rebuild_parameter"
_IN_THE_MIDST = "joblib.numpy_pickle.NumpyArrayWrapper"
ALLOWED = frozenset(
    {*_RECONSTRUCT, *_SCALAR, *_FROM_BUFFER, *_SPARSE, *_RECONSTRUCTOR, *_PLAIN, *_DICTIONARIES, *_STORAGES}
    | {_TENSOR, _PARAMETER, _IN_THE_MIDST, _CHUMPY, _SELECT, _ENCODE, "numpy.ndarray", "numpy.dtype"}
)
_MARK = object()
# How pickletools writes that an operation takes everything down to the last mark.
_ABOVE = (pickletools.markobject, pickletools.stackslice)
# Operations that give what stands in the file.
_CONSTANTS = frozenset(
    (
        *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"),
        *("STRING", "BINSTRING", "SHORT_BINSTRING", "UNICODE", "SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8"),
        *("BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"),
    )
)


def read_pickle(data: bytes, storage: Callable[[str], bytes] | None = None) -> Any:
    """Content of a pickle: plain containers and values as such, all else as ``Made``. Nothing is called or imported.

    storage: the bytes of tensors by the number of their file, where there are such. Raises: ValueError (``Refused`` for a name
    or an operation that is not let through), KeyError, IndexError or TypeError.
    """
    stack: list[Any] = []
    memo: dict[Any, Any] = {}
    stream = io.BytesIO(data)
    for operation, argument, _ in pickletools.genops(stream):
        name = operation.name
        if name in _CONSTANTS:
            stack.append(argument)
        elif name == "MARK":
            stack.append(_MARK)
        elif name in ("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"):
            memo[len(memo) if argument is None else argument] = stack[-1]
        elif name in ("GET", "BINGET", "LONG_BINGET"):
            stack.append(memo[argument])
        elif name in _MEANINGS:
            above = _since_mark(stack) if pickletools.markobject in operation.stack_before else []
            needed = [kind for kind in operation.stack_before if kind not in _ABOVE]
            values = [stack.pop() for _ in needed][::-1] + above
            result = _MEANINGS[name](*([] if argument is None else [argument]), *values)
            stack += [result] * len(operation.stack_after)
            if name == "BUILD" and result.by == _IN_THE_MIDST:
                result.state["data"] = _in_the_midst(result.state, stream)
        elif name == "BINPERSID" and storage is not None:
            stack.append(_stored(stack.pop(), storage))
        elif name not in ("PROTO", "FRAME", "STOP"):
            raise Refused(f"asks for the operation {name}, which is never followed")
    return stack.pop()


def _since_mark(stack: list[Any]) -> list[Any]:
    """Everything above the last mark, which leaves the stack with it."""
    above: list[Any] = []
    while (value := stack.pop()) is not _MARK:
        above.append(value)
    return above[::-1]


def _named(module: Any, name: Any) -> _Name:
    """Raises: Refused for a name that is not let through."""
    whole = f"{module}.{name}"
    if whole not in ALLOWED:
        raise Refused(f"asks for {whole!r}, which is never called; only arrays are read")
    return _Name(whole)


def _called(function: Any, arguments: Any) -> Made | dict[Any, Any]:
    """Where a pickle calls: what is called, and its arguments; a dictionary that remembers more is one."""
    if not isinstance(function, _Name) or not isinstance(arguments, tuple):
        raise ValueError("calls what is no function")
    if function.name in _DICTIONARIES:
        return {}
    # The class is an argument of the function that makes an instance.
    return Made(arguments[0].name, ()) if function.name in _RECONSTRUCTOR else Made(function.name, arguments)


def _built(made: Any, state: Any) -> Made:
    """Where a pickle sets a value's state: keeps it."""
    if not isinstance(made, Made):
        raise ValueError("sets the state of what was not made")
    made.state = state
    return made


def _extended(items: Any, *values: Any) -> list[Any]:
    """A list or set (which is kept as a list) with more in it."""
    if not isinstance(items, list):
        raise ValueError("adds to what is no list")
    items.extend(values)
    return items


def _with_entries(entries: Any, *values: Any) -> dict[Any, Any]:
    """A dictionary with more keys and values, in turns."""
    # Some count persons in NumPy's numbers.
    names = [getattr(_numpy(key), "item", str)() if isinstance(key, Made) else key for key in values[::2]]
    if not isinstance(entries, dict) or not all(isinstance(key, (str, int, float)) for key in names):
        raise ValueError("sets entries of what is no dictionary, or whose names are no names")
    entries.update(zip(names, values[1::2], strict=True))
    return entries


def _in_the_midst(state: dict[str, Any], stream: io.BytesIO) -> bytes:
    """The bytes of an array that lie where the stream is. Raises: Refused for an array of objects."""
    kind = _dtype(state["dtype"])
    if kind is None:
        raise Refused("holds an array of objects, which are a pickle within the pickle")
    if state.get("numpy_array_alignment_bytes") is not None:
        stream.read(stream.read(1)[0])
    return stream.read(math.prod(_shape(state["shape"])) * kind.itemsize)


def _stored(told: Any, storage: Callable[[str], bytes]) -> Made:
    """Numbers that lie in a file of their own: their type and their bytes."""
    if not isinstance(told, tuple) or len(told) != 5 or told[0] != "storage" or not isinstance(told[1], _Name):
        raise ValueError("tells of what is no storage")
    return Made(told[1].name, (storage(str(told[2])),))


# Operation -> what it makes of the argument in the file, where it has one, and of what it takes from the stack.
_MEANINGS: dict[str, Callable[..., Any]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "POP": lambda value: None,
    "POP_MARK": lambda *values: None,
    "DUP": lambda value: value,
    **dict.fromkeys(("EMPTY_TUPLE", "TUPLE", "TUPLE1", "TUPLE2", "TUPLE3"), lambda *values: values),
    **dict.fromkeys(("EMPTY_LIST", "LIST", "EMPTY_SET", "FROZENSET"), lambda *values: list(values)),
    **dict.fromkeys(("EMPTY_DICT", "DICT"), lambda *values: _with_entries({}, *values)),
    **dict.fromkeys(("APPEND", "APPENDS", "ADDITEMS"), _extended),
    **dict.fromkeys(("SETITEM", "SETITEMS"), _with_entries),
    "GLOBAL": lambda name: _named(*name.split(" ", 1)),
    "STACK_GLOBAL": _named,
    **dict.fromkeys(("REDUCE", "NEWOBJ"), _called),
    "BUILD": _built,
}


def plain_array(value: Any) -> np.ndarray | None:
    """The array that a value describes; None where it is no plain array."""
    if isinstance(value, (bool, int, float, str)):
        return _listed(value)
    if isinstance(value, (list, tuple)):
        # Lists of lists, and of anything that has to be looked into, are of no use to a body model.
        kinds = {type(item) for item in value}
        return _listed(value) if len(kinds) == 1 and kinds <= {bool, int, float, str} else None
    if not isinstance(value, Made):
        return None
    if value.by in _SPARSE:
        return _dense(value.state, _SPARSE[value.by])
    if value.by == _SELECT:
        return _selected(value.state)
    return _numpy(value.state["x"] if value.by == _CHUMPY else value)


def _listed(value: Any) -> np.ndarray | None:
    """A value, or a list of one kind, as an array; None for whole numbers beyond 64 bits and for texts beyond reason."""
    texts = [item for item in (value if isinstance(value, (list, tuple)) else [value]) if isinstance(item, str)]
    # Every text takes the room of the longest.
    if len(texts) * max(map(len, texts), default=0) * 4 > LARGEST:
        return None
    array = np.array(value)
    return None if array.dtype.hasobject else array


def _selected(state: dict[str, Any]) -> np.ndarray | None:
    """Some of an array's values in another shape: what chumpy keeps of ``x[..., :10]``."""
    source = state["a"]
    values = _numpy(source.state["x"] if source.by == _CHUMPY else source)
    places = plain_array(state["idxs"])
    if values is None or places is None:
        return None
    return values.reshape(-1)[places].reshape(_shape(state["preferred_shape"]))


def _numpy(made: Made) -> np.ndarray | None:
    """The array or number of NumPy that was described; None where it holds objects, or something else was described."""
    if made.by in _RECONSTRUCT:
        # The version came later than the rest.
        shape, dtype, column_major, data = made.state[-4:]
    elif made.by in _SCALAR:
        (dtype, data), shape, column_major = made.arguments, (), False
    elif made.by == _IN_THE_MIDST:
        shape, dtype, data, column_major = (
            *(made.state[key] for key in ("shape", "dtype", "data")),
            made.state["order"] == "F",
        )
    elif made.by == _PARAMETER:
        return _numpy(made.arguments[0])
    elif made.by == _TENSOR:
        return _tensor(*made.arguments[:4])
    elif made.by in _FROM_BUFFER:
        data, dtype, shape, order = made.arguments
        column_major = order == "F"
    else:
        return None
    kind = _dtype(dtype)
    if kind is None:
        return None
    shape, data = _shape(shape), _bytes(data)
    if math.prod(shape) * kind.itemsize != len(data):
        raise ValueError(f"{len(data)} bytes for the shape {shape} of {kind}")
    return np.ndarray(shape, kind, bytearray(data), order="F" if column_major else "C")


def _tensor(stored: Made, start: int, shape: Any, steps: Any) -> np.ndarray:
    """A tensor's numbers, the first one at ``start`` of those stored, and ``steps`` apart along every axis."""
    kind = _STORAGES[stored.by]
    numbers = np.frombuffer(stored.arguments[0], kind)
    shape, steps = _shape(shape), _shape(steps)
    last = start + sum((side - 1) * step for side, step in zip(shape, steps, strict=True))
    if start < 0 or (math.prod(shape) and last >= len(numbers)):
        raise ValueError(f"{len(numbers)} numbers for the shape {shape}")
    if not math.prod(shape):
        return np.zeros(shape, kind)
    strides = tuple(step * kind.itemsize for step in steps)
    view = np.lib.stride_tricks.as_strided(numbers[start:], shape, strides, writeable=False)
    return (view.astype("<u4") << 16).view("<f4") if stored.by == "torch.BFloat16Storage" else view.copy()


def _dtype(made: Made) -> np.dtype | None:
    """The described type; None for objects, dates and records."""
    text = made.arguments[0]
    if made.by != "numpy.dtype" or not isinstance(text, str) or not _DTYPE.fullmatch(text):
        return None
    order = made.state[1] if made.state else "="
    if order not in ("<", ">", "|", "="):
        raise ValueError(f"byte order {order!r}")
    # One byte has no order.
    return np.dtype(text if order == "|" else f"{order}{text}")


def _bytes(data: Any) -> bytes:
    """Raw bytes, which Python 2 wrote as text in Latin-1 and Python 3 for Python 2 as a call that encodes such text."""
    if isinstance(data, Made) and data.by == _ENCODE:
        data = data.arguments[0]
    if not isinstance(data, (str, bytes, bytearray)):
        raise ValueError("numbers that are no bytes")
    return data.encode("latin-1") if isinstance(data, str) else bytes(data)


def _shape(sides: Any) -> tuple[int, ...]:
    """Raises: ValueError for what is no shape, or too much to hold."""
    if not isinstance(sides, (tuple, list)) or not all(isinstance(side, int) and side >= 0 for side in sides):
        raise ValueError(f"{sides!r:.40} is no shape")
    if math.prod(sides) * 8 > LARGEST:
        raise ValueError(f"the shape {tuple(sides)} is too large")
    return tuple(sides)


def _dense(state: dict[str, Any], kind: str) -> np.ndarray | None:
    """A compressed sparse matrix with its zeros. kind: ``csc`` by columns, ``csr`` by rows."""
    shape = _shape(state["_shape"] if "_shape" in state else state["shape"])
    data, indices, ends = (_numpy(state[name]) for name in ("data", "indices", "indptr"))
    if data is None or indices is None or ends is None:
        return None
    lines, length = shape if kind == "csr" else shape[::-1]
    counts = np.diff(ends)
    if len(counts) != lines or (counts < 0).any() or ends[0] != 0 or not ends[-1] == len(indices) == len(data):
        raise ValueError("its index does not fit")
    if len(indices) and not 0 <= indices.min() <= indices.max() < length:
        raise ValueError("its index lies outside")
    dense = np.zeros((lines, length), data.dtype)
    np.add.at(dense, (np.repeat(np.arange(lines), counts), indices), data)
    return dense if kind == "csr" else np.ascontiguousarray(dense.T)
