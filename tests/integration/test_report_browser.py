"""The report in a real browser: opened from disk it needs nothing, sorts, plays in step, follows the theme, and exports."""

import csv
import io
import time

import pytest
from browser import Browser
from example_study import add_videos, study_results

from hvg.report.study_report import write_report
from hvg.report.tables import write_results

pytestmark = pytest.mark.browser

FPS = 8
# For every element: what its own text looks like on the nearest background below it.
CONTRASTS = """(() => {
  const parse = (colour) => colour.match(/[\\d.]+/g).map(Number);
  const light = (colour) => parse(colour).slice(0, 3).map((value) => value / 255)
    .map((v) => (v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4))
    .reduce((sum, value, i) => sum + value * [0.2126, 0.7152, 0.0722][i], 0);
  const background = (element) => {
    for (; element; element = element.parentElement) {
      const colour = getComputedStyle(element).backgroundColor;
      if ((parse(colour)[3] ?? 1) > 0) return colour;
    }
    return "rgb(255, 255, 255)";
  };
  const ownText = (element) => [...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
  return [...document.querySelectorAll("main *")].filter(ownText)
    .filter((element) => element.getClientRects().length && element.tagName !== "title").map((element) => {
    const style = getComputedStyle(element), drawn = element instanceof SVGElement;
    const [a, b] = [light(drawn ? style.fill : style.color), light(background(element))].sort((x, y) => y - x);
    return [(a + 0.05) / (b + 0.05), element.tagName + " " + element.textContent.slice(0, 30)];
  });
})()"""
VIDEOS = "[...document.querySelectorAll('video')]"
TIMES = f"{VIDEOS}.map((video) => video.currentTime)"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A study's folder with a report; its three videos are of unequal length."""
    folder = tmp_path_factory.mktemp("study")
    results = study_results()
    add_videos(results, folder, 3, frames=24, fps=FPS)
    write_results(results, folder)
    write_report(results, folder)
    return folder


@pytest.fixture(scope="module")
def chromium(tmp_path_factory):
    with Browser(tmp_path_factory.mktemp("profile")) as browser:
        yield browser


@pytest.fixture
def page(chromium, folder):
    """The report, just opened."""
    chromium.addresses.clear()
    chromium.problems.clear()
    chromium.open(folder / "report.html")
    return chromium


def differences(page) -> list[float]:
    """How far each video is from where the first says it should be: there, or at its own end; in frames."""
    first, *others = page.run(f"{VIDEOS}.map((video) => [video.currentTime, video.duration])")
    return [abs(min(first[0], length) - now) * FPS for now, length in others]


def wait_until_playing(page):
    page.wait_for(f"{VIDEOS}.every((video) => !video.paused && video.currentTime > 0)")


def test_it_opens_from_disk_without_errors_or_requests(page, folder):
    wait_until_playing(page)
    assert page.problems == []
    address = (folder / "report.html").resolve().as_uri()
    assert [found for found in page.addresses if not found.startswith("data:")] == [address]


def test_a_request_and_an_error_would_be_seen(page, tmp_path):
    page.run("console.error('wrong'); fetch('http://example.invalid/').catch(() => 0)")
    assert any("wrong" in problem for problem in page.problems)
    # The page's policy forbids it.
    assert any("example.invalid" in problem and "default-src" in problem for problem in page.problems)
    # Where none does, it is seen.
    (tmp_path / "free.html").write_text("<script>fetch('http://example.invalid/').catch(() => 0)</script>")
    page.open(tmp_path / "free.html")
    page.wait_for("document.readyState === 'complete'")
    assert "http://example.invalid/" in page.addresses


def test_nothing_runs_that_got_into_the_page(page):
    page.run(
        "for (const [name, value] of [['script', 'window.ran = 1'], ['img', '']]) {"
        " const element = document.createElement(name); element.textContent = value;"
        " if (name === 'img') { element.setAttribute('onerror', 'window.ran = 1'); element.src = 'data:,'; }"
        " document.body.append(element); }"
    )
    page.wait_for("document.querySelector('img').complete")
    time.sleep(0.2)
    assert page.run("window.ran === undefined")
    assert sum("script-src" in problem for problem in page.problems) == 2


