"""Two processes never write in one place: the second one is refused by name, or waits; the system frees what a dead one held."""

import errno
import fcntl
import os
import signal
import socket
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

from hvg.core import locks
from hvg.core.errors import HvgError
from hvg.core.locks import locked, within_the_machine
from hvg.core.outputs import MARK, held_folder, unfinished


@contextmanager
def another_process(place):
    """A process that is inside of ``place()`` until it is killed; its number."""
    ready, told = os.pipe()
    child = os.fork()
    if child == 0:
        with place():
            os.write(told, b"1")
            time.sleep(600)
    os.read(ready, 1)
    try:
        yield child
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        os.close(ready)
        os.close(told)


def test_a_second_process_is_refused_by_name_until_the_first_is_killed(tmp_path):
    folder = tmp_path / "runs" / "a"
    with (
        another_process(lambda: held_folder(folder, "name")) as child,
        pytest.raises(HvgError, match=rf"runs/a is in use by process {child} on {socket.gethostname()}; wait until"),
        held_folder(folder, "name"),
    ):
        raise AssertionError("two are inside")
    with held_folder(folder, "name"):
        assert (folder / ".lock").read_text() == f"{socket.gethostname()} {os.getpid()}\n"
    # A lock that is given up leaves nothing; a folder that was made for it goes with it.
    assert not folder.exists() or list(folder.iterdir()) == []
    with held_folder(tmp_path / "runs/b", "name"):
        pass
    assert not (tmp_path / "runs/b").exists()


def test_an_output_that_is_being_written_is_refused(tmp_path):
    with another_process(lambda: unfinished(tmp_path / "out", "a", False)) as child:
        # The same request, too; and overwriting is no way in.
        for request, overwrite in (("a", False), ("b", True)):
            with (
                pytest.raises(HvgError, match=f"in use by process {child}"),
                unfinished(tmp_path / "out", request, overwrite),
            ):
                raise AssertionError("two are inside")
        assert (tmp_path / "out" / MARK).exists()
    with unfinished(tmp_path / "out", "a", False):
        pass


def test_one_that_waits_goes_in_when_the_first_has_ended(tmp_path, monkeypatch):
    monkeypatch.setattr(locks, "WORTH_A_LINE", 0.0)
    said = []
    with another_process(lambda: locked(tmp_path / "a.lock")) as child:
        stop = lambda line: (said.append(line), os.kill(child, signal.SIGKILL))  # noqa: E731
        with locked(tmp_path / "a.lock", wait=60.0, log=stop):
            assert said == [f"waits for process {child} on {socket.gethostname()}, which works in {tmp_path}"]


def test_a_machine_that_may_have_died_is_waited_for(tmp_path, monkeypatch):
    """Its server keeps a lock for a while; then the refusal names the machine."""
    with another_process(lambda: locked(tmp_path / "a.lock")) as child:
        monkeypatch.setattr(locks, "LEASE", 0.2)
        (tmp_path / "a.lock").write_text(f"node7 {child}\n")
        said = []
        with pytest.raises(HvgError, match=f"process {child} on node7"), locked(tmp_path / "a.lock", log=said.append):
            raise AssertionError("two are inside")
        assert said == [f"waits for process {child} on node7, which works in {tmp_path}"]


def test_forked_processes_do_not_keep_a_lock(tmp_path):
    """Those that load data outlive a run that was killed by some seconds."""
    with another_process(lambda: loads_data(tmp_path)):
        pass
    with locked(tmp_path / "a.lock"):
        os.kill(int((tmp_path / "loader").read_text()), signal.SIGKILL)


@contextmanager
def loads_data(folder):
    with locked(folder / "a.lock"):
        child = os.fork()
        if child == 0:
            time.sleep(60)
            os._exit(0)
        (folder / "loader").write_text(str(child))
        yield


@pytest.mark.parametrize("code", [errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS])
def test_where_there_are_no_locks_a_line_says_so_and_work_goes_on(tmp_path, monkeypatch, code):
    def lockf(*_):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(fcntl, "lockf", lockf)
    said, inside = [], False
    with locked(tmp_path / "a.lock", log=said.append):
        inside = True
    assert inside and len(said) == 1 and f"cannot be locked ({os.strerror(code)})" in said[0]


@pytest.mark.parametrize(
    ("path", "option"),
    [
        ("/home/a/runs", "local_lock=all"),
        ("/homes", None),
        ("/shared/x", None),
        ("/scratch disk/x", "localflock"),
        ("/old", "nolock"),
    ],
)
def test_mounts_that_keep_locks_to_the_machine_are_seen(path, option):
    mounts = (
        "22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw\n"
        "40 22 0:40 / /home rw shared:9 - nfs4 server:/home rw,vers=4.2,local_lock=all,addr=10.0.0.1\n"
        "41 22 0:41 / /shared rw - nfs4 server:/shared rw,vers=4.2,local_lock=none,addr=10.0.0.1\n"
        "42 22 0:42 / /scratch\\040disk rw - lustre mgs:/scratch rw,localflock\n"
        "43 22 0:43 / /old rw - nfs server:/old rw,vers=3,nolock\n"
    )
    assert within_the_machine(Path(path), mounts) == option
