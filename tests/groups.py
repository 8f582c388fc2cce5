"""`hvg` commands in process groups of their own, as a terminal makes one, to be interrupted and killed."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).parents[1]
SOME_TIME = 300.0


class CommandGroup:
    """A command at work. In a context, nothing of it outlives the block."""

    def __init__(self, *words: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "hvg.cli", *words],
            cwd=ROOT,
            env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def __enter__(self):
        return self

    def __exit__(self, *error) -> None:
        if self.running():
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.communicate()

    def running(self) -> list[int]:
        """All of its processes that still run."""
        found = []
        for path in Path("/proc").glob("[0-9]*/stat"):
            try:
                fields = path.read_text().rpartition(")")[2].split()
            except (FileNotFoundError, ProcessLookupError):
                continue
            if int(fields[2]) == self.process.pid and fields[0] != "Z":
                found.append(int(path.parent.name))
        return found

    def wait_for(self, what: Callable[[], object], pause: float = 0.05) -> None:
        """Until something is so; fails where the first process ends before. pause: seconds between two looks."""
        until = time.monotonic() + SOME_TIME
        while not what():
            assert self.process.poll() is None, self.process.communicate()[0]
            assert time.monotonic() < until
            time.sleep(pause)

    def ended(self, within: float = SOME_TIME) -> str:
        """What it printed, when all of its processes have ended; fails where some outlive the first by more than ``within``."""
        printed = self.process.communicate(timeout=SOME_TIME)[0]
        until = time.monotonic() + within
        while found := self.running():
            assert time.monotonic() < until, f"{found} still run"
            time.sleep(0.05)
        return printed
