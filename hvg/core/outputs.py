"""Output files and folders of commands: tried before work begins, and nothing is overwritten unless asked.

A folder that a command is still writing is locked, and holds ``unfinished.json``, which says for what request. The same command
may go on in it when the first has ended; another one, or any in a folder that is finished, needs ``overwrite=true``.
"""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from hvg.core.errors import HvgError
from hvg.core.files import in_the_way, partial_path, write_text
from hvg.core.locks import locked, say

MARK = "unfinished.json"
LOCK = ".lock"


def try_folder(folder: Path, setting: str) -> None:
    """Makes sure that files can be written into a folder, which need not exist; leaves everything as it was.

    setting: what said its name. Raises: HvgError where it cannot be made, or nothing can be written there.
    """
    _try(folder, folder / "probe", setting)


def try_file(path: Path, setting: str) -> None:
    """The same as ``try_folder`` for a file."""
    _try(path, path, setting)


def expect_suffix(path: Path, suffix: str) -> None:
    """Raises: HvgError where ``out=path`` names a file of another kind."""
    if path.suffix != suffix:
        raise HvgError(f"out={path}: give the name of {'an' if suffix == '.npz' else 'a'} {suffix} file")


def _try(output: Path, file: Path, setting: str) -> None:
    """Writes and removes a file as ``whole_file`` would name it for ``file``, in folders that are made for it and removed."""
    made: list[Path] = []
    try:
        if file.is_dir():
            raise IsADirectoryError(0, "it is a folder, expected a file")
        for place in reversed([place for place in file.parents if not place.exists()]):
            place.mkdir(exist_ok=True)
            made.append(place)
        probe = partial_path(file)
        probe.write_bytes(b"0")
        probe.unlink()
    except OSError as error:
        raise HvgError(
            f"{setting}: {output} cannot be written: {in_the_way(file) or error.strerror or error}"
        ) from None
    finally:
        for place in reversed(made):
            # Another process may have begun to use it.
            with suppress(OSError):
                place.rmdir()


@contextmanager
def held_folder(folder: Path, setting: str, *, wait: float = 0.0, log: Callable[[str], None] = say) -> Iterator[None]:
    """Inside, this process alone writes into a folder, as of ``hvg.core.locks.locked``. The folder is there inside.

    setting: what said its name. Raises: HvgError as ``try_folder``, and while another process works in it.
    """
    try_folder(folder, setting)
    made = [place for place in (folder, *folder.parents) if not place.exists()]
    try:
        with locked(folder / LOCK, wait=wait, log=log):
            yield
    finally:
        for place in made:
            # Where something was written, it stays.
            with suppress(OSError):
                place.rmdir()


def refuse_existing(path: Path, overwrite: bool) -> None:
    """Raises: HvgError where ``out=path`` is a file, or a folder with something in it, and nobody said to write over it."""
    if path.is_dir():
        _refuse_full(path, None, overwrite)
    elif path.exists() and not overwrite:
        raise HvgError(f"out: {path} exists already; give another out=, or overwrite=true to replace it")


@contextmanager
def unfinished(folder: Path, request: str, overwrite: bool) -> Iterator[None]:
    """While work goes on, and after it has failed, the folder says that it holds a part of ``request``.

    request: its digest. Raises: HvgError where ``out=folder`` cannot be written, is being written by another process, or holds
    something else than the same request, unfinished.
    """
    with held_folder(folder, "out"):
        _refuse_full(folder, request, overwrite)
        write_text(folder / MARK, json.dumps({"request": request}))
        try:
            yield
        except BaseException:
            if _held(folder) == [MARK]:
                (folder / MARK).unlink()
            raise
        (folder / MARK).unlink()


def _refuse_full(folder: Path, request: str | None, overwrite: bool) -> None:
    held = _held(folder)
    # Work that has left nothing but its mark can be forgotten.
    if held in ([], [MARK]) or overwrite:
        return
    begun = _begun(folder) if MARK in held else None
    if begun is not None and begun == request:
        return
    what = "holds the unfinished output of another request" if begun else f"is not empty (it holds {held[0]})"
    raise HvgError(f"out: {folder} {what}; give another out=, or overwrite=true to write over it")


def _held(folder: Path) -> list[str]:
    """Names of all files in a folder but its lock, sorted."""
    return sorted(path.name for path in folder.iterdir() if path.name != LOCK)


def _begun(folder: Path) -> str | None:
    """Digest of the request that a folder holds a part of; None where its mark is not one of ours."""
    try:
        return str(json.loads((folder / MARK).read_text(encoding="utf-8"))["request"])
    except (ValueError, KeyError, TypeError):
        return None
