"""The further processes of a run on this machine: the first one starts them, and they end with it, as it does with them."""

import os
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from threading import Event, Thread
from typing import Any

from lightning.fabric.strategies.launchers.subprocess_script import _basic_subprocess_cmd
from lightning.fabric.utilities.distributed import _set_num_threads_if_needed
from lightning.pytorch.strategies.launchers import _SubprocessScriptLauncher

from hvg.core.errors import HvgError
from hvg.core.exit_codes import PATIENCE, STOPPED, Stopped, end_process, ends_with_parent


@dataclass(frozen=True)
class _End:
    """The end of a process that ends the run: with which exit code, and what is said of it."""

    code: int
    line: str


class ProcessLauncher(_SubprocessScriptLauncher):
    """Starts this command line once more for every further device of this machine, as Lightning does.

    When one of those processes fails, all end: the first one with exit code 1 and a line that says which failed. (Lightning
    kills the first process too, so that its exit code is 137 and nothing is said.) A failed process has said why itself. When
    a signal stopped one that the others wait for, as while they start, all end with the exit code of that signal. When the
    first one dies, Linux kills the others: there is nobody left to save what they compute.
    """

    def launch(self, function: Callable[..., Any], *args: Any, trainer: Any = None, **kwargs: Any) -> Any:
        """Result of ``function``.

        Raises: HvgError when it failed because another process did, Stopped if one was stopped.
        """
        if self.cluster_environment.creates_processes_externally:
            return super().launch(function, *args, trainer=trainer, **kwargs)
        self._noticed, self._left = Event(), Event()
        self._call_children_scripts()
        Thread(target=self._watch, daemon=True).start()
        _set_num_threads_if_needed(num_processes=self.num_processes)
        try:
            return function(*args, **kwargs)
        except Exception as error:
            self._noticed.set()
            end = None if isinstance(error, HvgError) else self._end(PATIENCE)
            self.kill(signal.SIGKILL)
            if end is None:
                raise
            if end.code in STOPPED:
                raise Stopped(end.code - 128) from error
            raise HvgError(end.line) from error
        finally:
            self._left.set()

    def _call_children_scripts(self) -> None:
        self._check_can_spawn_children()
        # Lightning reads them in this process, too.
        os.environ |= {
            "MASTER_ADDR": self.cluster_environment.main_address,
            "MASTER_PORT": str(self.cluster_environment.main_port),
            "NODE_RANK": str(self.cluster_environment.node_rank()),
            "LOCAL_RANK": str(self.cluster_environment.local_rank()),
            "WORLD_SIZE": str(self.num_processes * self.num_nodes),
        }
        self.procs = [
            subprocess.Popen(
                _basic_subprocess_cmd(),
                env=os.environ | {"LOCAL_RANK": str(number)},
                preexec_fn=ends_with_parent(signal.SIGKILL),
            )
            for number in range(1, self.num_processes)
        ]

    def _watch(self) -> None:
        """Ends this process where it waits for one that has ended, and would for ever."""
        while (end := self._end(1.0)) is None:
            if all(process.returncode is not None for process in self.procs):
                return
        # One that was stopped after the last step is in order.
        if (self._left if end.code in STOPPED else self._noticed).wait(PATIENCE):
            return
        self.kill(signal.SIGKILL)
        end_process(end.code, end.line)

    def _end(self, patience: float) -> _End | None:
        """End of a process that failed or was stopped, awaited for ``patience`` seconds; None where none did."""
        until = time.monotonic() + patience
        while time.monotonic() < until:
            for number, process in enumerate(self.procs, start=1):
                if code := process.poll():
                    return self._told(number, code)
            time.sleep(0.1)
        return None

    def _told(self, number: int, code: int) -> _End:
        who = f"process {number} of the {self.num_processes} on this machine"
        so = "and so the run ends; resume=auto continues it from its newest checkpoint"
        shown = code if code > 0 else 128 - code
        if shown in STOPPED:
            return _End(shown, f"{who} was stopped by {signal.Signals(shown - 128).name}, {so}")
        how = f"ended with exit code {code}" if code > 0 else f"was ended by signal {-code}"
        return _End(1, f"{who} {how}, {so}")
