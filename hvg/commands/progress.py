"""Progress of long work: a live bar per task on a terminal, a line now and then elsewhere."""

import sys
import time
from types import TracebackType

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Column

SECONDS_BETWEEN_LINES = 15.0


class ProgressLines:
    """A context in which ``update`` shows how far each named task is, how fast, and how long it will take."""

    def __init__(self) -> None:
        self._live = sys.stderr.isatty()
        self._tasks: dict[str, TaskID] = {}
        self._stages: dict[str, str] = {}
        self._started: dict[tuple[str, str], float] = {}
        self._printed: dict[str, float] = {}
        self._progress = Progress(
            TextColumn("{task.description:<24}"),
            TextColumn("{task.fields[stage]:<9}"),
            BarColumn(bar_width=20),
            MofNCompleteColumn(),
            # The longest: on a narrow terminal it takes more lines rather than lose its end.
            TextColumn("{task.fields[note]}", table_column=Column(no_wrap=False)),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=Console(stderr=True),
        )

    def __enter__(self) -> "ProgressLines":
        if self._live:
            self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live:
            self._progress.stop()

    def update(self, task: str, stage: str, done: int, total: int, note: str = "") -> None:
        """``done`` of ``total`` in a stage of a task; ``note`` stands beside it."""
        if self._live:
            self._update_bar(task, stage, done, total, note)
        else:
            self._update_line(task, stage, done, total, note)

    def _update_bar(self, task: str, stage: str, done: int, total: int, note: str) -> None:
        if self._stages.get(task) != stage:
            if task in self._tasks:
                self._progress.remove_task(self._tasks[task])
            self._tasks[task] = self._progress.add_task(task, total=total, stage=stage, note=note)
            self._stages[task] = stage
        self._progress.update(self._tasks[task], completed=done, total=total, note=note)

    def _update_line(self, task: str, stage: str, done: int, total: int, note: str) -> None:
        now = time.monotonic()
        started = self._started.setdefault((task, stage), now)
        finished = done >= total and self._stages.get(task) != f"{stage} done"
        if not finished and (done >= total or now - self._printed.get(task, started) < SECONDS_BETWEEN_LINES):
            return
        self._printed[task] = now
        if finished:
            self._stages[task] = f"{stage} done"
        left = (now - started) / max(1, done) * (total - done)
        print(f"{task}: {stage} {done}/{total} {note} {left:.0f} s left", file=sys.stderr, flush=True)
