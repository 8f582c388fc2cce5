"""`hvg view` in a real browser: the page loads, draws, follows its slider, plays, and saves cameras that were moved."""

import os
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path

import numpy as np
import pytest
import torch
from browser import Browser

from hvg.config.build import load_clip
from hvg.config.composition import compose
from hvg.config.view_options import ViewOptions
from hvg.sample.camera_paths import read_cameras
from hvg.view import listening, server
from hvg.view.clips import clip_scene

# Without a graphics card Chromium draws a scene by the processor, for minutes.
pytestmark = [pytest.mark.browser, pytest.mark.long]

ROOT = Path(__file__).parents[2]
# Small, for the processor draws it. Right of the scene is the panel.
WIDTH, HEIGHT, PANEL = 760, 480, 340
# Seconds: what is waited for anything, and how long a scene is still that is drawn.
WAITS, RESTS = 240, 4


@pytest.fixture(scope="module")
def clip(tiny):
    words = ["dataset.frames=3", "dataset.views=3", "dataset.image_size=64", "dataset.motions=[wave]", "fit=severe"]
    return load_clip(compose([*tiny, *words]), "test", 0)


@pytest.fixture(scope="module")
def shown(clip, tmp_path_factory):
    """The page of a clip, whose frames go on when they are to, and a browser that has it open."""
    out = tmp_path_factory.mktemp("out") / "cameras.json"
    page = server.open_page(clip_scene(clip, "a clip", 8.0), ViewOptions(port=0, out=out))
    ended = threading.Event()

    def play() -> None:
        while not ended.is_set():
            server.tick(page)

    player = threading.Thread(target=play)
    player.start()
    try:
        with Browser(tmp_path_factory.mktemp("profile")) as browser:
            browser.send(
                "Emulation.setDeviceMetricsOverride", width=WIDTH, height=HEIGHT, deviceScaleFactor=1, mobile=False
            )
            # A page that is drawn slowly would be drawn with fewer pixels from then on.
            browser.open(f"{listening.address(page.server)}/?fixedDpr=1")
            browser.wait_for("document.body.textContent.includes('Save the cameras')")
            yield page, browser, out
    finally:
        ended.set()
        player.join()
        listening.close(page.server)


def people_in(scene: np.ndarray) -> bool:
    """Whether there are people, in red and blue."""
    red, blue = (scene[..., a] - scene[..., b] for a, b in ((0, 2), (2, 0)))
    return bool((red > 60).sum() > 50 and (blue > 60).sum() > 50)


def floor_in(scene: np.ndarray) -> bool:
    """Whether what is around people is nearly white; before anything is drawn the page is black."""
    return bool((scene.min(axis=-1) > 200).mean() > 0.5)


def scene_of(browser: Browser) -> np.ndarray:
    """What is drawn of the scene, (H, W, 3), when it has stayed as it is for longer than a frame takes on a busy processor."""
    limit = time.monotonic() + WAITS
    before, since = browser.screenshot(), time.monotonic()
    while time.monotonic() < limit:
        time.sleep(0.5)
        now = browser.screenshot()
        if not np.array_equal(now[:, : WIDTH - PANEL], before[:, : WIDTH - PANEL]):
            before, since = now, time.monotonic()
        elif time.monotonic() - since > RESTS:
            return now[100:, : WIDTH - PANEL].astype(int)
    raise TimeoutError("the scene does not come to rest")


def drawn(browser: Browser, differs_from: np.ndarray | None = None) -> np.ndarray:
    """The same, when people are drawn, or something is other than before."""
    limit = time.monotonic() + WAITS
    while time.monotonic() < limit:
        now = scene_of(browser)
        other = people_in(now) if differs_from is None else np.abs(now - differs_from).max() > 40
        if floor_in(now) and other:
            return now
    raise TimeoutError("nothing else was drawn")


def click(browser: Browser, text: str) -> None:
    """Clicks the button, or the box beside the label, with this text."""
    found = f"[...document.querySelectorAll('button, label')].find((e) => e.textContent.trim() === {text!r})"
    browser.wait_for(f"{found} !== undefined")
    browser.run(f"{found}.click()")


def wait_until(condition) -> None:
    limit = time.monotonic() + WAITS
    while not condition():
        assert time.monotonic() < limit
        time.sleep(0.05)