def test_a_click_on_a_head_sorts_each_part_of_a_table(page):
    def order(table: str, body: str) -> list[str]:
        return page.run(f"[...document.querySelectorAll('#{table} .{body} td:first-child')].map((c) => c.dataset.sort)")

    def click(table: str, column: str) -> None:
        heads = f"[...document.querySelectorAll('#{table} th button')]"
        page.run(f"{heads}.find((button) => button.textContent.startsWith('{column}')).click()")

    arms = ["the none <arm>", "the skeleton <arm>", "the bone <arm>", "the nerf <arm>"]
    assert order("results", "arms") == arms
    click("results", "PSNR")
    assert order("results", "arms") == [arms[2], arms[1], arms[0], arms[3]]
    click("results", "PSNR")
    assert order("results", "arms") == arms
    click("hvg_1", "FVD")
    assert order("hvg_1", "published")[0] == "MagicAnimate"
    click("hvg_1", "FVD")
    assert order("hvg_1", "published")[:2] == ["HVG", "LHM"]
    assert order("hvg_1", "arms") == arms


def test_videos_play_in_step(page):
    wait_until_playing(page)
    seen = []
    for _ in range(20):
        seen.append(page.run(f"{VIDEOS}[0].currentTime"))
        assert max(differences(page)) < 1
        time.sleep(0.2)
    # It ran to its end, of 3 s, and started over.
    assert max(seen) > 2.5 and seen != sorted(seen)


def test_a_video_that_fell_behind_catches_up(page):
    wait_until_playing(page)
    other = f"{VIDEOS}[1].currentTime"
    # In one script: the page mends it within milliseconds.
    before, after = page.run(f"[{other}, {other} = ({other} + 1.5) % 3]")
    assert abs(after - before) * FPS > 8
    time.sleep(0.7)
    assert max(differences(page)) < 1


def test_pause_speed_and_time_act_on_all_videos(page):
    wait_until_playing(page)
    page.run("document.querySelector('#pause').click()")
    assert page.run(f"{VIDEOS}.every((video) => video.paused)")
    stopped = page.run(TIMES)
    page.wait_for(f"{VIDEOS}.every((video) => !video.seeking)")
    time.sleep(0.3)
    assert page.run(TIMES) == pytest.approx(stopped, abs=1 / FPS) and max(differences(page)) < 0.01
    page.run("const time = document.querySelector('#time'); time.value = 0.5; time.dispatchEvent(new Event('input'))")
    page.wait_for(f"{VIDEOS}.every((video) => !video.seeking)")
    assert page.run(TIMES)[:2] == pytest.approx([1.5, 1.5]) and page.run(f"{VIDEOS}[0].paused")
    page.run(
        "const speed = document.querySelector('#speed'); speed.value = '0.25'; speed.dispatchEvent(new Event('change'))"
    )
    started = time.monotonic()
    page.run(f"{VIDEOS}[2].click()")
    wait_until_playing(page)
    assert page.run(f"{VIDEOS}.map((video) => video.playbackRate)") == pytest.approx([0.25] * 3, rel=0.11)
    time.sleep(1)
    moved = page.run(f"{VIDEOS}[0].currentTime") - 1.5
    assert 0.1 < moved < 0.25 * (time.monotonic() - started) * 1.1
    assert max(differences(page)) < 1


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_page_follows_the_theme_and_is_legible(page, theme):
    page.send("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": theme}])
    page.run("for (const part of document.querySelectorAll('details, .ranking')) part.open = !(part.hidden = false)")
    dark = page.run("getComputedStyle(document.body).backgroundColor") == "rgb(20, 23, 26)"
    assert dark == (theme == "dark")
    contrasts = page.run(CONTRASTS)
    assert len(contrasts) > 200
    assert {what: round(ratio, 2) for ratio, what in contrasts if ratio < 4.5} == {}


def test_the_page_does_not_overflow_a_narrow_window(page):
    page.send("Emulation.setDeviceMetricsOverride", width=420, height=800, deviceScaleFactor=1, mobile=False)
    assert page.run("document.documentElement.scrollWidth") <= 420
    page.send("Emulation.clearDeviceMetricsOverride")


def test_a_narrow_window_reads_the_differences_and_is_told_what_scrolls(page):
    page.send("Emulation.setDeviceMetricsOverride", width=400, height=800, deviceScaleFactor=1, mobile=False)
    letters = "[...document.querySelectorAll('.forest:not([hidden]) svg text')].map((t) => t.getBoundingClientRect())"
    sizes = page.run(f"{letters}.map((box) => [box.height, box.left, box.right])")
    assert len(sizes) > 10 and all(height > 11 and left >= 0 and right <= 400 for height, left, right in sizes)
    table = "document.querySelector('#results').parentElement"
    page.wait_for(f"{table}.dataset.more === 'right'")
    said = f"getComputedStyle({table}, '::before').content"
    assert "scroll sideways" in page.run(said)
    page.run(f"{table}.scrollLeft = 60")
    page.wait_for(f"{table}.dataset.more === 'left right'")
    # The arm's name stays in sight.
    assert page.run(f"{table}.querySelector('td').getBoundingClientRect().left") >= 0
    page.send("Emulation.setDeviceMetricsOverride", width=2000, height=800, deviceScaleFactor=1, mobile=False)
    page.wait_for(f"{table}.dataset.more === ''")
    assert page.run(said) == "none"
    page.send("Emulation.clearDeviceMetricsOverride")


