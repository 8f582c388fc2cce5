"""watch.html: what runs do, their curves and their newest validation videos, in one file that opens from disk and loads itself
again while the runs go on.
"""

import math
import os
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import ParamSpec

from hvg.core.errors import DataError, HvgError
from hvg.core.files import disk_errors
from hvg.report.charts import logged_charts
from hvg.report.figures import Chart
from hvg.report.page import embedded, write_page
from hvg.report.watched_runs import GOING_ON, RunNow, Status, WatchedRun, find_runs
from hvg.train.metric_rows import OPTIMIZER
from hvg.train.throughput import PREFIX

Words = ParamSpec("Words")
PAGE = "watch.html"
# By this a page is known to be one that may be written over.
MARK = "written by hvg watch"
# As many as there are looks of lines.
MOST_RUNS = 16
# Videos beyond this many characters are linked: a page that is loaded every few seconds has to stay small.
MAX_VIDEO_CHARACTERS = 8_000_000
WORDS: dict[Status, str] = {
    "waits": "has not begun",
    "trains": "trains",
    "scores": "is scored",
    "trained": "trained",
    "scored": "trained and scored",
    "failed": "failed",
    "stopped": "stopped",
}


class WatchPage:
    """A page on the runs in some places, which is written anew where something has changed.

    clips: as many of each run's are shown. every: seconds after which the page loads itself again.
    """

    def __init__(self, places: Sequence[Path], path: Path, *, clips: int, every: float) -> None:
        self.path, self.every = path, every
        self._places, self._clips = places, clips
        self._runs: dict[Path, WatchedRun] = {}
        self._shown: tuple[list[RunNow], bool] | None = None

    def write(self, *, goes_on: bool) -> list[RunNow]:
        """Writes the page, where there are runs; all of them. goes_on: whether it will be written again."""
        found = find_runs(self._places)
        self._runs = {folder: self._runs.get(folder) or WatchedRun(label, folder) for label, folder in found.items()}
        runs = [run.now() for run in self._runs.values()]
        if runs and self._shown != (runs, goes_on):
            with disk_errors(self.path):
                self._write(runs, goes_on)
            self._shown = runs, goes_on
        return runs

    def _write(self, runs: Sequence[RunNow], goes_on: bool) -> None:
        lately = sorted(runs, key=lambda run: (run.status in GOING_ON[1:], run.written or 0.0), reverse=True)[
            :MOST_RUNS
        ]
        shown = [run for run in runs if run in lately]
        numbers = Counter(run.status for run in runs)
        clips = sorted({clip for run in shown for clip in run.samples})
        write_page(
            self.path,
            "watch.html",
            ["tables.js", "videos.js", "charts.js", "reload.js"],
            title=self._title(runs),
            mark=MARK,
            counts=[(numbers[status], word) for status, word in WORDS.items() if numbers[status]],
            as_of=time.time(),
            every=f"{self.every:g}" if goes_on else None,
            words=WORDS,
            runs=shown,
            left_out=len(runs) - len(shown),
            clips=self._videos(shown, clips[: self._clips]),
            more_clips=len(clips[self._clips :]),
            sections=sections(shown),
        )

    def _title(self, runs: Sequence[RunNow]) -> str:
        return runs[0].label if len(runs) == 1 else ", ".join(place.resolve().name for place in self._places[:3])

    def _videos(self, runs: Sequence[RunNow], clips: Sequence[str]) -> list[tuple[str, list]]:
        """Clip -> run, step, the video as the page holds it, and where it lies, of each run that has one."""
        places = [(clip, run, *run.samples[clip]) for clip in clips for run in runs if clip in run.samples]
        sources = embedded((path for *_, path in places), MAX_VIDEO_CHARACTERS)
        rows = [
            (clip, (run, step, source, os.path.relpath(path, self.path.parent)))
            for (clip, run, step, path), source in zip(places, sources, strict=True)
        ]
        return [(clip, [row for name, row in rows if name == clip]) for clip in clips]


def sections(runs: Sequence[RunNow]) -> list[tuple[str, list[Chart]]]:
    """Headings and the charts below them, a line for each run, of everything that was logged."""
    names = dict.fromkeys(name for run in runs for name in run.curves)
    curves = [(run.label, number, run.curves) for number, run in enumerate(runs)]
    found = [
        (heading, logged_charts(curves, [name for name in names if name.startswith(prefix)]))
        for heading, prefix in (("The optimiser", OPTIMIZER), ("Speed", PREFIX))
    ]
    others = [name for name in names if not name.startswith((OPTIMIZER, PREFIX))]
    return [("Losses and scores", logged_charts(curves, others)), *found]


def refuse_other_page(path: Path, overwrite: bool) -> None:
    """Raises: HvgError where there is a file that no ``WatchPage`` wrote, and nobody said to write over it."""
    if path.exists() and not overwrite and MARK.encode() not in path.read_bytes():
        raise HvgError(f"out: {path} is no page of `hvg watch`; give another out=, or overwrite=true to replace it")


class BesideWork:
    """A context in which this process works on something else, and keeps a page fresh whenever it tells of its progress."""

    def __init__(self, page: WatchPage, log: Callable[[str], None]) -> None:
        """log: takes a line about where the page is, or why it is not kept fresh."""
        self._page, self._log = page, log
        self._due, self._written = 0.0, False

    def beside(self, report: Callable[Words, None]) -> Callable[Words, None]:
        """Reports as ``report`` does, and looks whether it is time to write the page."""

        def told(*words: Words.args, **named: Words.kwargs) -> None:
            report(*words, **named)
            if time.monotonic() >= self._due:
                self._due = time.monotonic() + self._page.every
                self._write(goes_on=True)

        return told

    def _write(self, goes_on: bool) -> None:
        """A page that cannot be written is not worth what this process works on."""
        try:
            runs = self._page.write(goes_on=goes_on)
        except (DataError, OSError) as error:
            self._due, self._written = math.inf, False
            self._log(f"note: {self._page.path} is not kept fresh: {error}")
            return
        if runs and not self._written:
            self._written = True
            self._log(f"as it runs: {self._page.path}")

    def __enter__(self) -> "BesideWork":
        return self

    def __exit__(self, *_: object) -> None:
        if self._written:
            self._write(goes_on=False)