def test_the_page_draws_a_frame_and_asks_nobody_else(shown):
    page, browser, _ = shown
    drawn(browser)
    asked = {address.split("/")[2] for address in browser.addresses if address.startswith("http")}
    assert asked == {listening.address(page.server).removeprefix("http://")}
    assert not [problem for problem in browser.problems if "rror" in problem]
    text = browser.run("document.body.textContent")
    assert "a clip" in text and "true body" in text and "fitted body" in text


def test_the_slider_changes_what_is_drawn(shown):
    page, browser, _ = shown
    first = drawn(browser)
    assert page.frame == 0
    browser.run("document.querySelector('[role=slider]').focus()")
    # Arrows would turn the scene, too, as far as a frame takes to draw.
    for type in ("keyDown", "keyUp"):
        browser.send("Input.dispatchKeyEvent", type=type, key="End", code="End", windowsVirtualKeyCode=35)
    wait_until(lambda: page.frame == 2)
    second = drawn(browser, differs_from=first)
    page.show(0)
    drawn(browser, differs_from=second)
    wait_until(lambda: np.abs(scene_of(browser) - first).mean() < 0.5)


def test_it_plays_and_stops(shown):
    page, browser, _ = shown
    click(browser, "Play")
    seen = set()
    wait_until(lambda: seen.add(page.frame) or len(seen) == 3)
    click(browser, "Pause")
    wait_until(lambda: not page.is_playing)
    time.sleep(0.3)
    frame = page.frame
    time.sleep(0.5)
    assert page.frame == frame
    page.show(0)


@pytest.mark.parametrize("box", ["body", "ellipsoids", "pictures", "fitted body"])
def test_a_box_shows_and_hides_its_layer(shown, box):
    page, browser, _ = shown
    before = drawn(browser)
    chosen = page.drawing.figures if box == "fitted body" else page.drawing.layers
    now = set(chosen)
    click(browser, box)
    wait_until(lambda: chosen != now)
    other = drawn(browser, differs_from=before)
    click(browser, box)
    wait_until(lambda: chosen == now)
    drawn(browser, differs_from=other)
    wait_until(lambda: np.abs(scene_of(browser) - before).mean() < 0.5)


def test_a_camera_is_put_where_one_looks_from_and_saved(shown, clip):
    page, browser, out = shown
    before = drawn(browser)
    click(browser, "Move it by hand")
    browser.wait_for("document.body.textContent.includes('Put it where I look from')")
    drawn(browser, differs_from=before)
    click(browser, "Put it where I look from")
    wait_until(lambda: 0 in page.path.edited)
    click(browser, "Save the cameras")
    browser.wait_for("document.body.textContent.includes('hvg sample camera=')")
    saved, given = read_cameras(out).cameras, clip.cameras[0]
    (client,) = page.server.get_clients().values()
    center = torch.as_tensor(client.camera.position).float()
    assert torch.allclose(saved[0].centers, center.expand_as(saved[0].centers), atol=1e-4)
    assert torch.equal(saved[1:].expand(2, 3).world_to_camera, given.world_to_camera[1:])
    click(browser, "As it came")
    wait_until(lambda: not page.path.edited)
    click(browser, "Move it by hand")
    wait_until(lambda: np.abs(scene_of(browser) - before)[:, 40:-40].mean() < 1)


def test_the_command_says_its_address_and_ends_with_ctrl_c(tiny, tmp_path):
    words = [sys.executable, "-m", "hvg.cli", "view", *tiny, "port=0"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    pipe = subprocess.PIPE
    with subprocess.Popen(words, cwd=tmp_path, env=environment, stdout=pipe, stderr=pipe, text=True) as process:
        lines = [next(process.stdout)]
        while "Ctrl-C ends it" not in lines[-1]:
            lines.append(next(process.stdout))
        address = lines[-1].split(": ")[-1].split(" ")[0]
        assert address.startswith("http://127.0.0.1:")
        with urllib.request.urlopen(address, timeout=30) as answer:
            assert answer.status == 200 and b"<html" in answer.read()
        process.send_signal(signal.SIGINT)
        rest, errors = process.communicate(timeout=60)
    assert (process.returncode, rest, errors) == (0, "ended\n", "")
    assert list(tmp_path.iterdir()) == []
