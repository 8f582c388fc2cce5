"""The further processes of a run on this machine: the first one starts them, and ends with them."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from threading import Event, Thread
from typing import Any

from lightning.fabric.utilities.distributed import _set_num_threads_if_needed
from lightning.pytorch.strategies.launchers import _SubprocessScriptLauncher

from hvg.errors import HvgError
from hvg.exit_codes import STOPPED

# Seconds between the moments when two processes notice the end of a third.
PATIENCE = 5.0


class ProcessLauncher(_SubprocessScriptLauncher):
    """Starts this command line once more for every further device of this machine, as Lightning does.

    When one of those processes fails, all end: the first one with exit code 1 and a line that says which failed. (Lightning
    kills the first process too, so that its exit code is 137 and nothing is said.) A failed process has said why itself.
    """

    def launch(self, function: Callable[..., Any], *args: Any, trainer: Any = None, **kwargs: Any) -> Any:
        """What ``function`` returns. Raises: HvgError when it failed because another process did."""
        if self.cluster_environment.creates_processes_externally:
            return super().launch(function, *args, trainer=trainer, **kwargs)
        self._noticed = Event()
        self._call_children_scripts()
        Thread(target=self._watch, daemon=True).start()
        _set_num_threads_if_needed(num_processes=self.num_processes)
        try:
            return function(*args, **kwargs)
        except Exception as error:
            self._noticed.set()
            failure = None if isinstance(error, HvgError) else self._failure(PATIENCE)
            self.kill(signal.SIGKILL)
            if failure:
                raise HvgError(failure) from error
            raise

    def _watch(self) -> None:
        """Ends this process where it waits for one that has failed, and would for ever."""
        while (failure := self._failure(1.0)) is None:
            if all(process.returncode is not None for process in self.procs):
                return
        if self._noticed.wait(PATIENCE):
            return
        self.kill(signal.SIGKILL)
        sys.stdout.flush()
        print(f"hvg: {failure}", file=sys.stderr, flush=True)
        os._exit(1)

    def _failure(self, patience: float) -> str | None:
        """What became of a process that failed, which is waited for some seconds; None while none has."""
        end = time.monotonic() + patience
        while time.monotonic() < end:
            for number, process in enumerate(self.procs, start=1):
                code = process.poll()
                if code not in (None, 0, *STOPPED):
                    how = f"ended with exit code {code}" if code > 0 else f"was ended by signal {-code}"
                    return (
                        f"process {number} of the {self.num_processes} on this machine {how}, and so the run ends; "
                        "resume=auto continues it from its newest checkpoint"
                    )
            time.sleep(0.1)
        return None
