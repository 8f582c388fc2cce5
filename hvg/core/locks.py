"""Locks against a second process in the same place. The system gives one up when its process ends, however that ends.

POSIX record locks (``fcntl.lockf``): processes that are forked, such as those that load data, do not inherit them, and file
systems that machines share pass them on where they pass on any. Threads of one process do not keep each other out.
"""

import errno
import fcntl
import os
import re
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from hvg.core.errors import HvgError

# How a system says that somebody else has the lock; any other error says that there are none to be had.
HELD = (errno.EACCES, errno.EAGAIN)
# Seconds in which a server of NFS notices that a machine has died with its locks (version 4, 90 s unless set otherwise).
LEASE = 100.0
# Seconds between two attempts, and after which waiting is worth a line.
LOOK, WORTH_A_LINE = 0.05, 2.0
# Options with which NFS, Lustre and OCFS2 keep locks to the machine.
WITHIN_THE_MACHINE = re.compile(r"\b(nolock|local_lock=(?:all|posix)|localflocks?)\b")


def say(line: str) -> None:
    """Prints a line beside the output."""
    print(line, file=sys.stderr, flush=True)


@contextmanager
def locked(path: Path, *, wait: float = 0.0, log: Callable[[str], None] = say) -> Iterator[None]:
    """Inside, no other process is inside that asks for the same file, which is made and removed.

    wait: seconds that the other one may take, ``math.inf`` for however long. Without it one of this machine is refused at
    once; one of another machine when its server would have noticed that it had died. log: takes a line where locks cannot be
    had, or not between machines; then work goes on.
    Raises: HvgError naming the process that has the lock.
    """
    stream = _acquired(path, wait, log)
    try:
        yield
    finally:
        if stream is not None:
            if _is_at(stream, path):
                path.unlink(missing_ok=True)
            stream.close()


def _acquired(path: Path, wait: float, log: Callable[[str], None]) -> IO[str] | None:
    """The open file that holds the lock; None where there are no locks."""
    began, told = time.monotonic(), False
    while True:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            stream = path.open("a+")
        except FileNotFoundError:
            # Whoever had the lock has just removed the folder that it made for it.
            continue
        except PermissionError:
            raise HvgError(
                f"{path} is somebody else's lock and cannot be opened; if nothing of theirs works there, remove it"
            ) from None
        try:
            # A network file system wants the file open for writing.
            fcntl.lockf(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = _holder(stream)
            stream.close()
            if error.errno not in HELD:
                log(
                    f"note: {path.parent} cannot be locked ({error.strerror}); start no second process that writes there"
                )
                return None
            here = holder is None or holder[0] == socket.gethostname()
            waited, most = time.monotonic() - began, wait or (0.0 if here else LEASE)
            if waited >= most:
                raise HvgError(
                    f"{path.parent} is in use by {_named(holder)}; wait until that has ended, or stop it, or choose another "
                    "folder"
                ) from None
            if not told and waited >= min(WORTH_A_LINE, most / 2):
                told = True
                log(f"waits for {_named(holder)}, which works in {path.parent}")
            time.sleep(LOOK)
            continue
        # The one before may have removed the file between its opening and its locking.
        if _is_at(stream, path):
            stream.truncate(0)
            stream.write(f"{socket.gethostname()} {os.getpid()}\n")
            stream.flush()
            _warn_of_machines(path, log)
            return stream
        stream.close()


def worker(path: Path) -> str | None:
    """The process that works in a folder with this lock, as ``process 17 on here``; None where none does.

    It goes by what the lock's file says, and for this machine by whether that process is there: to try the lock would turn away
    a process that asks for it in the same moment. Of another machine a file that is there counts. Not for a lock that this
    process has itself: the system takes it back when any file that it has open there is closed.
    """
    try:
        with path.open() as stream:
            holder = _holder(stream)
    except OSError:
        return None
    if holder is None or (holder[0] == socket.gethostname() and not _is_there(int(holder[1]))):
        return None
    return _named(holder)


def _is_there(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        # Somebody else's.
        return True
    return True


def _holder(stream: IO[str]) -> tuple[str, str] | None:
    """Host and process that a lock's file names; None where it names none."""
    stream.seek(0)
    match = re.fullmatch(r"(\S+) (\d+)\n", stream.read(1000))
    return None if match is None else (match[1], match[2])


def _named(holder: tuple[str, str] | None) -> str:
    return "another process" if holder is None else f"process {holder[1]} on {holder[0]}"


def _is_at(stream: IO[str], path: Path) -> bool:
    """Whether ``path`` still is the file that is open as ``stream``."""
    try:
        return os.path.samestat(os.fstat(stream.fileno()), path.stat())
    except OSError:
        return False


def _warn_of_machines(path: Path, log: Callable[[str], None]) -> None:
    mounts = Path("/proc/self/mountinfo")
    option = within_the_machine(path.resolve(), mounts.read_text()) if mounts.exists() else None
    if option is not None:
        log(
            f"note: {path.parent} lies on a file system that is mounted with {option}: it is locked for this machine alone, "
            "start nothing on another one that writes there"
        )


def within_the_machine(path: Path, mounts: str) -> str | None:
    """The option that keeps locks of a path's file system to this machine; None where nothing does.

    mounts: as Linux tells them in /proc/self/mountinfo.
    """
    found, option = Path("/"), None
    for line in mounts.splitlines():
        before, _, after = line.partition(" - ")
        place = Path(before.split()[4].encode().decode("unicode_escape"))
        if path.is_relative_to(place) and place.is_relative_to(found):
            match = WITHIN_THE_MACHINE.search(after)
            found, option = place, match and match[1]
    return option
