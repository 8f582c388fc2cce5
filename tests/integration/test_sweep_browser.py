"""The report of a sweep in a real browser: axes are brushed, lines and rows light each other, nothing is asked for."""

import pytest
from browser import Browser

from hvg.sweep_report import write_sweep_report
from hvg.sweep_space import Choices, Numbers
from hvg.sweep_store import SweepRecord, TrialRecord

pytestmark = pytest.mark.browser

RATES = (1e-4, 1e-3, 1e-2)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A report of three trials; the higher the rate, the better."""
    folder = tmp_path_factory.mktemp("sweep")
    trials = tuple(
        TrialRecord(i, (), {"rate": rate, "pose": "ab"[i % 2]}, "complete", 10.0 + i, (), f"{i:04d}-x", 1, "", 1.0)
        for i, rate in enumerate(RATES)
    )
    space = (Numbers("rate", 1e-4, 1e-2, log=True), Choices("pose", ("a", "b")))
    write_sweep_report(SweepRecord("lr", folder, (), space, "psnr", "maximize", trials, {}), folder)
    return folder


@pytest.fixture(scope="module")
def page(folder, tmp_path_factory):
    with Browser(tmp_path_factory.mktemp("profile")) as browser:
        browser.send("Emulation.setDeviceMetricsOverride", width=1300, height=2000, deviceScaleFactor=1, mobile=False)
        browser.open(folder / "report.html")
        yield browser


def pointer(page, kind, x, y):
    page.send("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", buttons=1, clickCount=1)


def out(page, what):
    """Numbers of the trials whose lines, or rows, are faint."""
    names = page.run(f"[...document.querySelectorAll('{what}.out')].map((element) => element.dataset.trial)")
    return sorted(names)


def test_it_opens_without_errors_or_requests(page, folder):
    assert page.problems == []
    assert page.addresses == [(folder / "report.html").resolve().as_uri()]


def test_dragging_along_an_axis_keeps_the_lines_that_cross_it_there(page):
    box = page.run(
        "(() => { const box = document.querySelector('.grip').getBoundingClientRect();"
        " return [box.x + box.width / 2, box.y, box.height]; })()"
    )
    x, top, height = box
    pointer(page, "mousePressed", x, top + 1)
    pointer(page, "mouseMoved", x, top + height * 0.3)
    pointer(page, "mouseMoved", x, top + height * 0.6)
    pointer(page, "mouseReleased", x, top + height * 0.6)
    assert out(page, "polyline") == out(page, "tr") == ["trial 0"]
    assert page.run("Number(document.querySelector('.chosen').getAttribute('height'))") > 50
    pointer(page, "mousePressed", x, top + height / 2)
    pointer(page, "mouseReleased", x, top + height / 2)
    assert out(page, "polyline") == out(page, "tr") == []


def test_a_line_and_its_row_light_each_other(page):
    row = page.run(
        "(() => { const box = document.querySelector('tr[data-trial=\"trial 1\"]').getBoundingClientRect();"
        " return [box.x + 5, box.y + 5]; })()"
    )
    pointer(page, "mouseMoved", *row)
    lit = "[...document.querySelectorAll('polyline.lit')].map((line) => line.dataset.trial)"
    assert page.run(lit) == ["trial 1"]
    pointer(page, "mouseMoved", 1, 1)
    assert page.run(lit) == []
