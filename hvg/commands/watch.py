"""``hvg watch``: runs in a page of this machine, with curves and validation videos, that is written anew while they go on."""

import os
import time
from pathlib import Path

from hvg.commands.words import is_override, only_options
from hvg.config.watch_options import WatchOptions
from hvg.core import outputs
from hvg.core.errors import HvgError
from hvg.report.watch_page import PAGE, WatchPage, refuse_other_page
from hvg.report.watched_runs import GOING_ON, refuse_without_runs


def run(words: list[str]) -> int:
    """``hvg watch``; 0, also after Ctrl-C, by which it is meant to be ended."""
    places = [Path(word) for word in words if not is_override(word)]
    options = only_options([word for word in words if is_override(word)], WatchOptions)
    if not places:
        raise HvgError("give a run, or a folder of several such as that of a study", then="hvg watch runs/NAME")
    refuse_without_runs(places)
    path = (
        options.out or (places[0] if len(places) == 1 else Path(os.path.commonpath(map(Path.absolute, places)))) / PAGE
    )
    outputs.try_file(path, "out")
    refuse_other_page(path, options.overwrite)
    page = WatchPage(places, path, clips=options.clips, every=options.every)
    page.write(goes_on=not options.once)
    print(f"wrote {path}", flush=True)
    if not options.once:
        _keep_fresh(page, options.every)
    return 0


def _keep_fresh(page: WatchPage, every: float) -> None:
    """Writes the page until no run goes on: twice in a row, for one that has trained may be about to be scored."""
    print(f"written anew every {every:g} s, until the runs have ended or Ctrl-C is pressed", flush=True)
    quiet = 0
    try:
        while quiet < 2:
            runs = page.write(goes_on=True)
            quiet = 0 if any(run.status in GOING_ON for run in runs) else quiet + 1
            if quiet < 2:
                time.sleep(every)
        print(f"{len(runs)} {'run has' if len(runs) == 1 else 'runs have'} ended")
    except KeyboardInterrupt:
        print(f"no longer written; {page.path} stays")
    finally:
        page.write(goes_on=False)
