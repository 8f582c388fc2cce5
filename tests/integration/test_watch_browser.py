"""The page of `hvg watch` in a real browser: it needs nothing, plays, loads itself again, and stops doing so when told to."""

import time
from contextlib import suppress
from pathlib import Path

import pytest
from browser import Browser
from written_runs import set_failed, set_working, write_rows, write_run

from hvg.report.watch_page import PAGE, WatchPage

pytestmark = pytest.mark.browser

STEP = "document.querySelector('#runs td:nth-child(3)')?.textContent"


def wait_for(chromium: Browser, script: str) -> None:
    """Waits until an expression is true of the page when it is whole; between two of its loadings there is none."""
    limit = time.monotonic() + 60
    while time.monotonic() < limit:
        with suppress(RuntimeError):
            if chromium.run(f"document.readyState === 'complete' && ({script})"):
                return
        time.sleep(0.05)
    raise TimeoutError(script)


@pytest.fixture(scope="module")
def chromium(tmp_path_factory):
    with Browser(tmp_path_factory.mktemp("profile")) as browser:
        yield browser


@pytest.fixture
def runs(tmp_path) -> Path:
    """A run that goes on and one that failed."""
    set_working(write_run(tmp_path / "bone_map", rows=range(9, 200, 10), clips=("val-0", "val-1")))
    set_failed(write_run(tmp_path / "skeleton", rows=range(9, 100, 10), clips=("val-0",)), "HvgError: it diverged")
    return tmp_path


def page_of(folder: Path) -> WatchPage:
    return WatchPage([folder], folder / PAGE, clips=4, every=1.0)


def test_it_opens_from_disk_draws_every_curve_and_plays(chromium, runs):
    page_of(runs).write(goes_on=False)
    chromium.addresses.clear()
    chromium.problems.clear()
    chromium.open(runs / PAGE)
    chromium.wait_for(
        "[...document.querySelectorAll('video')].every((video) => !video.paused && video.currentTime > 0)"
    )
    assert chromium.run("document.querySelectorAll('video').length") == 3
    chromium.wait_for(
        "document.querySelectorAll('.chart .trace').length === 2 * document.querySelectorAll('.chart').length"
    )
    assert "it diverged" in chromium.run("document.querySelector('td.failed').textContent")
    assert chromium.problems == []
    address = (runs / PAGE).resolve().as_uri()
    assert [found for found in chromium.addresses if not found.startswith("data:")] == [address]


def test_it_loads_itself_again_until_it_is_told_not_to(chromium, runs):
    page = page_of(runs)
    page.write(goes_on=True)
    chromium.open(page.path)
    wait_for(chromium, f"{STEP} === '200 of 400'")
    write_rows(runs / "bone_map", range(209, 230, 10))
    page.write(goes_on=True)
    wait_for(chromium, f"{STEP} === '230 of 400'")
    click = "document.querySelector('#hold').click(), document.querySelector('#hold').textContent"
    wait_for(chromium, f"({click}) === 'Load again every 1 s'")
    write_rows(runs / "bone_map", range(239, 260, 10))
    page.write(goes_on=True)
    time.sleep(2.5)
    assert chromium.run(STEP) == "230 of 400"
    chromium.run("document.querySelector('#hold').click()")
    wait_for(chromium, f"{STEP} === '260 of 400'")
    # When the runs have ended, so does that.
    page.write(goes_on=False)
    wait_for(chromium, "document.querySelector('#runs') !== null && document.querySelector('#hold') === null")
