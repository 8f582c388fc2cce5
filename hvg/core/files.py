"""Files and folders that appear under their name when they are whole, and what is said where the system refuses them."""

import errno
import os
import re
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hvg.core.errors import DataError

# Error numbers of a disk that takes no more. A program's own mistake has other numbers.
DISK_REFUSES = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO})


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A temporary path beside ``path`` to write to; it is renamed to ``path`` at the end, or removed when that fails."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = partial_path(path)
    shutil.rmtree(partial, ignore_errors=True)
    try:
        with disk_errors(path):
            yield partial
            partial.replace(path)
    finally:
        if partial.is_dir():
            shutil.rmtree(partial, ignore_errors=True)
        else:
            partial.unlink(missing_ok=True)


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """The same as ``whole_file`` for a folder that does not exist yet; it is empty and there already."""
    with whole_file(path) as partial:
        partial.mkdir()
        yield partial


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """A disk that takes no more is told with the path that was being written, whichever library was writing.

    Neither Python nor the libraries say it then. Raises: OSError with ``filename``.
    """
    try:
        yield
    except Exception as error:
        number = _disk_error(error)
        if number is None:
            raise
        raise OSError(number, os.strerror(number), str(path)) from error


def _disk_error(error: Exception) -> int | None:
    """The number of an error of the disk's: one of the system's, or one in the words of a library in Rust."""
    told = re.search(r"\(os error (\d+)\)", str(error))
    number = error.errno if isinstance(error, OSError) else int(told[1]) if told else None
    return number if number in DISK_REFUSES else None


def system_reason(error: OSError) -> str | None:
    """The system's reason, and the file if known, in one line; None for an error of the program, not of a file."""
    if error.errno is None:
        return None
    name = error.filename2 or error.filename
    if name is None:
        return error.strerror if error.errno in DISK_REFUSES else None
    name = os.fsdecode(name) if isinstance(name, (str, bytes)) else str(name)
    return " ".join(f"{name}: {in_the_way(Path(name)) or error.strerror}".split("\n"))


def in_the_way(path: Path) -> str:
    """Message that a file lies where a folder of a path belongs; "" where none does."""
    file = next((place for place in path.parents if os.path.isfile(place)), None)
    return f"{file} is a file, where a folder belongs" if file else ""


def partial_path(path: Path) -> Path:
    """Temporary name of a file while this process writes it."""
    return path.with_name(f".{path.stem}.{os.getpid()}.partial{path.suffix}")


def remove_partial(folder: Path, stem: str = "*") -> None:
    """Removes what processes that were killed left half-written in a folder, to which no other process writes now.

    stem: how the names of the files that it was to become begin.
    """
    for path in folder.rglob(f".{stem}.*.partial*"):
        path.unlink(missing_ok=True)


def regular_file(path: Path) -> Path:
    """The path of a file that can be read to its end. A FIFO or device may give its first byte never.

    Raises: FileNotFoundError where there is nothing; DataError for anything else than a regular file.
    """
    if not stat.S_ISREG(path.stat().st_mode):
        raise DataError(f"{path}: cannot be read: it is no regular file")
    return path


def read_text(path: Path) -> str:
    """The UTF-8 text of a file. Raises: FileNotFoundError where there is none; DataError where it cannot be read."""
    try:
        return regular_file(path).read_text(encoding="utf-8")
    except FileNotFoundError:
        raise
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no UTF-8 text"
        raise DataError(f"{path}: cannot be read: {reason}") from error


def write_text(path: Path, text: str) -> None:
    """Replaces a file by UTF-8 text in one step."""
    with whole_file(path) as partial:
        partial.write_text(text, encoding="utf-8")


def flush_to_disk(path: Path) -> None:
    """Waits until a file's bytes, or a folder's names, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        with disk_errors(path):
            os.fsync(descriptor)
    finally:
        os.close(descriptor)
