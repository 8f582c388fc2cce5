"""The page of a scene: how long it plays, and what it writes."""

import time

from hvg.config.view_options import ViewOptions
from hvg.core import outputs
from hvg.sample.camera_paths import write_cameras
from hvg.view.key_cameras import EditedPath
from hvg.view.listening import LocalServer, listen
from hvg.view.page import Page
from hvg.view.scene import Scene

# Seconds between two looks at whether something plays.
PAUSE = 0.05


def open_page(scene: Scene, options: ViewOptions, server: LocalServer | None = None) -> Page:
    """The page of a scene. server: that listens already; None: one of its own. Raises: HvgError where none can listen."""
    server = server or listen(options)
    server.waits.remove()
    return Page(server, scene, options.frame, Saver(options, scene.names))


def serve(page: Page) -> None:
    """Plays the page's scene while it is to be played, until Ctrl-C."""
    while True:
        tick(page)


def tick(page: Page) -> None:
    """The next frame, if they go on by themselves; it takes as long as a frame lasts, or a moment."""
    due = time.monotonic() + (1 / page.rate if page.is_playing else PAUSE)
    if page.is_playing:
        page.step()
    time.sleep(max(0.001, due - time.monotonic()))


class Saver:
    """Writes the cameras of a page to ``out``; a file that was there before the page is replaced with ``overwrite`` alone."""

    def __init__(self, options: ViewOptions, names: tuple[str, ...]) -> None:
        self._options, self._names, self._own = options, names, False

    def __call__(self, path: EditedPath) -> str:
        """Writes them; says where. Raises: HvgError where the file is somebody's, OSError where it cannot be written."""
        out = self._options.out
        outputs.refuse_existing(out, self._options.overwrite or self._own)
        cameras = path.cameras()
        write_cameras(out, cameras, self._names)
        self._own = True
        views, frames = cameras.shape
        return f"{out}: {views} camera(s), {frames} frame(s); hvg sample camera={out} takes them"