def test_charts_are_drawn_in_the_width_that_they_have(page):
    """And their texts are those of the arms, whatever signs these hold."""
    widths = (
        "[...document.querySelectorAll('.chart')].map((c) => [c.clientWidth, c.querySelector('svg')?.clientWidth ?? 0])"
    )
    page.wait_for(f"{widths}.every(([box, drawn]) => box === drawn)")
    seen = page.run(widths)
    # All but those of the metric that is not chosen.
    assert sum(width > 400 for width, _ in seen) == len(seen) - 2
    assert "the bone <arm>" in page.run("document.querySelector('.forest svg:not(:empty)').parentElement.textContent")
    page.send("Emulation.setDeviceMetricsOverride", width=400, height=800, deviceScaleFactor=1, mobile=False)
    page.wait_for(f"{widths}.every(([box, drawn]) => box === drawn && box < 400)")
    page.send("Emulation.clearDeviceMetricsOverride")


def test_a_pointer_on_a_dot_reads_it_and_finds_its_clip_under_every_arm(page):
    page.wait_for("document.querySelector('.charts > div > .chart .points path') !== null")
    x, y = page.run(
        "(() => { const dot = document.querySelector('.charts > div > .chart .points path');"
        " dot.scrollIntoView({ block: 'center' }); const box = dot.getBoundingClientRect();"
        " return [box.x + box.width / 2, box.y + box.height / 2]; })()"
    )
    page.send("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)
    page.wait_for("document.querySelector('.hoverlayer .hovertext') !== null")
    said = page.run("document.querySelector('.hovertext').textContent")
    assert "clip0 (subject person-clip0)" in said and "the none <arm>: 10" in said
    assert page.run("[...document.querySelectorAll('.lit .points')].map((dots) => dots.children.length)") == [4]
    page.send("Input.dispatchMouseEvent", type="mouseMoved", x=1, y=1)
    page.wait_for("document.querySelector('.lit') === null")


def test_a_metric_is_chosen_for_the_differences(page):
    visible = (
        "[...document.querySelectorAll('.forest')].filter((t) => t.checkVisibility()).map((t) => t.dataset.metric)"
    )
    assert page.run(visible) == ["psnr"]
    page.run("const by = document.querySelector('#forest'); by.value = 'l1'; by.dispatchEvent(new Event('change'))")
    assert page.run(visible) == ["l1"]
    page.wait_for("[...document.querySelectorAll('.forest:not([hidden]) .chart')].every((c) => c.querySelector('svg'))")


def test_tables_can_be_saved_and_copied(page, folder, tmp_path):
    page.send("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(tmp_path))
    for name in ("results.tex", "results.csv", "hvg_1.tex", "hvg_1.csv"):
        page.run(f"document.querySelector('a[download=\"{name}\"]').click()")
        limit = time.monotonic() + 20
        while not (tmp_path / name).exists() and time.monotonic() < limit:
            time.sleep(0.05)
    for name in ("results.tex", "results.csv"):
        assert (tmp_path / name).read_text() == (folder / name).read_text()
    rows = list(csv.DictReader(io.StringIO((tmp_path / "hvg_1.csv").read_text())))
    assert float(rows[-1]["FVD"]) == 152.1 and rows[-1]["kind"] == "published"
    page.send("Browser.grantPermissions", permissions=["clipboardReadWrite", "clipboardSanitizedWrite"])
    page.run("document.querySelector('button.copy').click()")
    page.wait_for("document.querySelector('button.copy').textContent === 'Copied'")
    assert page.run("navigator.clipboard.readText()") == (folder / "results.tex").read_text()


def test_a_metric_is_chosen_for_the_worst_and_best(page):
    visible = (
        "[...document.querySelectorAll('.ranking')].filter((t) => t.checkVisibility()).map((t) => t.dataset.metric)"
    )
    assert page.run(visible) == ["psnr"]
    page.run("const by = document.querySelector('#ranking'); by.value = 'l1'; by.dispatchEvent(new Event('change'))")
    assert page.run(visible) == ["l1"]
    assert page.run("document.querySelector('.ranking a').getAttribute('href')") == "#video-0"
    assert page.run("document.querySelector('#video-0 video') !== null")
