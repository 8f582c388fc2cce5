"""NumPy's files from anyone: nothing in them is unpickled, and none takes more memory than the bytes that it holds."""

import io
import math
import zipfile
import zlib
from collections.abc import Container, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import numpy as np

from hvg.core.files import whole_file

# Bytes of all arrays of an archive once unpacked. AMASS's longest motions stay below 100 MB.
LARGEST_ARCHIVE = 2**30


def read_array(stream: IO[bytes], size: int) -> np.ndarray:
    """The array of an ``.npy`` file that is ``size`` bytes long.

    ``numpy.load`` reserves what the header claims before it looks at the data; here the two have to agree first.

    Raises: ValueError for what is no such file, for pickled objects, and where header and size differ.
    """
    version = np.lib.format.read_magic(stream)
    readers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    if version not in readers:
        raise ValueError(f"format {version} of .npy is not read")
    shape, column_major, dtype = readers[version](stream)
    if dtype.hasobject:
        raise ValueError("it holds pickled Python objects")
    claimed, there = math.prod(shape) * dtype.itemsize, size - stream.tell()
    if min(shape, default=0) < 0 or claimed != there:
        raise ValueError(f"its header claims {claimed} bytes of numbers, there are {there}")
    # A copy, because an array on bytes cannot be written to.
    return np.ndarray(shape, dtype, bytearray(stream.read(claimed)), order="F" if column_major else "C")


def array_bytes(array: np.ndarray) -> bytes:
    """The ``.npy`` file of an array. ``numpy.save`` to a file on a full disk loses the system's reason."""
    stream = io.BytesIO()
    np.save(stream, array, allow_pickle=False)
    return stream.getvalue()


def write_archive(path: Path, arrays: Mapping[str, np.ndarray], *, packed: bool = False) -> None:
    """Writes an ``.npz`` without pickle, whole or not at all; the same arrays give the same bytes. packed: compressed."""
    method = zipfile.ZIP_DEFLATED if packed else zipfile.ZIP_STORED
    with whole_file(path) as partial, zipfile.ZipFile(partial, "w", method) as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as stream:
                np.lib.format.write_array(stream, array, allow_pickle=False)


def member_names(path: Path) -> list[str]:
    """Names of the files in an ``.npz`` or another zip archive. Raises: as ``read_archive``."""
    with _opened(path) as archive:
        return archive.namelist()


def read_archive(path: Path, wanted: Container[str]) -> dict[str, np.ndarray]:
    """The wanted arrays of an ``.npz`` file, by name; nothing of the others is read.

    Raises: ValueError, its message without the file's name; OSError where the file cannot be opened.
    """
    arrays: dict[str, np.ndarray] = {}
    with _opened(path) as archive:
        members = {m.filename.removesuffix(".npy"): m for m in archive.infolist() if m.filename.endswith(".npy")}
        members = {name: member for name, member in members.items() if name in wanted}
        size = sum(member.file_size for member in members.values())
        if size > LARGEST_ARCHIVE:
            raise ValueError(f"its arrays take {size} bytes unpacked; at most {LARGEST_ARCHIVE} are read")
        for name, member in members.items():
            try:
                with archive.open(member) as stream:
                    arrays[name] = read_array(stream, member.file_size)
            except ValueError as error:
                raise ValueError(f"array '{name}': {error}") from error
    return arrays


@contextmanager
def _opened(path: Path) -> Iterator[zipfile.ZipFile]:
    """The archive; what shows, while it is read, that it is damaged becomes a ValueError."""
    try:
        with zipfile.ZipFile(path) as archive:
            yield archive
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, OverflowError, TypeError) as error:
        # RuntimeError: an encrypted member, or a compression that Python does not know.
        raise ValueError(f"damaged or not an .npz archive ({error})") from error
