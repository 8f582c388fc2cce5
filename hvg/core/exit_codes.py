"""Exit codes of runs that a signal stopped, and the ending of processes that cannot end by themselves."""

import ctypes
import os
import signal
import sys
from collections.abc import Callable

TERMINATED = 128 + signal.SIGTERM
INTERRUPTED = 128 + signal.SIGINT
STOPPED = (TERMINATED, INTERRUPTED)
# Seconds that a process has for ending by itself, when a signal or the end of another process tells it to.
PATIENCE = 5.0
# From linux/prctl.h.
PR_SET_PDEATHSIG = 1


class Stopped(BaseException):
    """A signal ends the run at once, with nothing to be saved."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number


def end_process(code: int, line: str) -> None:
    """Ends this process from any of its threads, whatever the others wait for."""
    sys.stdout.flush()
    print(f"hvg: {line}", file=sys.stderr, flush=True)
    os._exit(code)


def ends_with_parent(number: int) -> Callable[[], int] | None:
    """``preexec_fn`` of a process that Linux sends a signal when the one that starts it dies; None on other systems."""
    if sys.platform != "linux":
        return None
    # Loaded here: between fork and exec as little as possible may happen.
    prctl = ctypes.CDLL(None).prctl
    return lambda: prctl(PR_SET_PDEATHSIG, number)


def end_with_parent() -> None:
    """Ends this process, which ``multiprocessing`` started, when the one that did so dies, even if that is killed."""
    if end := ends_with_parent(signal.SIGKILL):
        end()
    # Late: a command that only judges words does without.
    import multiprocessing

    parent = multiprocessing.parent_process()
    if parent is not None and not parent.is_alive():
        os._exit(128 + signal.SIGKILL)
