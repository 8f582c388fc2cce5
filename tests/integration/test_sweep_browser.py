"""The report of a sweep in a real browser: axes are brushed, lines and rows light each other, nothing is asked for."""

import pytest
from browser import Browser

from hvg.sweep.records import SweepRecord, TrialRecord
from hvg.sweep.report_page import write_sweep_report
from hvg.sweep.space import Choices, Numbers

pytestmark = pytest.mark.browser

RATES = (1e-4, 1e-3, 1e-2)
# Of a line or a row: its trial.
NAME = """(element) => element.dataset.trial ?? element.closest('.chart').data[
  [...document.querySelectorAll('.parallel .overplot > .xy .trace')].indexOf(element)].name"""


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
    """The trials whose lines, or rows, are faint."""
    faint = f"[...document.querySelectorAll('{what}')].filter((element) => getComputedStyle(element).opacity < 0.5)"
    return sorted(page.run(f"{faint}.map({NAME})"))


def test_it_opens_without_errors_or_requests(page, folder):
    assert page.problems == []
    assert page.addresses == [(folder / "report.html").resolve().as_uri()]


def test_dragging_along_axes_keeps_the_lines_that_cross_them_there(page):
    x, top, width, height = page.run(
        "(() => { const box = document.querySelector('.parallel .nsewdrag').getBoundingClientRect();"
        " return [box.x, box.y, box.width, box.height]; })()"
    )

    def drag(x, start, end):
        pointer(page, "mousePressed", x, top + height * start)
        pointer(page, "mouseMoved", x, top + height * (start + end) / 2)
        pointer(page, "mouseMoved", x, top + height * end)
        pointer(page, "mouseReleased", x, top + height * end)

    # Left of the first axis, which is the nearest, and from beyond its upper end.
    drag(x - 20, -0.01, 0.6)
    assert out(page, ".trace") == out(page, "tr") == ["trial 0"]
    ends = page.run(
        "document.querySelector('.parallel').layout.shapes.map((shape) => [shape.xanchor, shape.y0, shape.y1])"
    )
    assert ends == [[0, pytest.approx(0.4, abs=0.02), pytest.approx(1.01, abs=0.02)]]
    # The third axis is that of the result, of which the lower half is kept.
    drag(x + width, 0.4, 1.01)
    assert out(page, ".trace") == out(page, "tr") == ["trial 0", "trial 2"]
    # A window of another size draws the chart anew.
    page.send("Emulation.setDeviceMetricsOverride", width=1000, height=2000, deviceScaleFactor=1, mobile=False)
    page.wait_for("document.querySelector('.parallel .main-svg').getBoundingClientRect().width < 1000")
    assert out(page, ".trace") == ["trial 0", "trial 2"]
    assert page.run("document.querySelectorAll('.parallel .shapelayer path').length") == 2
    page.send("Emulation.setDeviceMetricsOverride", width=1300, height=2000, deviceScaleFactor=1, mobile=False)
    page.wait_for("document.querySelector('.parallel .main-svg').getBoundingClientRect().width > 1000")
    for axis in (x, x + width):
        drag(axis, 0.5, 0.5)
    assert out(page, ".trace") == out(page, "tr") == []


def test_a_line_and_its_row_light_each_other(page):
    row = page.run(
        "(() => { const box = document.querySelector('tr[data-trial=\"trial 1\"]').getBoundingClientRect();"
        " return [box.x + 5, box.y + 5]; })()"
    )
    lit = f"[...document.querySelectorAll('.lit')].map({NAME})"
    pointer(page, "mouseMoved", *row)
    assert page.run(lit) == ["trial 1"]
    pointer(page, "mouseMoved", 1, 1)
    assert page.run(lit) == []
    # Between two axes, where the line has no point of its own.
    line = page.run(
        "(() => { const path = document.querySelectorAll('.parallel .overplot > .xy .js-line')[2];"
        " const at = path.getPointAtLength(path.getTotalLength() * 0.3).matrixTransform(path.getScreenCTM());"
        " return [at.x, at.y]; })()"
    )
    pointer(page, "mouseMoved", *line)
    assert page.run(lit) == ["trial 2", "trial 2"]
    said = page.run("document.querySelector('.parallel .hoverlayer').textContent")
    assert "trial 2" in said and "rate 0.01" in said and "psnr 12.00" in said
    pointer(page, "mouseMoved", 1, 1)
    assert page.run(lit) == [] and page.run("document.querySelector('.parallel .hoverlayer').textContent") == ""


def test_paper_is_narrower_than_the_window(page):
    width = "document.querySelector('.parallel .main-svg').getBoundingClientRect().width"
    before = page.run(width)
    assert before > 1000
    assert page.run(f"dispatchEvent(new Event('beforeprint')), {width}") == 680
    assert page.run(f"dispatchEvent(new Event('afterprint')), {width}") == before
