"""Body models of the SMPL family in their ``.pkl`` files, as plain arrays. The one reader of pickles.

The files of SMPL, SMPL-H and SMPL-X (and MANO) are pickles of Python 2 with arrays of NumPy, a sparse matrix of SciPy and
values of chumpy. A pickle is a program that names functions and calls them. This reader follows the program with nothing
to call: names become names, calls become a name with arguments, and only a handful of names is let through. What arrays,
matrices and chumpy's values hold is then taken from these descriptions, by code that checks every size.

What becomes of the result: ``smplx`` reads any ``.npz`` with ``np.load(allow_pickle=True)``, which unpickles arrays of
objects. A file that this command wrote has none, so reading it so is harmless; one from anyone else may. ``smplx.SMPL``
reads from a path only ``.pkl``: give it the arrays themselves, as ``data_struct=smplx.utils.Struct(**np.load(FILE))``.
hvg's bodies of the family never give smplx a file of the user's, only arrays that were read without pickle.
"""

import math
import pickletools
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hvg.core.errors import DataError

# Bytes of a file, and of an array in it. The largest, SMPL-X with 400 shape and expression directions, takes 0.5 GB.
LARGEST = 2**31
# Arrays that every body model needs.
REQUIRED = ("v_template", "f", "weights", "J_regressor", "shapedirs")
# Errors raised while reading a pickle that does not describe a body model.
_DAMAGE = (ValueError, KeyError, IndexError, TypeError, AttributeError, OverflowError)
# An array's name in the archive becomes a file's.
_KEY = re.compile(r"[A-Za-z_]\w*")
# Numbers, and text of fixed length; without byte order.
_DTYPE = re.compile(r"b1|[iu][1248]|f[248]|[SU]\d{1,6}")


def read_body_model(path: Path) -> tuple[dict[str, np.ndarray], list[str]]:
    """Name -> array of a body model's .pkl, and the names of entries that are no plain arrays.

    Raises: DataError, one line that names the file, and the function or class that it asks for where that is refused.
    """
    if not path.is_file():
        raise DataError(f"{path}: there is no such file; expected a body model's .pkl")
    if path.stat().st_size > LARGEST:
        raise DataError(f"{path}: {path.stat().st_size} bytes; a body model has at most {LARGEST}")
    try:
        entries = read_pickle(path.read_bytes())
    except _Refused as error:
        raise DataError(f"{path}: {error}") from error
    except _DAMAGE as error:
        raise DataError(f"{path}: damaged or no pickle ({' '.join(str(error).split())})") from error
    if not isinstance(entries, dict):
        raise DataError(f"{path}: holds no entries by name; expected a body model with {', '.join(REQUIRED)}")
    arrays: dict[str, np.ndarray] = {}
    for name, value in entries.items():
        array = _array_of(path, name, value)
        if array is not None:
            arrays[name] = array
        # A pickle may name one array many times.
        if sum(known.nbytes for known in arrays.values()) > LARGEST:
            raise DataError(f"{path}: its arrays take more than {LARGEST} bytes")
    missing = [name for name in REQUIRED if name not in arrays]
    if missing:
        raise DataError(f"{path}: lacks {', '.join(missing)}; expected a body model with {', '.join(REQUIRED)}")
    return arrays, [str(name) for name in entries if name not in arrays]


class _Refused(ValueError):
    """The pickle asks for something that is not let through."""


@dataclass(frozen=True)
class _Name:
    """A function or class that the pickle names; nothing is imported for it."""

    name: str


@dataclass(eq=False)
class _Made:
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
_PLAIN = {f"{module}.{name}" for module in ("__builtin__", "builtins") for name in ("object", "set")}
ALLOWED = frozenset(
    {*_RECONSTRUCT, *_SCALAR, *_FROM_BUFFER, *_SPARSE, *_RECONSTRUCTOR, *_PLAIN}
    | {_CHUMPY, _SELECT, _ENCODE, "numpy.ndarray", "numpy.dtype"}
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


def read_pickle(data: bytes) -> Any:
    """Content of a pickle: plain containers and values as such, all else as ``_Made``. Nothing is called or imported.

    Raises: ValueError (``_Refused`` for a name or an operation that is not let through), KeyError, IndexError or TypeError.
    """
    stack: list[Any] = []
    memo: dict[Any, Any] = {}
    for operation, argument, _ in pickletools.genops(data):
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
        elif name not in ("PROTO", "FRAME", "STOP"):
            raise _Refused(f"asks for the operation {name}, which is never followed")
    return stack.pop()


def _since_mark(stack: list[Any]) -> list[Any]:
    """Everything above the last mark, which leaves the stack with it."""
    above: list[Any] = []
    while (value := stack.pop()) is not _MARK:
        above.append(value)
    return above[::-1]


def _named(module: Any, name: Any) -> _Name:
    """Raises: _Refused for a name that is not let through."""
    whole = f"{module}.{name}"
    if whole not in ALLOWED:
        raise _Refused(f"asks for {whole!r}, which is never called; a body model needs only arrays")
    return _Name(whole)


def _called(function: Any, arguments: Any) -> _Made:
    """Where a pickle calls: what is called, and its arguments."""
    if not isinstance(function, _Name) or not isinstance(arguments, tuple):
        raise ValueError("calls what is no function")
    # The class is an argument of the function that makes an instance.
    return _Made(arguments[0].name, ()) if function.name in _RECONSTRUCTOR else _Made(function.name, arguments)


def _built(made: Any, state: Any) -> _Made:
    """Where a pickle sets a value's state: keeps it."""
    if not isinstance(made, _Made):
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
    if not isinstance(entries, dict) or not all(isinstance(key, (str, int, float)) for key in values[::2]):
        raise ValueError("sets entries of what is no dictionary, or whose names are no names")
    entries.update(zip(values[::2], values[1::2], strict=True))
    return entries


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


def _array_of(path: Path, name: Any, value: Any) -> np.ndarray | None:
    """An entry as an array of numbers or text; None where it is something else. Raises: DataError for impossible sizes."""
    if not isinstance(name, str) or not _KEY.fullmatch(name):
        return None
    try:
        return _plain_array(value)
    except _DAMAGE as error:
        raise DataError(f"{path}: '{name}' is damaged ({' '.join(str(error).split())})") from error


def _plain_array(value: Any) -> np.ndarray | None:
    """The array that a value describes; None where it is no plain array."""
    if isinstance(value, (bool, int, float, str)):
        return _listed(value)
    if isinstance(value, (list, tuple)):
        # Lists of lists, and of anything that has to be looked into, are of no use to a body model.
        kinds = {type(item) for item in value}
        return _listed(value) if len(kinds) == 1 and kinds <= {bool, int, float, str} else None
    if not isinstance(value, _Made):
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
    places = _plain_array(state["idxs"])
    if values is None or places is None:
        return None
    return values.reshape(-1)[places].reshape(_shape(state["preferred_shape"]))


def _numpy(made: _Made) -> np.ndarray | None:
    """The array or number of NumPy that was described; None where it holds objects, or something else was described."""
    if made.by in _RECONSTRUCT:
        # The version came later than the rest.
        shape, dtype, column_major, data = made.state[-4:]
    elif made.by in _SCALAR:
        (dtype, data), shape, column_major = made.arguments, (), False
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


def _dtype(made: _Made) -> np.dtype | None:
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
    if isinstance(data, _Made) and data.by == _ENCODE:
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
