"""Files that hold a pickle, of Python, PyTorch (.pt, .pth) or joblib, as plain values.

PyTorch's are zip archives with ``data.pkl`` and the numbers of tensors beside it. ``torch.load(weights_only=True)`` would read
them, too, but no arrays of NumPy, with whatever any library has put on its list, and in the memory that a file claims. joblib
may compress a pickle as a whole: zlib and gzip are read, others refused by name.
"""

import zipfile
import zlib
from pathlib import Path
from typing import Any

from hvg.core.errors import DataError
from hvg.geometry.plain_pickle import DAMAGE, LARGEST, Made, Refused, plain_array, read_pickle

# With this number, a pickle of its own, torch.save began files before its version 1.6.
_OLD_TORCH = 0x1950A86A20F9469CFC6C
_OTHER_COMPRESSIONS = {b"BZh": "bz2", b"\xfd7zXZ": "xz", b"\x5d\x00\x00": "lzma", b"\x04\x22M\x18": "lz4"}
# How zlib is told what a file begins with.
_WIDTHS = {b"\x1f\x8b": 31, b"\x78": 15}


def read_pickled(path: Path) -> Any:
    """Dictionaries, lists, numbers, text and arrays; None for anything else that the file holds.

    Raises: DataError, one line that names the file, and the function or class that it asks for where that is refused.
    """
    if not path.is_file():
        raise DataError(f"{path}: there is no such file; expected a .pt, .pth or .pkl")
    if path.stat().st_size > LARGEST:
        raise DataError(f"{path}: {path.stat().st_size} bytes; at most {LARGEST} are read")
    try:
        value = _of_torch(path) if zipfile.is_zipfile(path) else read_pickle(_unpacked(path.read_bytes()))
        if value == _OLD_TORCH:
            raise Refused("is in the form that torch.save wrote before version 1.6; save it anew with a later one")
        return _Plain().of(value)
    except Refused as error:
        raise DataError(f"{path}: {error}") from error
    except (*DAMAGE, RuntimeError, zlib.error, zipfile.BadZipFile, EOFError) as error:
        raise DataError(f"{path}: damaged or no pickle ({' '.join(str(error).split())[:200]})") from error


class _Plain:
    """Makes plain values of what ``read_pickle`` gives: arrays of their descriptions, and None of those of anything else."""

    def __init__(self) -> None:
        # What was made of a value that occurs again, by the value's id; and the bytes of arrays.
        self.known: dict[int, Any] = {}
        self.size = 0

    def of(self, value: Any) -> Any:
        """Raises: Refused where arrays take too much memory."""
        if id(value) not in self.known:
            self.known[id(value)] = self._made(value)
        return self.known[id(value)]

    def _made(self, value: Any) -> Any:
        if isinstance(value, dict):
            return {key: self.of(each) for key, each in value.items()}
        if isinstance(value, (list, tuple)):
            return [self.of(each) for each in value]
        if not isinstance(value, Made):
            return value
        array = plain_array(value)
        self.size += 0 if array is None else array.nbytes
        if self.size > LARGEST:
            raise Refused(f"its arrays take more than {LARGEST} bytes")
        return array


def _unpacked(data: bytes) -> bytes:
    """The pickle that joblib may have compressed. Raises: Refused for another compression."""
    for beginning, name in _OTHER_COMPRESSIONS.items():
        if data.startswith(beginning):
            raise Refused(f"is compressed by {name}; save it with joblib.dump(..., compress=0)")
    width = next((width for beginning, width in _WIDTHS.items() if data.startswith(beginning)), None)
    if width is None:
        return data
    unpacking = zlib.decompressobj(width)
    unpacked = unpacking.decompress(data, LARGEST)
    if unpacking.unconsumed_tail:
        raise Refused(f"takes more than {LARGEST} bytes unpacked")
    return unpacked


def _of_torch(path: Path) -> Any:
    """Content of PyTorch's archive. Raises: as ``read_pickle``, and of zipfile's."""
    with zipfile.ZipFile(path) as archive:
        pickles = [name for name in archive.namelist() if name.rpartition("/")[2] == "data.pkl"]
        if len(pickles) != 1:
            raise Refused("is an archive without data.pkl; expected a file that torch.save has written")
        size = sum(member.file_size for member in archive.infolist())
        if size > LARGEST:
            raise Refused(f"takes {size} bytes unpacked; at most {LARGEST} are read")
        folder = pickles[0].removesuffix("data.pkl")
        return read_pickle(archive.read(pickles[0]), lambda number: archive.read(f"{folder}data/{number}"))
